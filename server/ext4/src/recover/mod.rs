//! The journal's part of a mount: find the log, recover it, and look at the device through it.
//!
//! On a read-only mount nothing is written; what a replay would change is an overlay of blocks
//! ([`crate::journal::Overlay`]) and, for fast commits, [`crate::edits::Edits`]. Orphans need
//! nothing: a deleted inode has no name, and a truncated one its size.
//! Kernel: fs/ext4/super.c `ext4_load_journal`, fs/jbd2/journal.c

mod apply;
mod external;
mod fast_commit;
mod space;
mod writing;

pub(crate) use apply::apply;
pub(crate) use writing::{Opened, open};

use std::sync::Arc;

use crate::device::BlockDevice;
use crate::error::{CorruptKind, Error, Place, Result, Unmountable};
use crate::features::{Compat, Incompat};
use crate::filesystem::MountOptions;
use crate::ids::{InodeNr, LogicalBlock, Tid, in_memory};
use crate::inode::{self, FileKind, Inode, InodeFlags};
use crate::journal::{
    Area, FastCommitArea, FastCommitEnd, LogEnd, LogSuperblock, Overlay, Recovered, Runs, recover,
};
use crate::map::{self, Mapping};
use crate::observer::{Notice, Observer};
use crate::superblock::Facts;
use crate::volume::Volume;

/// A recovered log.
#[derive(Debug)]
pub(crate) struct Replayed {
    area: Arc<Area>,
    log: LogSuperblock,
    overlay: Option<Overlay>,
    /// The transaction that fast commits add to.
    end: Tid,
}

impl Replayed {
    /// The newest copies of blocks, to be laid over the device. Empty the second time.
    pub(crate) fn take_overlay(&mut self) -> Overlay {
        self.overlay.take().unwrap_or_default()
    }

    /// Puts what fast commits changed into `volume`, which sees the device through the overlay.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn fast_commits(&self, volume: &mut Volume, observer: &dyn Observer) -> Result<()> {
        if !self.log.fast_commit {
            return Ok(());
        }
        let area = FastCommitArea::new(&self.area, &self.log, volume.geometry.inode_size);
        let found = area.scan(self.end)?;
        if found.commits > 0 {
            observer.notice(Notice::FastCommits { commits: found.commits });
            if !fast_commit::replay(volume, &area, &found)? {
                observer.notice(Notice::FastCommitsEnded { why: FastCommitEnd::TooMany });
            }
            let space = space::change(volume)?;
            volume.edits_mut().set_space(space);
        }
        // After the last good one anything may follow; only a first one that is bad is news.
        if found.why != FastCommitEnd::Clean
            && (found.commits == 0 || found.why != FastCommitEnd::Unfinished)
        {
            observer.notice(Notice::FastCommitsEnded { why: found.why });
        }
        Ok(())
    }
}

/// Recovers the log of the file system in `volume`, which sees the bare device, if it has one that
/// needs it. `facts` are those of the superblock the mount began with.
///
/// # Errors
/// [`Unmountable::JournalUnusable`], [`Unmountable::ExternalJournalMissing`],
/// [`Unmountable::ExternalJournalWrong`]; I/O errors.
pub(crate) fn replay(
    volume: &Volume,
    facts: &Facts,
    options: &MountOptions,
    observer: &dyn Observer,
) -> Result<Option<Replayed>> {
    let dirty = volume.geometry.features.incompat.contains(Incompat::RECOVER);
    let Some(journal) = find(volume, facts, options)? else { return Ok(None) };
    if journal.log.errno != 0 {
        observer.notice(Notice::JournalError { errno: journal.log.errno });
    }
    if !dirty || journal.log.start.is_none() {
        return Ok(None);
    }
    let log = journal.log;
    let area = Arc::new(journal.blocks(volume).map_err(explain)?);
    let device_bytes = volume.source().device().size();
    let device_blocks = device_bytes.checked_div(volume.block_size().into()).unwrap_or(0);
    let recovered = recover(&area, &log, device_blocks, observer).map_err(explain)?;
    tell(&recovered, observer);
    let end = recovered.end;
    let overlay = Some(Overlay::new(recovered.copies, area.clone()));
    Ok(Some(Replayed { area, log, overlay, end }))
}

/// The journal of the file system in `volume`, if it has one that is to be looked at. None also if
/// it is elsewhere, not given, and not needed.
fn find(volume: &Volume, facts: &Facts, options: &MountOptions) -> Result<Option<Journal>> {
    let features = &volume.geometry.features;
    if options.noload || !features.compat.contains(Compat::HAS_JOURNAL) {
        return Ok(None);
    }
    let dirty = features.incompat.contains(Incompat::RECOVER);
    let journal = match (facts.journal_inode, facts.journal_device, &options.journal) {
        (Some(_), Some(_), _) => Err(unusable("it is said to be inside and outside")),
        (Some(nr), None, _) => Journal::internal(volume, nr),
        (None, _, Some(device)) => external::open(volume, &facts.journal_uuid, device),
        (None, _, None) if dirty || !options.read_only => {
            Err(Unmountable::ExternalJournalMissing.into())
        }
        (None, _, None) => return Ok(None),
    };
    journal.map(Some).map_err(explain)
}

fn tell(recovered: &Recovered, observer: &dyn Observer) {
    observer.notice(Notice::Replayed { transactions: recovered.transactions });
    if recovered.why != LogEnd::Clean {
        let (transaction, why) = (recovered.end.get(), recovered.why);
        observer.notice(Notice::LogEnded { transaction, why });
    }
    if recovered.bad > 0 {
        observer.notice(Notice::DamagedCopies { blocks: recovered.bad });
    }
    if recovered.outside > 0 {
        observer.notice(Notice::CopiesOutside { copies: recovered.outside });
    }
}

fn unusable(why: &str) -> Error {
    Unmountable::JournalUnusable { why: why.to_owned() }.into()
}

/// What is wrong with the journal is a reason not to mount, with what to do about it.
fn explain(error: Error) -> Error {
    match error {
        Error::Corrupt { kind, place } => {
            let why = format!("{place}{kind} [{}]", kind.code());
            Unmountable::JournalUnusable { why }.into()
        }
        Error::Refused(_) => unusable("its inode is not in use"),
        other => other,
    }
}

/// A journal whose superblock was read.
struct Journal {
    log: LogSuperblock,
    /// The block of the log's superblock.
    at: u32,
    home: Home,
}

/// Where a journal's blocks are.
enum Home {
    Inode(Arc<Inode>),
    Device(Area),
}

impl Journal {
    fn internal(volume: &Volume, nr: InodeNr) -> Result<Self> {
        let inode = inode::get(volume, nr)?;
        let wrong = |field, value: u64| {
            let kind = CorruptKind::JournalInode { field, value };
            Err(Error::corrupt(Place::inode(nr), kind))
        };
        if inode.links == 0 {
            return wrong("i_links_count", 0);
        }
        if inode.kind != FileKind::Regular {
            return wrong("i_mode", inode.permissions.into());
        }
        if inode.flags.has(InodeFlags::ENCRYPT | InodeFlags::INLINE_DATA) {
            return wrong("i_flags", inode.flags.bits().into());
        }
        let blocks = inode.size.checked_div(volume.block_size().into()).unwrap_or(0);
        let blocks = u32::try_from(blocks.min(volume.geometry.blocks_count)).unwrap_or(u32::MAX);
        let first = blocks_of(volume, &inode, 1)?;
        let log = read_superblock(&first, 0, blocks)?;
        Ok(Self { log, at: 0, home: Home::Inode(inode) })
    }

    /// All blocks of the log.
    fn blocks(self, volume: &Volume) -> Result<Area> {
        match self.home {
            Home::Inode(inode) => blocks_of(volume, &inode, self.log.end),
            Home::Device(area) => Ok(area),
        }
    }
}

/// The log's superblock in block `at` of `area`, for a log of `blocks` blocks.
fn read_superblock(area: &Area, at: u32, blocks: u32) -> Result<LogSuperblock> {
    let mut bytes = vec![0; in_memory(area.block_size().into())];
    area.read(at, 0, &mut bytes)?;
    LogSuperblock::parse(&bytes, area.block_size(), blocks)
}

/// The first `blocks` blocks of the journal inode. There are at most as many as the file system
/// has; holes are an error, since the log must be able to be written at any time.
fn blocks_of(volume: &Volume, inode: &Inode, blocks: u32) -> Result<Area> {
    let mut runs = Runs::default();
    while let Some(left) = blocks.checked_sub(runs.blocks()).filter(|&left| left > 0) {
        let logical = runs.blocks();
        match map::lookup(volume, inode, LogicalBlock::new(logical))? {
            Mapping::Written { first, len } => runs.push(first, len.clamp(1, left))?,
            Mapping::Hole { .. } | Mapping::Unwritten { .. } => {
                let kind = CorruptKind::JournalMap { logical: logical.into() };
                return Err(Error::corrupt(Place::inode(inode.nr), kind));
            }
        }
    }
    let device: Arc<dyn BlockDevice> = volume.source().device().clone();
    Area::new(device, volume.block_size(), runs).map_err(|error| error.at_inode(inode.nr))
}
