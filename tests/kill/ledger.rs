//! What a worker notes, and what may be there after a crash.
//!
//! A line of a ledger is `b NAME STATE`, written before the change begins, or `s NAME STATE`, written
//! after the call that makes it durable has returned. STATE is `-` for no file, `?` for some file, or
//! `LENGTH:HASH`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use fuse4fs_tests::{content, trial};
use libtest_mimic::Trial;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Absent,
    /// A change that is not atomic has begun.
    Some,
    Content(String),
}

impl State {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::Content(format!("{}:{}", bytes.len(), &content::sha256(bytes)[..32]))
    }

    /// What is at `path` now.
    fn at(path: &Path) -> Result<Self> {
        match fs::read(path) {
            Ok(bytes) => Ok(Self::of(&bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::Absent),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    fn word(&self) -> &str {
        match self {
            Self::Absent => "-",
            Self::Some => "?",
            Self::Content(content) => content,
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "-" => Self::Absent,
            "?" => Self::Some,
            content => Self::Content(content.to_owned()),
        }
    }
}

/// The writing end.
pub(crate) struct Ledger(pub(crate) fs::File);

impl Ledger {
    pub(crate) fn begin(&mut self, name: &str, state: &State) -> Result<()> {
        Ok(self.0.write_all(format!("b {name} {}\n", state.word()).as_bytes())?)
    }

    pub(crate) fn synced(&mut self, name: &str, state: &State) -> Result<()> {
        Ok(self.0.write_all(format!("s {name} {}\n", state.word()).as_bytes())?)
    }
}

/// What is promised of one name.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Promise {
    synced: State,
    begun: Vec<State>,
}

/// What is promised of a worker's directory.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    names: BTreeMap<String, Promise>,
    /// How often something was made durable.
    pub(crate) syncs: usize,
}

impl Promises {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut promises = Self::default();
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let [kind, name, state] = words.as_slice() else { bail!("in the ledger: {line}") };
            let nothing = || Promise { synced: State::Absent, begun: Vec::new() };
            let promise = promises.names.entry((*name).to_owned()).or_insert_with(nothing);
            match *kind {
                "b" => promise.begun.push(State::parse(state)),
                "s" => {
                    *promise = Promise { synced: State::parse(state), begun: Vec::new() };
                    promises.syncs += 1;
                }
                _ => bail!("in the ledger: {line}"),
            }
        }
        Ok(promises)
    }

    /// Looks for all of it below `directory`.
    pub(crate) fn expect_kept(&self, directory: &Path) -> Result<()> {
        let mut broken = Vec::new();
        for (name, promise) in &self.names {
            let found = State::at(&directory.join(name))?;
            if !promise.permits(&found) {
                broken.push(format!("{name}: promised {promise:?}, found {found:?}"));
            }
        }
        let shown = broken.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
        ensure!(broken.is_empty(), "{} of {}:\n{shown}", broken.len(), self.names.len());
        Ok(())
    }
}

impl Promise {
    fn permits(&self, found: &State) -> bool {
        let some = self.begun.contains(&State::Some) && *found != State::Absent;
        *found == self.synced || self.begun.contains(found) || some
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial::test("a broken promise is noticed, a change that had begun is none", judges)]
}

/// Each ledger, what there is, and whether that is right.
fn judges() -> Result<()> {
    let (old, new) = (State::of(b"old"), State::of(b"new"));
    let [o, n] = [old.word(), new.word()];
    let cases = [
        (format!("s f {o}\n"), Some("old"), true),
        (format!("s f {o}\n"), Some("new"), false),
        (format!("s f {o}\n"), None, false),
        (format!("b f {n}\n"), None, true),
        (format!("b f {n}\n"), Some("new"), true),
        (format!("b f {n}\n"), Some("old"), false),
        (format!("s f {o}\nb f {n}\n"), Some("old"), true),
        (format!("s f {o}\nb f {n}\n"), None, false),
        (format!("s f {o}\nb f {n}\ns f {n}\n"), Some("old"), false),
        (format!("s f {o}\nb f ?\n"), Some("torn"), true),
        (format!("s f {o}\nb f ?\n"), None, false),
        (format!("s f {o}\nb f ?\ns f {n}\n"), Some("torn"), false),
        (format!("s f {o}\nb f -\n"), None, true),
        (format!("s f {o}\nb f -\ns f -\n"), Some("old"), false),
    ];
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("f");
    for (text, bytes, right) in cases {
        match bytes {
            Some(bytes) => fs::write(&file, bytes)?,
            None => drop(fs::remove_file(&file)),
        }
        let kept = Promises::parse(&text)?.expect_kept(directory.path());
        ensure!(kept.is_ok() == right, "{text:?} with {bytes:?}: {kept:?}");
    }
    Ok(())
}
