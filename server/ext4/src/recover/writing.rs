//! The journal's part of a writable mount: the log is replayed onto the device, emptied, and opened.
//!
//! What cannot be told for sure is refused: a read-only mount shows around damage, but a replay would
//! make it last.
//! Kernel: fs/jbd2/recovery.c, fs/ext4/super.c `ext4_load_and_init_journal`

use std::sync::Arc;

use super::{Journal, explain, fast_commit, find, tell};
use crate::cache::BATCH_BYTES;
use crate::error::{Error, IoOp, Place, Result, Unmountable};
use crate::features::Incompat;
use crate::filesystem::{MountOptions, WriteOptions};
use crate::ids::{BlockNr, Tid, in_memory};
use crate::journal::{
    Area, FastCommitArea, FastCommitEnd, FastCommits, Log, LogEnd, LogSuperblock, Overlay,
    Recovered, recover,
};
use crate::observer::{Notice, Observer};
use crate::superblock::{self, Facts};
use crate::volume::Volume;

/// A log from which everything is home.
#[derive(Debug)]
pub(crate) struct Opened {
    area: Arc<Area>,
    at: u32,
    /// Transactions up to this one are taken, fast commits included.
    end: Tid,
    /// Blocks were written.
    pub(crate) replayed: bool,
    /// Its last user was stopped by an error.
    pub(crate) failed: bool,
    log: LogSuperblock,
    /// What follows the last transaction.
    fast_commits: FastCommits,
}

impl Opened {
    /// Whether the log ends with fast commits, which are not home.
    pub(crate) fn has_fast_commits(&self) -> bool {
        self.fast_commits.commits > 0
    }

    /// Puts what fast commits changed into `view`, which sees the device as the log left it.
    ///
    /// # Errors
    /// [`Unmountable::ReplayDamaged`]; I/O errors.
    pub(crate) fn read_fast_commits(
        &self,
        view: &mut Volume,
        observer: &dyn Observer,
    ) -> Result<()> {
        let area = FastCommitArea::new(&self.area, &self.log, view.geometry.inode_size);
        observer.notice(Notice::FastCommits { commits: self.fast_commits.commits });
        if !fast_commit::replay(view, &area, &self.fast_commits)? {
            let why = "its fast commits change too much";
            return Err(Unmountable::ReplayDamaged { why }.into());
        }
        if self.fast_commits.why != FastCommitEnd::Clean
            && self.fast_commits.why != FastCommitEnd::Unfinished
        {
            observer.notice(Notice::FastCommitsEnded { why: self.fast_commits.why });
        }
        Ok(())
    }

    /// Empties the log for good and opens it, with the features that the kernel would give it. Its
    /// first transaction.
    ///
    /// # Errors
    /// Corruption of the log's superblock; I/O errors.
    pub(crate) fn start(self, volume: &Volume, options: &WriteOptions) -> Result<(Log, Tid)> {
        let features = &volume.geometry.features;
        let wide = features.incompat.contains(Incompat::BIT64);
        let pending = self.has_fast_commits();
        // Fast commits count until the transaction is committed that they are a part of.
        let first = if pending { self.end } else { self.end.next() };
        let mut log =
            Log::open(self.area, self.at, first, (wide, features.metadata_csum()), pending)?;
        log.set_barrier(options.barrier != Some(false));
        #[cfg(test)]
        log.plant(options.fault);
        Ok((log, first))
    }
}

/// Replays the log of the file system in `volume` onto the device, if it has a log.
///
/// # Errors
/// [`Unmountable::JournalUnusable`], [`Unmountable::ReplayDamaged`], [`Unmountable::NeedsReplay`],
/// those about external journals; I/O errors.
pub(crate) fn open(
    volume: &Volume,
    facts: &Facts,
    options: &MountOptions,
    observer: &dyn Observer,
) -> Result<Option<Opened>> {
    let dirty = volume.geometry.features.incompat.contains(Incompat::RECOVER);
    if options.noload && dirty {
        return Err(Unmountable::NeedsReplay.into());
    }
    let Some(journal) = find(volume, facts, options)? else { return Ok(None) };
    let (log, at) = (journal.log, journal.at);
    let failed = log.errno != 0;
    if failed {
        observer.notice(Notice::JournalError { errno: log.errno });
    }
    let area = Arc::new(blocks(journal, volume)?);
    let fast_commits = FastCommits::default();
    let end = log.sequence;
    let mut opened = Opened { area, at, end, replayed: false, failed, log, fast_commits };
    if dirty && log.start.is_some() {
        replay(volume, &log, options, observer, &mut opened)?;
    }
    Ok(Some(opened))
}

fn blocks(journal: Journal, volume: &Volume) -> Result<Area> {
    journal.blocks(volume).map_err(explain)
}

fn replay(
    volume: &Volume,
    log: &LogSuperblock,
    options: &MountOptions,
    observer: &dyn Observer,
    opened: &mut Opened,
) -> Result<()> {
    let device_bytes = volume.source().device().size();
    let device_blocks = device_bytes.checked_div(volume.block_size().into()).unwrap_or(0);
    let recovered = recover(&opened.area, log, device_blocks, observer).map_err(explain)?;
    check(&recovered)?;
    if log.fast_commit {
        let area = FastCommitArea::new(&opened.area, log, volume.geometry.inode_size);
        opened.fast_commits = area.scan(recovered.end)?;
    }
    tell(&recovered, observer);
    opened.end = recovered.end;
    opened.replayed = true;
    let overlay = Overlay::new(recovered.copies, opened.area.clone());
    bring_home(volume, &overlay, superblock::place(options.superblock)?)
}

/// What the kernel does not replay either.
fn check(recovered: &Recovered) -> Result<()> {
    let why = if recovered.why == LogEnd::CommitChecksum {
        "a commit block is damaged"
    } else if recovered.why == LogEnd::BlockChecksum {
        "a block of a committed transaction is damaged"
    } else if recovered.bad > 0 {
        "copies of blocks are damaged"
    } else if recovered.outside > 0 {
        "it holds blocks that are outside the device"
    } else {
        return Ok(());
    };
    Err(Unmountable::ReplayDamaged { why }.into())
}

/// Writes the copies in `overlay` to their places and makes them durable. The superblock at byte
/// `place` goes on asking for a replay, and errors recorded in it stay, whatever its copy says.
fn bring_home(volume: &Volume, overlay: &Overlay, place: u64) -> Result<()> {
    let device = volume.source().device();
    let before = superblock::read(&**device, place)?;
    let size = u64::from(volume.block_size());
    let batch = BATCH_BYTES.checked_div(volume.block_size()).unwrap_or(1).max(1);
    for (first, count) in overlay.runs() {
        for skip in (0..count).step_by(in_memory(batch.into())) {
            let blocks = count.saturating_sub(skip).min(in_memory(batch.into()));
            let nr = first.get().saturating_add(crate::ids::on_disk(skip));
            let byte = nr.saturating_mul(size);
            let mut bytes = vec![0; blocks.saturating_mul(in_memory(size))];
            overlay.read(&**device, byte, &mut bytes)?;
            let start = place.checked_sub(byte).map(in_memory);
            if let Some(copy) = start.and_then(|start| bytes.get_mut(start..)) {
                superblock::make_recovering(copy, &before);
            }
            let place = Place::block(BlockNr::new(nr));
            let fail = |source| Error::Io { op: IoOp::Write, place, source };
            device.write_at(byte, &bytes).map_err(fail)?;
        }
    }
    volume.blocks().flush()
}
