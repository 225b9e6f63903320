//! Engine errors → errno, and the one log line of a corruption.

use std::time::{Duration, Instant};

use fuse4fs_ext4::{Error, ErrorPolicy, Refusal};
use fuser::Errno;
use parking_lot::Mutex;
use tracing::error;

/// Lines in a row before a flood is cut, as the kernel's default rate limit.
const BURST: u32 = 10;
/// The time after which counting starts anew.
const INTERVAL: Duration = Duration::from_secs(5);

/// Why a verb has no answer.
#[derive(Debug)]
pub(super) enum Fail {
    /// The engine says so.
    Engine(Error),
    /// The front end says so.
    Errno(Errno),
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<Refusal> for Fail {
    fn from(refusal: Refusal) -> Self {
        Self::Engine(refusal.into())
    }
}

impl From<Errno> for Fail {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// Chooses errno and tells the log, in the kernel's words.
#[derive(Debug)]
pub(super) struct Reporter {
    device: String,
    flood: Mutex<Flood>,
}

impl Reporter {
    /// A reporter for the device of that name.
    pub(super) fn new(device: &str) -> Self {
        Self { device: device.to_owned(), flood: Mutex::default() }
    }

    /// The errno of a failed `verb`. Damage and I/O errors are logged, expected answers are not.
    pub(super) fn errno(&self, verb: &str, fail: &Fail) -> Errno {
        let error = match fail {
            Fail::Errno(errno) => return *errno,
            Fail::Engine(error) => error,
        };
        match error {
            Error::Refused(refusal) => refused(*refusal),
            Error::Corrupt { kind, .. } => {
                self.log(verb, error);
                if kind.is_checksum() { Errno::EBADMSG } else { Errno::from_i32(libc::EUCLEAN) }
            }
            Error::Io { .. } => {
                self.log(verb, error);
                Errno::EIO
            }
            Error::Unmountable(_) => Errno::EINVAL,
        }
    }

    fn log(&self, verb: &str, error: &Error) {
        let Some(suppressed) = self.flood.lock().admit(Instant::now()) else { return };
        let device = &self.device;
        if suppressed > 0 {
            error!("EXT4-fs (device {device}): {suppressed} errors more were not logged");
        }
        error!("EXT4-fs error (device {device}): {verb}: {error}");
    }
}

/// Whether this is damage or a failure of the device, which are recorded.
pub(super) fn is_reported(fail: &Fail) -> bool {
    matches!(fail, Fail::Engine(Error::Corrupt { .. } | Error::Io { .. }))
}

/// Whether this is damage, and the mount is one that ends with the first damage it meets. Nothing is
/// written on a read-only mount, so `remount-ro` asks for nothing more.
pub(super) fn must_stop(fail: &Fail, policy: ErrorPolicy) -> bool {
    matches!(fail, Fail::Engine(Error::Corrupt { .. })) && policy == ErrorPolicy::Panic
}

fn refused(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::NotFound => Errno::ENOENT,
        Refusal::Stale => Errno::ESTALE,
        Refusal::NotDirectory => Errno::ENOTDIR,
        Refusal::IsDirectory => Errno::EISDIR,
        Refusal::Invalid => Errno::EINVAL,
        Refusal::NameTooLong => Errno::ENAMETOOLONG,
        Refusal::NoData => Errno::ENODATA,
        Refusal::Range => Errno::ERANGE,
        Refusal::PastEnd => Errno::ENXIO,
        Refusal::NoKey => Errno::from_i32(libc::ENOKEY),
        Refusal::NotSupported => Errno::EOPNOTSUPP,
        Refusal::ReadOnly => Errno::EROFS,
        Refusal::Exists => Errno::EEXIST,
        Refusal::NotEmpty => Errno::ENOTEMPTY,
        Refusal::NoSpace => Errno::ENOSPC,
        Refusal::Quota => Errno::EDQUOT,
        Refusal::TooManyLinks => Errno::EMLINK,
        Refusal::NotPermitted => Errno::EPERM,
        Refusal::TooBig => Errno::EFBIG,
        Refusal::Busy => Errno::EBUSY,
        Refusal::CrossDevice => Errno::EXDEV,
        Refusal::Aborted => Errno::EROFS,
    }
}

/// Counts lines so that a damaged file in a loop does not fill the log.
#[derive(Debug, Default)]
struct Flood {
    since: Option<Instant>,
    admitted: u32,
    suppressed: u32,
}

impl Flood {
    /// Whether a line may be written now; if so, how many were not since the last one.
    fn admit(&mut self, now: Instant) -> Option<u32> {
        if self.since.is_none_or(|since| now.duration_since(since) >= INTERVAL) {
            let suppressed = self.suppressed;
            *self = Self { since: Some(now), admitted: 1, suppressed: 0 };
            return Some(suppressed);
        }
        if self.admitted < BURST {
            self.admitted = self.admitted.saturating_add(1);
            return Some(0);
        }
        self.suppressed = self.suppressed.saturating_add(1);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuse4fs_ext4::ids::InodeNr;
    use fuse4fs_ext4::{CorruptKind, Place};

    fn errno(error: Error) -> i32 {
        Reporter::new("sdb1").errno("lookup", &error.into()).code()
    }

    #[test]
    fn damage_is_euclean_and_a_bad_checksum_ebadmsg() {
        let place = Place::inode(InodeNr::new(12));
        let damage = CorruptKind::BlockRange { first: 1, count: 1 };
        assert_eq!(errno(Error::corrupt(place, damage)), libc::EUCLEAN);
        let checksum = CorruptKind::SuperblockChecksum { stored: 1, computed: 2 };
        assert_eq!(errno(Error::corrupt(place, checksum)), libc::EBADMSG);
    }

    #[test]
    fn only_damage_ends_a_mount_and_only_with_errors_panic() {
        let kind = CorruptKind::BlockRange { first: 1, count: 1 };
        let damage = Error::corrupt(Place::default(), kind).into();
        assert!(must_stop(&damage, ErrorPolicy::Panic));
        assert!(!must_stop(&damage, ErrorPolicy::Continue));
        assert!(!must_stop(&Refusal::NotFound.into(), ErrorPolicy::Panic));
    }

    #[test]
    fn a_flood_of_errors_is_cut_and_counted() {
        let mut flood = Flood::default();
        let start = Instant::now();
        let admitted = (0..100).filter(|_| flood.admit(start).is_some()).count();
        assert_eq!(admitted, 10);
        assert_eq!(flood.admit(start.checked_add(INTERVAL).unwrap()), Some(90));
    }
}
