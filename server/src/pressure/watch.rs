//! What is listened to for the news that memory is short.
//!
//! First what systemd names (systemd's documentation, MEMORY_PRESSURE): a file of pressure, a FIFO or a
//! socket, and what to write there once it is open. Else the descriptor that the helper passed, which is
//! armed already. Nothing is looked at until a descriptor says that there is something.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use tracing::debug;

use super::Severity;

/// How systemd says that nobody is to listen.
const OFF: &str = "/dev/null";
/// Bytes of a file of pressure.
const FILE: usize = 256;

/// A descriptor that tells.
#[derive(Debug)]
pub(crate) struct Watch {
    fd: OwnedFd,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A file of pressure with a trigger.
    File,
    /// Whatever is written there says so.
    Stream,
}

impl Watch {
    /// What is to be listened to, if anything is; `passed` came from the helper. To be called before the
    /// sandbox.
    pub(crate) fn choose(passed: Option<OwnedFd>) -> Option<Self> {
        let passed = passed.map(|fd| Self { fd, kind: Kind::File });
        let Some(path) = std::env::var_os("MEMORY_PRESSURE_WATCH") else { return passed };
        if path == OFF {
            return None;
        }
        let written = std::env::var_os("MEMORY_PRESSURE_WRITE").unwrap_or_default();
        Self::open(Path::new(&path), &written)
            .inspect_err(|error| debug!("memory pressure, {}: {error}", path.display()))
            .ok()
            .or(passed)
    }

    fn open(path: &Path, written: &OsStr) -> io::Result<Self> {
        let written = BASE64_STANDARD.decode(written.as_encoded_bytes());
        let written = written.map_err(io::Error::other)?;
        let kind = FileType::from_raw_mode(rustix::fs::stat(path)?.st_mode);
        if kind == FileType::Socket {
            let socket = UnixStream::connect(path)?;
            io::Write::write_all(&mut &socket, &written)?;
            socket.set_nonblocking(true)?;
            return Ok(Self { fd: socket.into(), kind: Kind::Stream });
        }
        // A FIFO, too, is opened for both: else it would end whenever a writer does.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        if kind == FileType::Fifo {
            return Ok(Self { fd, kind: Kind::Stream });
        }
        rustix::io::write(&fd, &written)?;
        Ok(Self { fd, kind: Kind::File })
    }

    /// The descriptor, to be kept open in the sandbox.
    pub(crate) fn number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Waits until memory is short, or for `patience` (`None`: for ever); how short it is.
    ///
    /// # Errors
    /// When nothing will be told any more: the control group is gone, or who writes to the stream.
    pub(super) fn wait(&self, patience: Option<Duration>) -> io::Result<Option<Severity>> {
        let patience = patience.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        let wanted = match self.kind {
            Kind::File => PollFlags::PRI,
            Kind::Stream => PollFlags::IN,
        };
        let mut fds = [PollFd::new(&self.fd, wanted)];
        match poll(&mut fds, patience.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let [told] = fds;
        if told.revents().intersects(PollFlags::ERR | PollFlags::NVAL) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.kind == Kind::Stream {
            self.discard()?;
            return Ok(Some(Severity::Mild));
        }
        let mean = self.read(|text| number::<f64>(text, "avg10="));
        Ok(Some(mean.and_then(severity).unwrap_or(Severity::Mild)))
    }

    /// For how long somebody has waited for memory, ever; `None` where only news are told.
    pub(super) fn stalled(&self) -> Option<Duration> {
        self.read(|text| number(text, "total=")).map(Duration::from_micros)
    }

    /// What `parse` makes of the file of pressure, if it is one.
    fn read<T>(&self, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        if self.kind == Kind::Stream {
            return None;
        }
        let mut bytes = [0; FILE];
        let read = rustix::io::pread(&self.fd, &mut bytes, 0).ok()?;
        parse(bytes.get(..read)?)
    }

    /// Whatever was said, it says the same.
    fn discard(&self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        loop {
            match rustix::io::read(&self.fd, &mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The number behind `name` in the line `some` of a file of pressure.
fn number<T: FromStr>(text: &[u8], name: &str) -> Option<T> {
    let line = std::str::from_utf8(text).ok()?.lines().find_map(|line| line.strip_prefix("some "));
    line?.split(' ').find_map(|field| field.strip_prefix(name))?.parse().ok()
}

/// Going by the mean over 10 s, in percent, as if all of it were of the last 2 s: so often the kernel
/// counts, and by so much a window of them weighs in the mean.
fn severity(mean: f64) -> Option<Severity> {
    const WEIGHT: f64 = 0.181;
    [(25.0, Severity::Severe), (10.0, Severity::Hard), (3.0, Severity::Mild)]
        .into_iter()
        .find_map(|(percent, severity)| (mean >= percent * WEIGHT).then_some(severity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn numbers_of_some_are_read() {
        let text = b"some avg10=12.50 avg60=1.00 avg300=0.00 total=7\nfull avg10=3.00 total=3\n";
        assert_eq!((number(text, "total="), number(text, "avg10=")), (Some(7_u64), Some(12.5_f64)));
        for junk in [&b""[..], b"full total=3\n", b"some total\n", b"\xff", b"some total=x\n"] {
            assert_eq!(number::<u64>(junk, "total="), None);
        }
    }

    #[test]
    fn a_mean_tells_of_the_last_window() {
        let told = [0.0, 0.6, 1.82, 4.6, 100.0, f64::NAN].map(severity);
        let (mild, hard, severe) = (Severity::Mild, Severity::Hard, Severity::Severe);
        assert_eq!(told, [None, Some(mild), Some(hard), Some(severe), Some(severe), None]);
    }

    #[test]
    fn a_fifo_tells_whatever_is_written_and_does_not_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let watch = Watch::open(&path, OsStr::new("")).unwrap();
        for _ in 0..2 {
            assert_eq!(watch.wait(NOW).unwrap(), None);
            std::fs::write(&path, [7; 5000]).unwrap();
            assert_eq!(watch.wait(None).unwrap(), Some(Severity::Mild));
        }
    }

    #[test]
    fn a_socket_is_told_what_systemd_says_and_ends_with_its_other_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        // "hello", and a NUL.
        let watch = Watch::open(&path, OsStr::new("aGVsbG8A")).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let mut said = [0; 6];
        io::Read::read_exact(&mut other, &mut said).unwrap();
        assert_eq!(&said, b"hello\0");
        assert_eq!(watch.wait(NOW).unwrap(), None);
        io::Write::write_all(&mut other, b"x").unwrap();
        assert_eq!(watch.wait(None).unwrap(), Some(Severity::Mild));
        drop(other);
        assert!(watch.wait(None).is_err());
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        assert!(Watch::open(Path::new("/dev/zero"), OsStr::new("???")).is_err());
    }
}
