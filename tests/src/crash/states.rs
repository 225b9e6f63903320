//! What a crash may leave: the trees between the verbs of a workload, and which of them are promised.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{FileKind, Filesystem};

use crate::engine_walk;
use crate::tree::{Entry, Tree};

/// Content is compared by pieces of this many bytes: devices write them whole, and so do verbs.
const PIECE: usize = 1024;

/// A whole tree with its content.
#[derive(Debug)]
pub struct State {
    /// All of it.
    pub tree: Tree,
    /// Without what long verbs change bit by bit.
    firm: Tree,
    /// Where each inode is.
    paths: HashMap<u64, Vec<u8>>,
    contents: HashMap<u64, Vec<u8>>,
}

impl State {
    /// What `fs` shows.
    ///
    /// # Errors
    /// The engine's.
    pub fn of(fs: &Filesystem) -> Result<Self> {
        let tree = engine_walk::walk(fs)?;
        let firm = tree.entries.iter().map(|(path, entry)| (path.clone(), firm(entry))).collect();
        let (mut paths, mut contents) = (HashMap::new(), HashMap::new());
        for (path, entry) in &tree.entries {
            let nr = entry.inode.unwrap_or(0);
            if paths.insert(nr, path.clone()).is_none() && entry.kind == "file" {
                contents.insert(nr, content(fs, nr)?);
            }
        }
        Ok(Self { tree, firm: Tree { entries: firm }, paths, contents })
    }

    fn entry(&self, nr: u64) -> Option<&Entry> {
        self.tree.entries.get(self.paths.get(&nr)?)
    }

    /// The file's bytes from `start` on, with zeros past its end.
    fn piece(&self, nr: u64, start: usize) -> [u8; PIECE] {
        let mut piece = [0; PIECE];
        let bytes = self.contents.get(&nr).and_then(|bytes| bytes.get(start..)).unwrap_or_default();
        piece.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        piece
    }
}

fn content(fs: &Filesystem, nr: u64) -> Result<Vec<u8>> {
    let inode = fs.inode(InodeNr::new(u32::try_from(nr)?))?;
    ensure!(inode.kind == FileKind::Regular, "{nr} is no file any more");
    let mut bytes = vec![0; usize::try_from(inode.size)?];
    let read = fs.read(&inode, 0, &mut bytes)?;
    ensure!(read == bytes.len(), "{read} of {} bytes", bytes.len());
    Ok(bytes)
}

/// What of `entry` is at all times as it is before or after a verb. A long write, truncation or
/// allocation is several transactions, and access times may wait.
fn firm(entry: &Entry) -> Entry {
    let mut firm = Entry { atime: None, ..entry.clone() };
    if entry.kind == "file" {
        (firm.size, firm.blocks512, firm.content, firm.segments) = (None, None, None, None);
    }
    firm
}

/// [`firm`] without times, for fdatasync(2).
fn timeless(entry: &Entry) -> Entry {
    Entry { mtime: None, ctime: None, ..firm(entry) }
}

/// How much of a file was promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Synced {
    /// Content, and what is needed to read it.
    Data,
    /// Everything.
    All,
}

/// What must be there from some moment on.
#[derive(Clone, Debug, Default)]
pub struct Promise {
    /// The tree is not older than this state.
    pub floor: usize,
    /// The last that can be there: the verb that leads to it may have begun.
    pub ceiling: usize,
    /// How often more was promised.
    pub times: usize,
    /// By inode number: this file is not older than this state.
    pub files: HashMap<u64, (usize, Synced)>,
}

/// How strictly trees are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Each verb is there with all that it wrote, or not at all.
    Whole,
    /// Each piece of a file is as some verb left it.
    Pieces,
    /// What was not synced may be anything (data=writeback).
    Any,
}

/// All that a workload went through.
#[derive(Debug, Default)]
pub struct States {
    states: Vec<State>,
    /// By the number of the mark.
    promises: Vec<Promise>,
}

impl States {
    /// Another verb is over, and `state` is what it left. The number of the mark to be made.
    pub fn add(&mut self, state: State) -> u64 {
        self.states.push(state);
        let ceiling = self.states.len();
        self.mark(|promise| promise.ceiling = ceiling)
    }

    /// More is promised from now on than was. The number of the mark to be made.
    pub fn promise(&mut self, change: impl FnOnce(&mut Promise)) -> u64 {
        self.mark(|promise| {
            promise.times += 1;
            change(promise);
        })
    }

    fn mark(&mut self, change: impl FnOnce(&mut Promise)) -> u64 {
        let mut promise = self.promises.last().cloned().unwrap_or_default();
        change(&mut promise);
        self.promises.push(promise);
        self.promises.len() as u64 - 1
    }

    /// The number of the newest state.
    #[must_use]
    pub fn newest(&self) -> usize {
        self.states.len() - 1
    }

    /// How often more had been promised at the mark `mark`.
    #[must_use]
    pub fn promised(&self, mark: u64) -> usize {
        let index = usize::try_from(mark).unwrap_or(usize::MAX);
        self.promises.get(index).map_or(0, |promise| promise.times)
    }

    /// Whether `found` is what a crash after the mark `mark` may leave.
    ///
    /// # Errors
    /// What is missing, new or changed.
    pub fn check(&self, mark: u64, found: &State, content: Content) -> Result<()> {
        let promise = self.promises.get(usize::try_from(mark)?).context("no such mark")?;
        let window = self.window(promise.floor, promise);
        let fits = |state: &&State| match content {
            Content::Whole => state.tree == found.tree,
            Content::Pieces | Content::Any => state.firm == found.firm,
        };
        if !window.iter().any(|state| fits(&state)) {
            let nearest = window.iter().map(|state| state.firm.differences(&found.firm));
            let nearest = nearest.min_by_key(Vec::len).unwrap_or_default();
            let lines: Vec<_> = nearest.iter().take(12).map(ToString::to_string).collect();
            bail!("no tree that there was since state {}: {}", promise.floor, lines.join("\n"));
        }
        for nr in promise.files.keys() {
            self.check_presence(*nr, promise, found)?;
        }
        for (nr, path) in &found.paths {
            let entry = found.entry(*nr).context("no entry")?;
            self.check_inode(*nr, promise, (found, entry), content)
                .with_context(|| path.escape_ascii().to_string())?;
        }
        Ok(())
    }

    fn window(&self, floor: usize, promise: &Promise) -> &[State] {
        &self.states[floor..self.states.len().min(promise.ceiling + 1)]
    }

    /// A file that was synced and never removed since is there.
    fn check_presence(&self, nr: u64, promise: &Promise, found: &State) -> Result<()> {
        let floor = promise.files.get(&nr).map_or(promise.floor, |(floor, _)| *floor);
        let always = self.window(floor, promise).iter().all(|state| state.entry(nr).is_some());
        ensure!(!always || found.entry(nr).is_some(), "inode {nr} was synced and is not there");
        Ok(())
    }

    /// The inode is as it was at some moment since it was synced, or between two such.
    fn check_inode(
        &self,
        nr: u64,
        promise: &Promise,
        (found, entry): (&State, &Entry),
        content: Content,
    ) -> Result<()> {
        let (floor, synced) =
            promise.files.get(&nr).copied().unwrap_or((promise.floor, Synced::All));
        // Numbers are used again: a file is known by its birth, too.
        let same = |state: &&State| state.entry(nr).is_some_and(|old| old.btime == entry.btime);
        let versions: Vec<_> =
            self.window(floor.max(promise.floor), promise).iter().filter(same).collect();
        let olds: Vec<_> = versions.iter().filter_map(|state| state.entry(nr)).collect();
        if olds.contains(&entry) {
            return Ok(());
        }
        let first = olds.first().context("an inode of no such time")?;
        let kept = olds.iter().all(|old| old == first) && synced == Synced::All;
        ensure!(!kept, "changed though synced: expected {first:?}, found {entry:?}");
        let fits = |old: &&Entry| match synced {
            Synced::All => firm(old) == firm(entry),
            Synced::Data => timeless(old) == timeless(entry),
        };
        ensure!(olds.iter().any(fits), "as it never was since it was synced: {entry:?}");
        let size = |old: &&Entry| old.size;
        let sizes = olds.iter().map(size).min()..=olds.iter().map(size).max();
        ensure!(sizes.contains(&Some(entry.size)), "size {:?} of {sizes:?}", entry.size);
        if content == Content::Any { Ok(()) } else { check_pieces(nr, &versions, found) }
    }
}

/// Each piece of the file is as it was at some moment.
fn check_pieces(nr: u64, versions: &[&State], found: &State) -> Result<()> {
    let Some(bytes) = found.contents.get(&nr) else { return Ok(()) };
    for start in (0..bytes.len()).step_by(PIECE) {
        let there = &bytes[start..bytes.len().min(start + PIECE)];
        let known = versions.iter().any(|state| state.piece(nr, start)[..there.len()] == there[..]);
        ensure!(known, "stale or mixed bytes at {start}: {:02x?}", &there[..there.len().min(16)]);
    }
    Ok(())
}
