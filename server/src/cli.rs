//! The command line: how this process was started.

use std::ffi::OsString;

use thiserror::Error;

use crate::sandbox::Surroundings;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Usage: fuse4fs-server [--spawned [--no-namespaces]]

Serves one ext2, ext3 or ext4 mount. It is started by systemd (fuse4fs.socket)
or by mount.fuse4fs, with a socket on which mount.fuse4fs says what to serve;
to mount something, run: mount -t fuse4fs SOURCE DIRECTORY

  --spawned        started by mount.fuse4fs: the socket is descriptor 3, and
                   this process is root in namespaces of its own
  --no-namespaces  with --spawned: without such namespaces
  --version        print the version
  --help           print this text
";

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// Serve a mount.
    Serve(Surroundings),
    /// Print the version.
    Version,
    /// Print [`HELP`].
    Help,
}

/// A command line that makes no sense.
#[derive(Debug, Error)]
#[error("{0}; see fuse4fs-server --help")]
pub(crate) struct UsageError(String);

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// An argument that is not known, or `--no-namespaces` alone.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, UsageError> {
    let (mut spawned, mut bare) = (false, false);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("spawned") => spawned = true,
            lexopt::Arg::Long("no-namespaces") => bare = true,
            lexopt::Arg::Long("version") | lexopt::Arg::Short('V') => return Ok(Command::Version),
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => return Ok(Command::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    match (spawned, bare) {
        (true, false) => Ok(Command::Serve(Surroundings::Namespaces)),
        (true, true) => Ok(Command::Serve(Surroundings::Bare)),
        (false, false) => Ok(Command::Serve(Surroundings::Unit)),
        (false, true) => Err(UsageError("--no-namespaces needs --spawned".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Command, UsageError> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn without_arguments_it_was_systemd() {
        assert_eq!(parse_words(&[]).unwrap(), Command::Serve(Surroundings::Unit));
    }

    #[test]
    fn an_unknown_option_is_named() {
        let error = parse_words(&["--frob"]).unwrap_err();
        assert!(error.to_string().contains("--frob"), "{error}");
        assert!(parse_words(&["--no-namespaces"]).is_err());
    }
}
