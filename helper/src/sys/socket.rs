//! One SEQPACKET socket to the server: descriptors go out, none come in.
#![allow(unsafe_code, reason = "SCM_PIDFD and two socket options are not in rustix")]

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};
use sendfd::SendWithFd;

/// asm-generic/socket.h, Linux 6.5.
const SO_PASSPIDFD: i32 = 76;
/// asm-generic/socket.h, Linux 6.16.
const SO_PASSRIGHTS: i32 = 83;
/// linux/socket.h, Linux 6.5.
const SCM_PIDFD: i32 = 4;
/// Room for SCM_CREDENTIALS and SCM_PIDFD; and, where SO_PASSRIGHTS is unknown, for two
/// descriptors at most, which are closed again.
const CONTROL_WORDS: usize = 7;

/// Our end. Never blocks: waiting is done with a deadline before.
#[derive(Debug)]
pub(crate) struct Socket(UnixDatagram);

/// Who sent a packet, as the kernel saw it.
#[derive(Debug)]
pub(crate) struct Sender {
    /// In our pid namespace; 0 if it has no number there.
    pub(crate) pid: i32,
    /// From Linux 6.5 on.
    pub(crate) pidfd: Option<OwnedFd>,
}

/// What one read gave.
#[derive(Debug)]
pub(crate) enum Packet {
    Message(Vec<u8>),
    /// The other side has closed.
    Closed,
    /// More than the limit.
    TooLong,
    /// File descriptors came along; they are closed.
    Descriptors,
}

impl Socket {
    /// # Errors
    /// ENOENT, ECONNREFUSED: nobody listens. EAGAIN: too many wait to be accepted.
    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        let ours = Self::guarded(socket);
        rustix::net::connect(&ours.0, &SocketAddrUnix::new(path)?)?;
        Ok(ours)
    }

    /// Our end and the one for a server that we start.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        Ok((Self::guarded(ours), theirs))
    }

    /// Descriptors are not let in; where the kernel cannot say so, [`Self::receive`] has no room for them.
    fn guarded(socket: OwnedFd) -> Self {
        let _ = set_option(socket.as_fd(), SO_PASSRIGHTS, false);
        Self(UnixDatagram::from(socket))
    }

    /// # Errors
    /// EPIPE: the other side is gone. EAGAIN: it does not read.
    pub(crate) fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let sent = if fds.is_empty() {
            self.0.send(bytes)?
        } else {
            let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            self.0.send_with_fd(bytes, &fds)?
        };
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// From now on the kernel tells who sends.
    pub(crate) fn ask_for_sender(&self, yes: bool) {
        let _ = set_option(self.0.as_fd(), libc::SO_PASSCRED, yes);
        let _ = set_option(self.0.as_fd(), SO_PASSPIDFD, yes);
    }

    /// The next packet, of `limit` bytes at most.
    pub(crate) fn receive(&self, limit: usize) -> io::Result<Packet> {
        let mut bytes = vec![0; limit];
        let received = receive(self.0.as_fd(), &mut bytes, &mut [])?;
        Ok(received.packet(bytes))
    }

    /// The next packet, and who sent it.
    pub(crate) fn receive_with_sender(&self, limit: usize) -> io::Result<(Packet, Sender)> {
        let mut bytes = vec![0; limit];
        let mut control = [0_u64; CONTROL_WORDS];
        let mut received = receive(self.0.as_fd(), &mut bytes, &mut control)?;
        let sender = Sender { pid: received.pid, pidfd: received.pidfd.take() };
        Ok((received.packet(bytes), sender))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Two ends of a stream that a program which is started next inherits.
pub(crate) fn inheritable_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())?;
    Ok((ours, theirs))
}

/// The one descriptor that comes with one byte.
pub(crate) fn receive_one_descriptor(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let parts = &mut [io::IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    fds.flatten().next().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

struct Received {
    len: usize,
    too_long: bool,
    descriptors: bool,
    pid: i32,
    pidfd: Option<OwnedFd>,
}

impl Received {
    fn packet(self, mut bytes: Vec<u8>) -> Packet {
        if self.descriptors {
            return Packet::Descriptors;
        }
        if self.too_long {
            return Packet::TooLong;
        }
        if self.len == 0 {
            return Packet::Closed;
        }
        bytes.truncate(self.len);
        Packet::Message(bytes)
    }
}

fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8], control: &mut [u64]) -> io::Result<Received> {
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a valid msghdr: no name, no parts, no control buffer.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = mem::size_of_val(control);
    // SAFETY: the header points to buffers that live and are ours until the call is over.
    let len = unsafe {
        libc::recvmsg(
            socket.as_raw_fd(),
            &raw mut header,
            libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT,
        )
    };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    let mut received = Received {
        len,
        too_long: header.msg_flags & libc::MSG_TRUNC != 0,
        // There is room for everything but descriptors.
        descriptors: header.msg_flags & libc::MSG_CTRUNC != 0,
        pid: 0,
        pidfd: None,
    };
    read_control(&header, &mut received);
    Ok(received)
}

fn read_control(header: &libc::msghdr, received: &mut Received) {
    // SAFETY: the kernel filled `header`; the CMSG macros stay inside its control buffer, and each
    // payload is read unaligned and only as long as its header says.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(cmsg) = next.as_ref() {
            let payload = cmsg.cmsg_len.saturating_sub(mem::size_of::<libc::cmsghdr>());
            let data = libc::CMSG_DATA(cmsg);
            match (cmsg.cmsg_level, cmsg.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
                    if payload >= mem::size_of::<libc::ucred>() =>
                {
                    received.pid = data.cast::<libc::ucred>().read_unaligned().pid;
                }
                (libc::SOL_SOCKET, SCM_PIDFD) if payload >= mem::size_of::<RawFd>() => {
                    let fd = data.cast::<RawFd>().read_unaligned();
                    received.pidfd = (fd >= 0).then(|| OwnedFd::from_raw_fd(fd));
                }
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    received.descriptors = true;
                    for index in 0..payload.div_euclid(mem::size_of::<RawFd>()) {
                        drop(OwnedFd::from_raw_fd(
                            data.cast::<RawFd>().add(index).read_unaligned(),
                        ));
                    }
                }
                _ => {}
            }
            next = libc::CMSG_NXTHDR(header, next);
        }
    }
}

fn set_option(socket: BorrowedFd<'_>, option: i32, on: bool) -> io::Result<()> {
    let value = i32::from(on);
    let len = libc::socklen_t::try_from(mem::size_of::<i32>()).map_err(io::Error::other)?;
    // SAFETY: the value lives during the call and has the given length.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            len,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
