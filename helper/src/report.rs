//! What a person and mount(8) see of a failure: one line and an exit code.
//!
//! Source: mount(8), "EXIT STATUS".

use std::io::{self, Write};
use std::process::ExitCode;

/// Exit codes of mount(8) that are used here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// 1: incorrect invocation.
    Usage,
    /// 2: out of memory, cannot fork, no server.
    System,
    /// 8: user interrupt.
    Interrupted,
    /// 32: the mount failed.
    Mount,
}

impl Exit {
    const fn code(self) -> u8 {
        match self {
            Self::Usage => 1,
            Self::System => 2,
            Self::Interrupted => 8,
            Self::Mount => 32,
        }
    }
}

/// Why there is no mount: what happened, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, text: text.into() }
    }

    pub(crate) fn system(text: impl Into<String>) -> Self {
        Self { exit: Exit::System, text: text.into() }
    }

    pub(crate) fn mount(text: impl Into<String>) -> Self {
        Self { exit: Exit::Mount, text: text.into() }
    }

    pub(crate) fn interrupted() -> Self {
        Self { exit: Exit::Interrupted, text: "interrupted, nothing was mounted".to_owned() }
    }
}

/// Turns the error of a system call into a [`Failure`] that says what was tried.
pub(crate) trait Explain<T> {
    /// `what`: "cannot open the device".
    fn or_mount_failure(self, what: &str) -> Result<T, Failure>;
    /// The same with exit code 2.
    fn or_system_failure(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Explain<T> for Result<T, E> {
    fn or_mount_failure(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::mount(format!("{what}: {}", plain(&error.into()))))
    }

    fn or_system_failure(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::system(format!("{what}: {}", plain(&error.into()))))
    }
}

/// An error's words without the number that std appends.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

/// Where lines go: the program's name in front, control characters out, errors of writing ignored.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    program: &'static str,
    verbose: bool,
}

impl Reporter {
    pub(crate) const fn new(program: &'static str, verbose: bool) -> Self {
        Self { program, verbose }
    }

    /// One line on stderr.
    pub(crate) fn line(&self, subject: &str, text: &str) {
        let line = if subject.is_empty() {
            format!("{}: {text}", self.program)
        } else {
            format!("{}: {subject}: {text}", self.program)
        };
        let _ = writeln!(io::stderr(), "{}", printable(&line));
    }

    /// mount(8)'s line for a source that is mounted read-only since it cannot be written.
    pub(crate) fn write_protected(&self, source: &str) {
        self.line("", &format!("{source} is write-protected, mounting read-only"));
    }

    /// One line with `-v`.
    pub(crate) fn verbose(&self, subject: &str, text: &str) {
        if self.verbose {
            self.line(subject, text);
        }
    }

    /// Whether a line may come and go: not among those of `-v`.
    pub(crate) const fn draws(&self) -> bool {
        !self.verbose
    }

    /// Replaces the line that was drawn on the terminal; with nothing if `text` is empty.
    pub(crate) fn draw(&self, text: &str) {
        let _ = write!(io::stderr(), "\r\x1b[K{}", printable(text));
    }

    /// Says what went wrong and gives the exit code for it.
    pub(crate) fn fail(&self, subject: &str, failure: &Failure) -> ExitCode {
        self.line(subject, &failure.text);
        ExitCode::from(failure.exit.code())
    }
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_error_is_told_in_words() {
        let failed: Result<(), io::Error> = Err(io::Error::from_raw_os_error(13));
        let failure = failed.or_mount_failure("cannot open it").unwrap_err();
        assert_eq!(failure.text, "cannot open it: Permission denied");
        assert_eq!(failure.exit.code(), 32);
    }
}
