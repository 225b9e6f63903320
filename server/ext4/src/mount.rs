//! Opening everything in order: superblock, features, journal, root.
//!
//! Kernel: fs/ext4/super.c `ext4_fill_super`

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use crate::alloc;
use crate::device::{BlockDevice, Counted};
use crate::error::{CorruptKind, Error, Place, Refusal, Result, Unmountable};
use crate::evict::{self, Orphaned};
use crate::features::{Incompat, RoCompat};
use crate::filesystem::{DataMode, Filesystem, MountOptions};
use crate::geometry::Geometry;
use crate::ids::InodeNr;
use crate::inode::Timestamp;
use crate::journal::Journal;
use crate::mmp;
use crate::observer::{Notice, Observer};
use crate::quota;
use crate::recover::{self, Opened};
use crate::source::Source;
use crate::superblock::{self, Facts, Live, Opening, STATE_ERROR, Superblock};
use crate::volume::Volume;

/// EXT4_DEFM_NOBARRIER
const NO_BARRIER: u32 = 0x800;

/// Reads and checks the superblock only: what the server must know before it answers FUSE_INIT.
/// `superblock` is its place in 1 KiB units, else the primary one.
///
/// # Errors
/// As [`Filesystem::mount`], without the journal's.
pub fn probe(device: &dyn BlockDevice, superblock: Option<u64>) -> Result<Geometry> {
    Ok(Superblock::read(device, superblock)?.geometry)
}

/// What keeps a file system from being written, though not from being read.
fn check_writable(found: &Superblock) -> Result<()> {
    let features = &found.geometry.features;
    let unknown = features.ro_compat.without(RoCompat::KNOWN);
    if !unknown.is_empty() {
        return Err(Unmountable::ReadOnlyFeatures { names: unknown.to_string() }.into());
    }
    Ok(())
}

impl Filesystem {
    /// Mounts `device`.
    ///
    /// # Errors
    /// [`crate::Error::Unmountable`] with the reason; corruption and I/O errors.
    pub fn mount(
        device: Arc<dyn BlockDevice>,
        options: &MountOptions,
        observer: &dyn Observer,
    ) -> Result<Self> {
        if !options.read_only {
            return Self::mount_for_writing(device, options, observer);
        }
        let Superblock { geometry, mut facts } = Superblock::read(&*device, options.superblock)?;
        let source = Source::new(device, geometry.block_size);
        let mut volume = Volume::new(geometry, source, options.cache_bytes);
        if let Some(mut log) = recover::replay(&volume, &facts, options, observer)? {
            let source = volume.into_source().with_overlay(log.take_overlay());
            // It may have changed in the log, by a resize for example.
            let recovered = Superblock::read_again(&source, options.superblock)?;
            facts = recovered.facts;
            volume = Volume::new(recovered.geometry, source, options.cache_bytes);
            log.fast_commits(&mut volume, observer)?;
        }
        Self::checked(volume.with_journal(Journal::ReadOnly), facts, options)
    }

    fn checked(volume: Volume, facts: Facts, options: &MountOptions) -> Result<Self> {
        let mut writing = options.writing.clone();
        writing.barrier = writing.barrier.or(Some(facts.default_mount_options & NO_BARRIER == 0));
        let mut volume = volume;
        volume.rules = writing.rules.settled(&facts);
        let (usage, closed) = (OnceLock::new(), AtomicBool::new(false));
        let filesystem = Self { volume, facts, usage, writing, closed, claim: None };
        filesystem.check_root()?;
        Ok(filesystem)
    }

    /// In the kernel's order: nothing is written before the log was read to its end, and the
    /// superblock asks for recovery before the log is used.
    fn mount_for_writing(
        device: Arc<dyn BlockDevice>,
        options: &MountOptions,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let device = Arc::new(Counted::new(device));
        let mut found = Superblock::read(&*device, options.superblock)?;
        check_writable(&found)?;
        let claim = if found.geometry.features.incompat.contains(Incompat::MMP) {
            let known = (&found.geometry, &found.facts);
            Some(mmp::claim(device.clone(), known, options.writing.name.clone(), observer)?)
        } else {
            None
        };
        let source = || Source::new(device.clone(), found.geometry.block_size);
        let mut volume = Volume::new(found.geometry.clone(), source(), options.cache_bytes);
        let opened = recover::open(&volume, &found.facts, options, observer)?;
        if opened.as_ref().is_some_and(|opened| opened.replayed) {
            // It may have changed in the log, by a resize for example.
            let source = volume.into_source();
            found = Superblock::read_again(&source, options.superblock)?;
            check_writable(&found)?;
            volume = Volume::new(found.geometry.clone(), source, options.cache_bytes);
        }
        let edited = match &opened {
            Some(opened) if opened.has_fast_commits() => {
                let source = Source::new(device.clone(), found.geometry.block_size);
                let mut view = Volume::new(found.geometry.clone(), source, options.cache_bytes);
                opened.read_fast_commits(&mut view, observer)?;
                Some(view)
            }
            _ => None,
        };
        if opened.is_none() && options.writing.data.is_some() {
            return Err(Unmountable::DataWithoutJournal.into());
        }
        volume.superblock = Live::new(superblock::place(options.superblock)?, &found.geometry);
        volume.superblock.count_writes(found.facts.kbytes_written, device);
        let mut filesystem = Self::checked(volume, found.facts, options)?;
        filesystem.claim = claim;
        alloc::open(&filesystem.volume, &filesystem.facts)?;
        let discard = filesystem.volume.rules.discard == Some(true);
        alloc::set_discard(&filesystem.volume, discard)?;
        filesystem.start(opened)?.take_up(edited.as_ref(), observer)
    }

    /// Begins to write.
    fn start(self, opened: Option<Opened>) -> Result<Self> {
        let opening = Opening {
            logged: opened.is_some(),
            failed: opened.as_ref().is_some_and(|opened| opened.failed),
            mount_point: self.writing.mount_point.clone(),
        };
        self.volume.write_superblock(|raw| raw.open(&opening))?;
        let Some(opened) = opened else { return Ok(self) };
        let (log, first) = opened.start(&self.volume, &self.writing)?;
        let mode = self.data_mode();
        let pinned = self.volume.pinned_bytes();
        let mut journal = Journal::logged(log, first, pinned);
        if mode == DataMode::Writeback {
            journal.do_not_order();
        }
        let mut volume = self.volume.with_journal(journal);
        if mode == DataMode::Journal {
            volume.journal_data();
        }
        Ok(Self { volume, ..self })
    }

    /// Goes on where an earlier mount was cut off. `edited`: with what fast commits changed.
    fn take_up(self, edited: Option<&Volume>, observer: &dyn Observer) -> Result<Self> {
        quota::open(&self.volume)?;
        if let Some(edited) = edited {
            recover::apply(&self.volume, edited)?;
        }
        if self.facts.state & STATE_ERROR != 0 {
            // What the orphans have may be somebody else's, too: e2fsck decides.
            evict::drop_list(&self.volume)?;
        } else {
            let done = evict::recover(&self.volume, Timestamp::now(), observer)?;
            if done != Orphaned::default() {
                observer.notice(Notice::Orphans { freed: done.freed, cut: done.cut });
            }
        }
        Ok(self)
    }

    /// Nothing can be shown without the root.
    fn check_root(&self) -> Result<()> {
        let broken = || Error::corrupt(Place::inode(InodeNr::ROOT), CorruptKind::RootInode {});
        match self.inode(InodeNr::ROOT) {
            Ok(root) if root.is_directory() && root.size > 0 => Ok(()),
            Ok(_) | Err(Error::Refused(Refusal::Stale)) => Err(broken()),
            Err(error) => Err(error),
        }
    }
}
