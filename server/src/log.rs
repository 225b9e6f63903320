//! Log lines in the kernel's style, on stderr: systemd carries them to the journal.

use std::fmt;
use std::io::stderr;

use fuse4fs_protocol::LogLevel;
use rustix::net::SocketType;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Starts logging. A line that cannot be written is lost: the mount must neither wait for its log,
/// which may lie on it, nor end with it.
pub(crate) fn start(level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let style = Style::of_stderr();
    if style != Style::Plain {
        let _ = rustix::io::ioctl_fionbio(stderr(), true);
    }
    // It fails only where logging was started before.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(stderr)
        .log_internal_errors(false)
        .event_format(style)
        .try_init();
}

/// What whoever reads stderr expects of a line: the message, and in front of it what time and
/// program do not tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    /// A file, a pipe, a terminal: nothing.
    Plain,
    /// The journal, by a stream: "<3>" (sd-daemon(3)).
    Journal,
    /// A syslog socket: facility and program too.
    Syslog,
}

impl Style {
    fn of_stderr() -> Self {
        match rustix::net::sockopt::socket_type(stderr()) {
            Ok(SocketType::DGRAM) => Self::Syslog,
            Ok(_) => Self::Journal,
            Err(_) if std::env::var_os("JOURNAL_STREAM").is_some() => Self::Journal,
            Err(_) => Self::Plain,
        }
    }
}

/// LOG_DAEMON
const DAEMON: u8 = 3 << 3;

/// The syslog priority of a level.
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

impl<S, N> FormatEvent<S, N> for Style
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = priority(*event.metadata().level());
        match self {
            Self::Plain => {}
            Self::Journal => write!(writer, "<{priority}>")?,
            Self::Syslog => write!(writer, "<{}>fuse4fs: ", DAEMON | priority)?,
        }
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// A UUID as the kernel prints it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uuid(pub(crate) [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_looks_as_the_kernel_prints_it() {
        let uuid = Uuid(*b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef");
        assert_eq!(uuid.to_string(), "01234567-89ab-cdef-0123-456789abcdef");
    }
}
