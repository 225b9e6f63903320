//! The conversation of helper and server, with one side hostile.
//!
//! An input is: which side is hostile (1 byte); if it is the server, what it was asked for (1 byte); then messages, each as what descriptors come with it
//! (1 byte: how many; and one for each), length (2) and so many bytes.

use std::fs::OpenOptions;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use fuse4fs_protocol::{
    FdRole, Hello, MAX_FDS, Phase, RefusalKind, Report, Text, ToHelper, ToServer, Verdict, encode,
};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags,
    SocketType, sendmsg, shutdown, socketpair,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::input::Input;
use super::messages::{check_request, mount_request, welcome};

/// Messages of one input, at most.
const MAX_MESSAGES: usize = 8;
/// Who is hostile.
const HELPER: u8 = 0;
const SERVER: u8 = 1;
/// A hostile server was asked to look at a device, not to mount it.
const CHECK: u8 = 2;

/// Descriptors of a process that serve for all inputs.
struct Props {
    /// Open for reading, for writing, for both.
    modes: [OwnedFd; 3],
    /// A process that has ended.
    ended: OwnedFd,
    /// Where nothing can ever be read.
    quiet: (OwnedFd, OwnedFd),
}

impl Props {
    fn new() -> Result<Self> {
        let open = |read, write| OpenOptions::new().read(read).write(write).open("/dev/null");
        let modes = [open(true, false)?, open(false, true)?, open(true, true)?].map(OwnedFd::from);
        let mut child = Command::new("true").stdin(Stdio::null()).spawn()?;
        let pid = Pid::from_child(&child);
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        child.wait()?;
        let quiet = rustix::pipe::pipe()?;
        Ok(Self { modes, ended, quiet })
    }

    fn get() -> &'static Self {
        static PROPS: OnceLock<Props> = OnceLock::new();
        PROPS.get_or_init(|| Self::new().unwrap_or_else(super::no_stage))
    }
}

/// The number that the next descriptor gets.
fn lowest(any: &OwnedFd) -> Result<i32> {
    Ok(any.try_clone()?.as_raw_fd())
}

/// What a stranger says to a server, or to a helper: it is taken or refused, and no descriptor stays
/// behind. Nobody else in this process may open any meanwhile.
pub fn session(bytes: &[u8]) {
    let props = Props::get();
    let free = lowest(&props.modes[0]).unwrap_or_else(super::no_stage);
    let mut input = Input::new(bytes);
    let result = match input.byte() % 2 {
        HELPER => to_server(props, &mut input),
        _ => to_helper(props, &mut input),
    };
    result.unwrap_or_else(super::no_stage);
    assert_eq!(lowest(&props.modes[0]).ok(), Some(free), "a descriptor was left open");
}

fn to_server(props: &Props, input: &mut Input<'_>) -> Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let sent = say(props, &ours, input);
    let Some((roles, kept)) = fuse4fs_server::hear_helper(theirs) else { return Ok(()) };
    assert!(sent.contains(&roles.len()), "{roles:?} with {sent:?} descriptors");
    assert_eq!(kept, roles.len(), "{roles:?}");
    Ok(())
}

fn to_helper(props: &Props, input: &mut Input<'_>) -> Result<()> {
    let kind = input.byte();
    let processes = (props.ended.try_clone()?, props.quiet.0.try_clone()?);
    let says = |socket: &OwnedFd| drop(say(props, socket, input));
    if kind & CHECK != 0 {
        let request = check_request(vec![FdRole::Device])?;
        if let Ok(printed) = fuse4fs_helper::hear_report(says, processes, request) {
            let obeyed = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
            assert!(!printed.iter().any(|text| text.contains(obeyed)), "{printed:?}");
        }
        return Ok(());
    }
    let mut request = mount_request(vec![FdRole::Device, FdRole::Fuse])?;
    request.read_only = kind & 1 != 0;
    let read_only = request.read_only;
    if let Ok(tightened) = fuse4fs_helper::hear_server(says, processes, request) {
        assert!(!(tightened && read_only), "a read-only mount cannot be tightened");
    }
    Ok(())
}

/// Sends the messages of `input` and says no more; how many descriptors went with each.
fn say(props: &Props, socket: &OwnedFd, input: &mut Input<'_>) -> Vec<usize> {
    let mut sent = Vec::new();
    for _ in 0..MAX_MESSAGES {
        if input.is_empty() {
            break;
        }
        let count = usize::from(input.byte()) % (MAX_FDS + 2);
        let modes: Vec<_> =
            (0..count).map(|_| props.modes[usize::from(input.byte()) % 3].as_fd()).collect();
        let len = input.half();
        if send(socket, input.take(len.into()), &modes).is_ok() {
            sent.push(count);
        }
    }
    let _ = shutdown(socket, Shutdown::Write);
    sent
}

fn send(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)
}

/// Whole conversations.
pub(super) fn seeds() -> Result<Vec<Vec<u8>>> {
    let roles = vec![FdRole::Device, FdRole::Fuse, FdRole::FuseClone, FdRole::MemoryPressure];
    let hello = message(&[], &encode(&ToServer::Hello(Hello::ours()))?)?;
    let mount = encode(&ToServer::Mount(mount_request(roles)?))?;
    let check = encode(&ToServer::Check(check_request(vec![FdRole::Device, FdRole::Journal])?))?;
    let why = Text::lossy("a \u{202e} name");
    let report = Report { filesystem: None, verdict: Verdict::Unmountable { why } };
    let report = encode(&ToHelper::Report(Box::new(report)))?;
    let welcome = ToHelper::Welcome(welcome(fuse4fs_protocol::VERSION_MAX));
    let welcome = message(&[], &encode(&welcome)?)?;
    let progress = ToHelper::Progress { phase: Phase::Replay, done: 1, total: 2 };
    let progress = message(&[], &encode(&progress)?)?;
    let serving = message(&[], &encode(&ToHelper::Serving { read_only: true })?)?;
    let text = Text::lossy("damaged");
    let refused = encode(&ToHelper::Refused { kind: RefusalKind::Corrupt, text })?;
    Ok(vec![
        [&[HELPER], &hello[..], &message(&[0, 2, 2, 0], &mount)?[..]].concat(),
        [&[HELPER], &hello[..], &message(&[0, 2], &mount)?[..]].concat(),
        [&[HELPER], &hello[..], &message(&[0, 0], &check)?[..]].concat(),
        [&[SERVER, 0], &welcome[..], &progress, &serving].concat(),
        [&[SERVER, 1], &welcome[..], &progress, &message(&[], &refused)?[..]].concat(),
        [&[SERVER, 1], &message(&[0], &[])?[..], &welcome].concat(),
        [&[SERVER, CHECK], &welcome[..], &progress, &message(&[], &report)?[..]].concat(),
    ])
}

fn message(modes: &[u8], bytes: &[u8]) -> Result<Vec<u8>> {
    let count = u8::try_from(modes.len())?;
    let len = u16::try_from(bytes.len()).context("a message is too long")?;
    Ok([&[count], modes, &len.to_le_bytes(), bytes].concat())
}
