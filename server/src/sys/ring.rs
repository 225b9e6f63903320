//! An io_uring that can do two things, to files it was made with: commands of FUSE, and reads.
//!
//! No system call filter sees what a ring does. So it is made disabled, restricted and then enabled,
//! all in [`Ring::new`], before the sandbox: operations other than [`OPERATIONS`], descriptors that
//! are not registered, and further registrations are refused by the kernel from then on. The one
//! registration that stays possible drops all files, so that a device can be closed.
//! Kernel: io_uring/register.c `io_register_restrictions`, fs/fuse/dev_uring.c

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use io_uring::register::Restriction;
use io_uring::squeue::{Entry128, Flags};
use io_uring::{IoUring, opcode, types};
use zerocopy::{Immutable, IntoBytes};

use super::arena::Entry;

/// Everything that a ring may be asked to do.
const OPERATIONS: [u8; 2] = [opcode::UringCmd80::CODE, opcode::Read::CODE];
/// IORING_UNREGISTER_FILES
pub(crate) const UNREGISTER_FILES: libc::c_uint = 3;

/// FUSE_IO_URING_CMD_REGISTER
const REGISTER: u32 = 1;
/// FUSE_IO_URING_CMD_COMMIT_AND_FETCH
const COMMIT_AND_FETCH: u32 = 2;

/// Kernel threads of a ring for reads that would block when they are submitted.
const BLOCKING_WORKERS: u32 = 1;
/// The completion of a read of the wake-up descriptor; no entry has this number.
const WAKE: u64 = u64::MAX;

/// A file that a ring was made with, by its place in the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct File(pub(crate) u32);

/// A stretch of a file, and where in an entry's payload it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    /// The file.
    pub(crate) file: File,
    /// Byte offset in the file.
    pub(crate) offset: u64,
    /// Byte offset in the payload.
    pub(crate) at: usize,
    /// Bytes; less than 2 GiB.
    pub(crate) len: usize,
}

/// What has happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A request has arrived in the entry.
    Request(Entry),
    /// All parts are in the entry's payload, or one could not be read.
    Read(Entry, io::Result<()>),
    /// Somebody has written to the wake-up descriptor.
    Woken,
    /// The connection has taken the entry back, which happens at its end.
    Gone(i32),
}

/// What the kernel has.
#[derive(Default)]
enum Slot {
    #[default]
    Ours,
    Command(Entry),
    Reads {
        entry: Entry,
        parts: Vec<Part>,
        left: usize,
        result: io::Result<()>,
    },
}

/// A ring and the entries that the kernel has of it. One thread at a time uses it.
pub(crate) struct Ring {
    ring: IoUring<Entry128>,
    slots: Vec<Slot>,
    events: VecDeque<Event>,
    /// Where the counter of the wake-up descriptor is read to.
    woken: Box<u64>,
}

impl Ring {
    /// A ring for `entries` entries that can reach `files` and nothing else.
    ///
    /// # Errors
    /// ENOSYS or EPERM where the host has no io_uring for this process.
    pub(crate) fn new(entries: usize, files: &[BorrowedFd<'_>]) -> io::Result<Self> {
        let depth = u32::try_from(entries.saturating_add(1)).map_err(io::Error::other)?;
        let completions = depth.saturating_mul(2).max(64);
        let ring = IoUring::builder()
            .setup_r_disabled()
            .setup_clamp()
            .setup_cqsize(completions)
            .setup_coop_taskrun()
            .build(depth.clamp(8, 256))?;
        let files: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let submitter = ring.submitter();
        submitter.register_files(&files)?;
        submitter.register_iowq_max_workers(&mut [BLOCKING_WORKERS, BLOCKING_WORKERS])?;
        submitter.register_restrictions(&mut restrictions())?;
        submitter.register_enable_rings()?;
        let slots = std::iter::repeat_with(Slot::default).take(entries).collect();
        Ok(Self { ring, slots, events: VecDeque::new(), woken: Box::default() })
    }

    /// Submits what no method would, for tests that attack; the result of its completion.
    #[cfg(test)]
    pub(crate) fn attack(&mut self, entry: impl Into<Entry128>) -> i32 {
        let entry = entry.into().user_data(name(0, 0));
        // SAFETY: the pointers of all attacks are null or to memory that outlives them.
        unsafe { self.ring.submission().push(&entry) }.unwrap();
        self.ring.submit_and_wait(1).unwrap();
        self.ring.completion().next().unwrap().result()
    }

    /// What it is made of, for attacks.
    #[cfg(feature = "attack")]
    pub(crate) fn steal(self) -> IoUring<Entry128> {
        self.ring
    }

    /// The descriptor, to be kept open in the sandbox.
    pub(crate) fn number(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Hands an entry to the FUSE connection of `file` for requests of `queue`.
    ///
    /// # Errors
    /// When the kernel does not take submissions.
    pub(crate) fn register(&mut self, entry: Entry, file: File, queue: u16) -> io::Result<()> {
        let vectors = entry.vectors();
        let command = command(file, REGISTER, &entry, (0, queue), Some(&vectors));
        self.hand_over(entry, command)?;
        // The kernel reads the two vectors when it takes the submission, so they may go after it.
        self.submit()
    }

    /// Hands the answer in an entry back, and the entry for the next request of `queue`. `id` is
    /// what the request's header calls its commit id.
    ///
    /// # Errors
    /// When the kernel does not take submissions.
    pub(crate) fn commit(
        &mut self,
        entry: Entry,
        file: File,
        (id, queue): (u64, u16),
    ) -> io::Result<()> {
        let command = command(file, COMMIT_AND_FETCH, &entry, (id, queue), None);
        self.hand_over(entry, command)
    }

    fn hand_over(&mut self, entry: Entry, command: Entry128) -> io::Result<()> {
        let index = entry.index();
        let slot = self.slots.get_mut(index).ok_or(io::ErrorKind::InvalidInput)?;
        *slot = Slot::Command(entry);
        self.push(&command)
    }

    /// Has `parts` read into an entry's payload, all at the same time.
    ///
    /// # Errors
    /// When a part is outside of the payload or there is none.
    pub(crate) fn read(&mut self, entry: Entry, parts: Vec<Part>) -> io::Result<()> {
        let index = entry.index();
        let slot = self.slots.get_mut(index).ok_or(io::ErrorKind::InvalidInput)?;
        let reads: Option<Vec<_>> =
            (0..).zip(&parts).map(|(number, part)| read(&entry, *part, number)).collect();
        let reads = reads.filter(|reads| !reads.is_empty()).ok_or(io::ErrorKind::InvalidInput)?;
        *slot = Slot::Reads { entry, left: parts.len(), parts, result: Ok(()) };
        reads.iter().try_for_each(|read| self.push(read))
    }

    /// Has the wake-up descriptor listened to, once.
    ///
    /// # Errors
    /// When the kernel does not take submissions.
    pub(crate) fn listen(&mut self, file: File) -> io::Result<()> {
        let counter: *mut u64 = &raw mut *self.woken;
        let len = u32::try_from(size_of::<u64>()).map_err(io::Error::other)?;
        let read = opcode::Read::new(types::Fixed(file.0), counter.cast(), len);
        self.push(&Entry128::from(read.build().user_data(WAKE)))
    }

    fn push(&mut self, entry: &Entry128) -> io::Result<()> {
        // SAFETY: every entry is made in this module. Its buffers are the memory of an [`Entry`],
        // which is never unmapped and now is in `slots`, the iovecs of `register`, which outlive the
        // submission, or `woken`, which lives as long as the ring.
        if unsafe { self.ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        self.submit()?;
        // SAFETY: as above.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| io::ErrorKind::StorageFull.into())
    }

    /// Has everything submitted.
    ///
    /// # Errors
    /// When the kernel does not take submissions.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        loop {
            match self.ring.submit() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // EBUSY: completions have to be taken first.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => self.collect()?,
                other => return other.map(drop),
            }
        }
    }

    /// Submits what is to be submitted and waits until something has happened.
    ///
    /// # Errors
    /// When the ring is of no use any more.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        if !self.events.is_empty() {
            return self.submit();
        }
        match self.ring.submit_and_wait(1) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
            other => other.map(drop),
        }
    }

    /// What has happened since; never waits.
    ///
    /// # Errors
    /// When a read that came back short cannot be continued.
    pub(crate) fn next(&mut self) -> io::Result<Option<Event>> {
        if self.events.is_empty() {
            self.collect()?;
        }
        Ok(self.events.pop_front())
    }

    fn collect(&mut self) -> io::Result<()> {
        loop {
            let Some(completion) = self.ring.completion().next() else { return Ok(()) };
            self.completed(completion.user_data(), completion.result())?;
        }
    }

    fn completed(&mut self, name: u64, result: i32) -> io::Result<()> {
        if name == WAKE {
            self.events.push_back(Event::Woken);
            return Ok(());
        }
        let (index, number) = parse(name);
        let Some(slot) = self.slots.get_mut(index) else { return Ok(()) };
        match std::mem::take(slot) {
            Slot::Ours => {}
            Slot::Command(entry) if result == 0 => self.events.push_back(Event::Request(entry)),
            Slot::Command(_) => self.events.push_back(Event::Gone(result.saturating_neg())),
            Slot::Reads { entry, mut parts, left, result: before } => {
                let rest = parts.get_mut(number).and_then(|part| advance(part, result));
                if let Some(more) = rest.and_then(|part| read(&entry, part, number)) {
                    *slot = Slot::Reads { entry, parts, left, result: before };
                    return self.push(&more);
                }
                let result = before.and(done(parts.get(number), result));
                let left = left.saturating_sub(1);
                match left {
                    0 => self.events.push_back(Event::Read(entry, result)),
                    left => *slot = Slot::Reads { entry, parts, left, result },
                }
            }
        }
        Ok(())
    }
}

/// Lets go of all files of a ring, whoever uses it. Nothing works on it any more, but for what is
/// under way.
///
/// # Errors
/// ENXIO when it was done before.
pub(crate) fn drop_files(ring: RawFd) -> io::Result<()> {
    // SAFETY: the call takes no pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring,
            UNREGISTER_FILES,
            std::ptr::null::<u8>(),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn restrictions() -> Vec<Restriction> {
    let fixed = Flags::FIXED_FILE.bits();
    let operations = OPERATIONS.iter().map(|operation| Restriction::sqe_op(*operation));
    let unregister = u8::try_from(UNREGISTER_FILES).map(Restriction::register_op).ok();
    let flags = [Restriction::sqe_flags_allowed(fixed), Restriction::sqe_flags_required(fixed)];
    operations.chain(unregister).chain(flags).collect()
}

/// `struct fuse_uring_cmd_req`, and the rest of the area for commands in a submission.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Command {
    flags: u64,
    commit_id: u64,
    queue: u16,
    padding: [u8; 62],
}

fn command(
    file: File,
    what: u32,
    entry: &Entry,
    (id, queue): (u64, u16),
    vectors: Option<&[libc::iovec; 2]>,
) -> Entry128 {
    let area = Command { flags: 0, commit_id: id, queue, padding: [0; 62] };
    let area: [u8; 80] = zerocopy::transmute!(area);
    let command = opcode::UringCmd80::new(types::Fixed(file.0), what).cmd(area);
    let vectors = vectors.map(|vectors| vectors.as_ptr().expose_provenance());
    let address = vectors.and_then(|address| u64::try_from(address).ok());
    let mut command = command.addr(address).build().user_data(name(entry.index(), 0));
    if address.is_some() {
        set_len(&mut command, 2);
    }
    command
}

/// Sets `sqe->len`, which the crate has no way to do for commands.
fn set_len(command: &mut Entry128, len: u32) {
    const AT: usize = 24;
    const _: () = assert!(size_of::<Entry128>() == 128);
    // SAFETY: an `Entry128` is a `struct io_uring_sqe` of 128 bytes and repr(C); `len` has its place
    // at byte 24 of it, which is aligned for 32 bits.
    unsafe { std::ptr::from_mut(command).cast::<u8>().add(AT).cast::<u32>().write(len) };
}

fn read(entry: &Entry, part: Part, number: usize) -> Option<Entry128> {
    let room = entry.room(part.at, part.len)?;
    let len = u32::try_from(part.len).ok().filter(|len| *len > 0)?;
    let read = opcode::Read::new(types::Fixed(part.file.0), room.as_ptr(), len).offset(part.offset);
    Some(Entry128::from(read.build().user_data(name(entry.index(), number))))
}

/// What is left of a part of which the kernel has read some: `None` if that is nothing or it failed.
fn advance(part: &mut Part, result: i32) -> Option<Part> {
    let got = usize::try_from(result).ok().filter(|got| *got > 0)?;
    part.len = part.len.saturating_sub(got);
    part.at = part.at.saturating_add(got);
    part.offset = part.offset.saturating_add(u64::try_from(got).ok()?);
    (part.len > 0).then_some(*part)
}

/// A part that is not read any further.
fn done(part: Option<&Part>, result: i32) -> io::Result<()> {
    match result {
        ..0 => Err(io::Error::from_raw_os_error(result.saturating_neg())),
        _ if part.is_some_and(|part| part.len == 0) => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Which entry, and which part of what is read into it.
fn name(entry: usize, part: usize) -> u64 {
    let half = |number: usize| u64::from(u32::try_from(number).unwrap_or(u32::MAX));
    half(entry) << 32 | half(part)
}

fn parse(name: u64) -> (usize, usize) {
    let half = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    (half(name >> 32), half(name & u64::from(u32::MAX)))
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
