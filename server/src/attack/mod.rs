//! What a taken-over server would try, for tests: the attacks are carried out in the sandbox, with the
//! image open, by the server of a volume whose label is `attack:NAME`. In no program that is shipped.
//!
//! The same attacks run outside of the sandbox by `fuse4fs-server attack`, where they succeed: one
//! that is misspelt would fail everywhere.
#![allow(
    missing_docs,
    clippy::missing_docs_in_private_items,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    reason = "test code"
)]

mod calls;
mod control;
mod device;
mod exhaust;
mod files;
mod rights;
mod rings;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::mpsc::channel;

use io_uring::IoUring;
use io_uring::squeue::Entry128;

use crate::fuse::{Rings, misuse_ring, serve_hostile};
use crate::mounting::Mount;
use crate::sandbox::Confined;
use crate::session::{Conversation, Handed};

pub use crate::fuse::{Action, LIES, Lie, MUTES};
pub(crate) use control::run_unconfined;

/// What an attack can reach.
pub(crate) struct Reach {
    /// The device.
    pub(crate) device: RawFd,
    /// The same with O_DIRECT, if there is one.
    pub(crate) direct: Option<RawFd>,
    /// The connection.
    pub(crate) fuse: RawFd,
    /// The socket to the helper.
    pub(crate) socket: RawFd,
    /// The log, a file.
    pub(crate) log: RawFd,
    /// What tells that memory is short, -1 where nothing does.
    pub(crate) pressure: RawFd,
    /// The bytes of the device that are the file system's own.
    pub(crate) end: i64,
    pub(crate) ring: Option<IoUring<Entry128>>,
}

/// One attempt.
pub struct Attempt {
    /// What it is a kind of.
    pub group: &'static str,
    pub name: &'static str,
    /// Errnos that are right in the sandbox; 0 for success.
    pub inside: &'static [i32],
    /// The errno outside, 0 for success: then what it reached has said so.
    pub outside: i32,
    pub(crate) run: fn(&mut Reach) -> i64,
}

/// What a system call filter says.
pub(crate) const FILTER: &[i32] = &[libc::EPERM];
/// The working directory, as an argument.
const HERE: i64 = libc::AT_FDCWD as i64;

/// An attempt that the filter is to refuse.
const fn row(
    group: &'static str,
    name: &'static str,
    outside: i32,
    run: fn(&mut Reach) -> i64,
) -> Attempt {
    Attempt { group, name, inside: FILTER, outside, run }
}

impl Attempt {
    /// The errno, 0 if it succeeded.
    pub(crate) fn errno(&self, reach: &mut Reach) -> i64 {
        -(self.run)(reach).min(0)
    }
}

/// System calls and operations of rings: all of them fail.
#[must_use]
pub fn attempts() -> Vec<Attempt> {
    [files::attempts(), calls::attempts(), rights::attempts(), rings::attempts()]
        .into_iter()
        .flatten()
        .collect()
}

/// What may be done to a device, and what must not.
#[must_use]
pub fn writes() -> Vec<Attempt> {
    device::attempts()
}

/// How one takes more than one's share.
#[must_use]
pub fn takers() -> Vec<&'static str> {
    exhaust::TAKERS.iter().map(|(name, _)| *name).collect()
}

impl Reach {
    /// What the server has.
    pub(crate) fn of(handed: &Handed, conversation: &Conversation) -> Self {
        Self {
            device: handed.device.as_raw_fd(),
            direct: handed.direct.as_ref().map(AsRawFd::as_raw_fd),
            fuse: handed.fuse.as_raw_fd(),
            socket: conversation.number(),
            log: libc::STDERR_FILENO,
            pressure: handed.pressure.as_ref().map_or(-1, AsRawFd::as_raw_fd),
            end: 0,
            ring: None,
        }
    }

    fn measure(&mut self) {
        self.end = crate::sys::attack::call(
            libc::SYS_lseek,
            [self.device.into(), 0, i64::from(libc::SEEK_END), 0, 0, 0],
        );
    }
}

/// What comes after `attack:` in the label of the volume.
fn wanted(device: &OwnedFd) -> Option<String> {
    // s_volume_name
    let mut label = [0; 16];
    rustix::io::pread(device, &mut label, 1024 + 0x78).ok()?;
    let label = label.split(|byte| *byte == 0).next()?;
    Some(std::str::from_utf8(label).ok()?.strip_prefix("attack:")?.to_owned())
}

/// If the volume is one to be attacked by: attacks, and then serves a mount in a hostile way until the
/// kernel hangs up. What comes of an attempt is a line on stderr. Any other mount is given back.
pub(crate) fn take_over(confined: &Confined, mount: Mount) -> io::Result<Option<Mount>> {
    let Some(attack) = wanted(&mount.handed.device) else { return Ok(Some(mount)) };
    let mut reach = Reach::of(&mount.handed, &mount.conversation);
    reach.ring = mount.rings.and_then(Rings::steal);
    reach.measure();
    match attack.split_once(':').unwrap_or((&attack, "")) {
        ("calls", _) => report(&attempts(), &mut reach),
        ("device", _) => report(&writes(), &mut reach),
        ("take", number) => exhaust::take(number.parse().unwrap_or(0)),
        #[cfg(target_arch = "x86_64")]
        ("kill", _) => println_error(&format!("old entry: {}", crate::sys::attack::old_entry())),
        _ => {}
    }
    let _ = mount.conversation.serving(false);
    let (fuse, timeout) = (mount.handed.fuse, mount.request.request_timeout);
    let ((begun, is_begun), (ended, end)) = (channel(), channel());
    let how = attack.clone();
    confined.serve_channels(move || {
        let _ = ended.send(serve_hostile(fuse, &how, timeout, begun));
    });
    // By this thread, as that one may not use rings.
    if attack == "commands"
        && let Some(ring) = reach.ring
        && is_begun.recv().is_ok()
    {
        misuse_ring(ring);
    }
    end.recv().map_err(io::Error::other)??;
    Ok(None)
}

fn report(attempts: &[Attempt], reach: &mut Reach) {
    for attempt in attempts {
        println_error(&format!("{}: {}", attempt.name, attempt.errno(reach)));
    }
    println_error("done");
}

/// A line of the log, whatever level it has.
pub(crate) fn println_error(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "attack {line}");
}
