//! Command lines of both programs. Source: mount(8), "EXTERNAL HELPERS".

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::report::Failure;

/// Text of `mount.fuse4fs --help`.
pub(crate) const MOUNT_USAGE: &str = "\
usage: mount.fuse4fs SOURCE DIR [-sfnv] [-N NAMESPACE] [-o OPTION,...] [-t fuse4fs]
       mount.fuse4fs --check [-o server=systemd|spawn]
       mount.fuse4fs --help | --version

Mounts the ext2, ext3 or ext4 file system on SOURCE (a device, an image file, UUID=, LABEL=,
PARTUUID= or PARTLABEL=) at DIR, served by a contained, unprivileged process.

  -s  ignore unknown options      -f  do everything but the mount
  -v  say what is done            -n  accepted, there is no mtab
";

/// Text of `fuse4fs --help`.
pub(crate) const USER_USAGE: &str = "\
usage: fuse4fs IMAGE DIR [-o OPTION,...] [-f | --foreground] [-v]
       fuse4fs status [PATH | --all] [--json | --prometheus]
       fuse4fs check SOURCE [-o OPTION,...] [--json] [-v]
       fuse4fs --help | --version

Shows the ext2, ext3 or ext4 file system in IMAGE at DIR without being root, through
fusermount3. Undo with: fusermount3 -u DIR

status tells how mounts are doing: that of PATH, else all. check tells whether and how SOURCE can
be mounted, without mounting it. Images of these names are ./status and ./check.
";

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    Mount(Invocation),
    /// `--check`, with the words after `-o`.
    Check(Vec<String>),
    Help,
    Version,
}

/// One mount, as typed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Invocation {
    pub(crate) source: OsString,
    pub(crate) target: PathBuf,
    /// Arguments of every `-o`, in order.
    pub(crate) options: Vec<String>,
    /// `-s`: unknown options are ignored.
    pub(crate) sloppy: bool,
    /// `-f`: everything but the mount. (`fuse4fs`: stay in the foreground.)
    pub(crate) fake: bool,
    pub(crate) verbose: bool,
}

/// Parses the arguments of `mount.fuse4fs` (without the program's name).
pub(crate) fn parse_mount(args: impl Iterator<Item = OsString>) -> Result<Command, Failure> {
    parse(args, "mount.fuse4fs")
}

/// Parses the arguments of `fuse4fs` (without the program's name).
pub(crate) fn parse_user(args: impl Iterator<Item = OsString>) -> Result<Command, Failure> {
    match parse(args, "fuse4fs")? {
        Command::Check(_) => Err(Failure::usage("--check belongs to mount.fuse4fs")),
        command => Ok(command),
    }
}

fn parse(args: impl Iterator<Item = OsString>, program: &str) -> Result<Command, Failure> {
    use lexopt::prelude::{Long, Short, Value};
    let mut parser = lexopt::Parser::from_args(args);
    let mut invocation = Invocation::default();
    let mut operands = Vec::new();
    let mut check = false;
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Short('o') | Long("options") => invocation.options.push(text(&mut parser)?),
            Short('s') => invocation.sloppy = true,
            Short('f') | Long("fake" | "foreground") => invocation.fake = true,
            Short('n') => {}
            Short('v') | Long("verbose") => invocation.verbose = true,
            Short('t') | Long("types") => subtype(&text(&mut parser)?)?,
            Short('N') => namespace(&text(&mut parser)?)?,
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Long("check") => check = true,
            Value(operand) => operands.push(operand),
            other => return Err(usage(other.unexpected())),
        }
    }
    if check && operands.is_empty() {
        return Ok(Command::Check(invocation.options));
    }
    let Ok([source, target]) = <[OsString; 2]>::try_from(operands) else {
        return Err(Failure::usage(format!(
            "needs a source and a directory; see {program} --help"
        )));
    };
    invocation.source = source;
    invocation.target = PathBuf::from(target);
    Ok(Command::Mount(invocation))
}

fn usage(error: lexopt::Error) -> Failure {
    Failure::usage(format!("{error}; see --help"))
}

fn text(parser: &mut lexopt::Parser) -> Result<String, Failure> {
    let value = parser.value().map_err(usage)?;
    value.into_string().map_err(|value| {
        Failure::usage(format!("{} is not UTF-8", OsStr::new(&value).to_string_lossy()))
    })
}

/// `-t fuse4fs`, `-t fuse.fuse4fs`, `-t fuse4fs.SUB`: whatever brought mount(8) here.
fn subtype(name: &str) -> Result<(), Failure> {
    if name.split('.').any(|part| part == "fuse4fs") {
        return Ok(());
    }
    Err(Failure::usage(format!("type {name} is not served here, only fuse4fs")))
}

/// mount(8) has entered the namespace before it calls a helper; `-N` only tells which.
fn namespace(name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        return Err(Failure::usage("-N needs a namespace"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(words: &str) -> Result<Command, Failure> {
        parse_mount(words.split(' ').map(OsString::from))
    }

    fn invocation(words: &str) -> Invocation {
        match mount(words) {
            Ok(Command::Mount(invocation)) => invocation,
            other => panic!("{words}: {other:?}"),
        }
    }

    #[test]
    fn flags_may_stand_anywhere() {
        let first = invocation("-sfv -o ro,x-a /dev/x /mnt -o noexec");
        let last = invocation("/dev/x /mnt -o ro,x-a -v -f -s -n -o noexec");
        assert_eq!(first, last);
        assert_eq!(first.options, ["ro,x-a", "noexec"]);
        assert!(first.sloppy && first.fake && first.verbose);
    }

    #[test]
    fn mount8_calls_it_with_a_namespace_and_a_type() {
        let it = invocation("/dev/x /mnt -N /proc/1/ns/mnt -o rw -t fuse4fs.ext3");
        assert_eq!(it.source, "/dev/x");
        assert_eq!(it.target, PathBuf::from("/mnt"));
        assert!(mount("/dev/x /mnt -t xfs").is_err());
    }

    #[test]
    fn a_source_that_begins_with_a_dash_comes_after_two_dashes() {
        assert_eq!(invocation("-o ro -- -x /mnt").source, "-x");
        assert!(mount("-x /mnt").is_err());
    }

    #[test]
    fn operands_are_two() {
        for words in ["", "/dev/x", "/dev/x /mnt /more", "-o"] {
            let failure = mount(words).unwrap_err();
            assert_eq!(failure.exit, crate::report::Exit::Usage, "{words}");
        }
    }

    #[test]
    fn questions_need_no_operands() {
        assert_eq!(mount("--help"), Ok(Command::Help));
        assert_eq!(mount("-V"), Ok(Command::Version));
        assert_eq!(
            mount("--check -o server=spawn"),
            Ok(Command::Check(vec!["server=spawn".into()]))
        );
        assert!(parse_user(["--check".into()].into_iter()).is_err());
    }
}
