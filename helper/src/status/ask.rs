//! Asks servers, each by a process that may hang.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use fuse4fs_protocol::{STATUS_BYTES, Status};
use rustix::io::Errno;

use super::{PATIENCE, Told};
use crate::mounts::Mount;
use crate::report::{Explain, Failure, plain};
use crate::sys::child::Asker;
use crate::sys::open::place;
use crate::sys::{ioctl, vfs};

/// Servers that are asked at once.
const AT_ONCE: usize = 64;

/// The file system that `path` is on, which must be one of `mounts`.
pub(super) fn one(path: &Path, mounts: Vec<Mount>) -> Result<Told, Failure> {
    let at = path.to_owned();
    let id = ask(move || id_of(&at)).or_system_failure("cannot ask")?.wait(deadline(), 8);
    let id: io::Result<[u8; 8]> = id.and_then(|id| id.try_into().map_err(|_| garbled()));
    let (mount, silent) = match id {
        Ok(id) => (mounts.iter().find(|mount| mount.id == u64::from_ne_bytes(id)), None),
        // A server on the way to it is silent, or answers its user alone.
        Err(error) if is_late(&error) || is_denied(&error) => {
            (by_name(path, &mounts), Some(why(&error)))
        }
        Err(error) => {
            return Err(error).or_mount_failure(&format!("cannot look at {}", path.display()));
        }
    };
    let Some(mount) = mount.cloned() else {
        return Err(Failure::usage(format!("{} is on no fuse4fs mount", path.display())));
    };
    // This mount is asked, though there may be others of the same file system.
    let (mut same, _) = partition(mounts, &mount.device);
    same.sort_by_key(|other| other.id != mount.id);
    match silent {
        Some(why) => Ok(Told { mounts: same, status: Err(why) }),
        None => Ok(question(&mount)?.told(same, deadline())),
    }
}

/// The mount that `path` is on, going by its name alone.
fn by_name<'a>(path: &Path, mounts: &'a [Mount]) -> Option<&'a Mount> {
    let path = std::path::absolute(path).ok()?;
    let around = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    around.max_by_key(|mount| mount.point.components().count())
}

/// All file systems of `mounts` that root or the caller has mounted, each once. Those of others answer
/// them alone, or are there to keep whoever asks waiting, again and again.
pub(super) fn all(mut mounts: Vec<Mount>) -> Result<Vec<Told>, Failure> {
    let caller = rustix::process::getuid().as_raw();
    mounts.retain(|mount| mount.user == 0 || mount.user == caller);
    let mut same = Vec::new();
    while let Some(device) = mounts.first().map(|mount| mount.device.clone()) {
        let (these, others) = partition(mounts, &device);
        same.push(these);
        mounts = others;
    }
    let mut told = Vec::new();
    for some in same.chunks(AT_ONCE) {
        let asked = some.iter().filter_map(|these| these.last());
        let questions = asked.map(question).collect::<Result<Vec<_>, _>>()?;
        let deadline = deadline();
        let answers = questions.into_iter().zip(some);
        told.extend(answers.map(|(question, these)| question.told(these.clone(), deadline)));
    }
    Ok(told)
}

fn partition(mounts: Vec<Mount>, device: &str) -> (Vec<Mount>, Vec<Mount>) {
    mounts.into_iter().partition(|mount| mount.device == device)
}

fn deadline() -> Instant {
    let now = Instant::now();
    now.checked_add(PATIENCE).unwrap_or(now)
}

/// A question on its way.
struct Question(Asker);

/// What answers begin with: an errno, 0 with what was asked for, or [`HIDDEN`].
const HEAD: usize = 4;
const HIDDEN: i32 = -1;

/// Asks `question` in a process of its own.
fn ask(question: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<Question> {
    let answer = || match question() {
        Ok(answer) => [&0_i32.to_ne_bytes()[..], &answer].concat(),
        Err(error) => error.raw_os_error().unwrap_or(HIDDEN).to_ne_bytes().to_vec(),
    };
    Asker::start(answer).map(Question)
}

fn question(mount: &Mount) -> Result<Question, Failure> {
    let (point, id) = (mount.point.clone(), mount.id);
    ask(move || status_at(&point, id)).or_system_failure("cannot ask")
}

impl Question {
    /// The answer, which has no more than `most` bytes.
    ///
    /// # Errors
    /// What the question ended with; TimedOut.
    fn wait(self, deadline: Instant, most: usize) -> io::Result<Vec<u8>> {
        let answer = self.0.answer(deadline, HEAD.saturating_add(most))?;
        let answer = answer.ok_or(io::ErrorKind::TimedOut)?;
        let (head, rest) = answer.split_first_chunk().ok_or_else(garbled)?;
        match i32::from_ne_bytes(*head) {
            0 => Ok(rest.to_vec()),
            HIDDEN => Err(io::ErrorKind::NotFound.into()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn told(self, mounts: Vec<Mount>, deadline: Instant) -> Told {
        let status =
            self.wait(deadline, STATUS_BYTES).map_err(|error| why(&error)).and_then(|bytes| {
                match Status::from_bytes(&bytes) {
                    Ok(status) => Ok(Box::new(status)),
                    Err(error) => Err(format!("its server answers nonsense: {error}")),
                }
            });
        Told { mounts, status }
    }
}

fn garbled() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// The id of the mount that `path` is on.
fn id_of(path: &Path) -> io::Result<Vec<u8>> {
    let (_, _, id) = vfs::device_and_mount_id(place(path)?.as_fd())?;
    Ok(id.to_ne_bytes().to_vec())
}

/// What the server of the mount with that id says, which is at `point` unless another one hides it.
fn status_at(point: &Path, id: u64) -> io::Result<Vec<u8>> {
    let root = place(point)?;
    let (_, _, found) = vfs::device_and_mount_id(root.as_fd())?;
    if found != id {
        return Err(io::ErrorKind::NotFound.into());
    }
    ioctl::status(root.as_fd())
}

/// Whether nobody answered before the deadline.
fn is_late(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none()
}

fn is_denied(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ACCESS | Errno::PERM))
}

/// Why there is no status, for a person.
fn why(error: &io::Error) -> String {
    if is_late(error) {
        return format!(
            "its server does not answer within {} s: it hangs, or waits for its disk; see its log",
            PATIENCE.as_secs()
        );
    }
    match Errno::from_io_error(error) {
        Some(Errno::NOTTY | Errno::NOSYS) => {
            "its server does not tell: it is older, or another program".to_owned()
        }
        _ if is_denied(error) => {
            "permission denied: its root may not be read by you, or it is its user's alone"
                .to_owned()
        }
        Some(Errno::NOTCONN | Errno::CONNABORTED) => "its server has ended; unmount it".to_owned(),
        None if error.kind() == io::ErrorKind::NotFound => {
            "hidden by another mount at the same place".to_owned()
        }
        _ => format!("cannot ask its server: {}", plain(error)),
    }
}
