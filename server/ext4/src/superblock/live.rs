//! The superblock of a file system that is mounted for writing: what goes into it, and when.
//!
//! Counts and recorded errors wait in memory and are folded into the block when a transaction is
//! closed; at mount, at the end and when the journal stops it is written in place.
//! # Locking
//! `waiting` is a leaf. Counters are changed inside handles, so that a closed transaction has them
//! right.
//! Kernel: fs/ext4/super.c `ext4_update_super`, `__save_error_info`, `ext4_setup_super`

use std::sync::Arc;
use std::time::SystemTime;

use core::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;
use zerocopy::FromBytes;

use super::ErrorRecord;
use crate::device::Counted;
use crate::disk::superblock::{OFFSET, RawSuperblock, SIZE};
use crate::error::{CorruptKind, Error, Place, Result};
use crate::features::{Compat, Incompat, RoCompat};
use crate::geometry::Geometry;
use crate::ids::{BlockNr, in_memory};

/// s_state: cleanly unmounted.
pub(crate) const STATE_VALID: u16 = 1;
/// s_volume_name, at most.
pub(crate) const LABEL_BYTES: usize = 16;
/// s_state: an error was seen.
pub(crate) const STATE_ERROR: u16 = 2;

/// The free counts of the whole file system, as the handles so far left them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    free_clusters: AtomicI64,
    free_inodes: AtomicI64,
    known: AtomicBool,
}

impl Counters {
    /// Sets both, once they were counted.
    pub(crate) fn set(&self, free_clusters: u64, free_inodes: u64) {
        self.free_clusters
            .store(i64::try_from(free_clusters).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.free_inodes.store(i64::try_from(free_inodes).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.known.store(true, Ordering::Release);
    }

    /// Free clusters and inodes, once they were counted.
    pub(crate) fn get(&self) -> Option<(u64, u64)> {
        let value =
            |counter: &AtomicI64| u64::try_from(counter.load(Ordering::Relaxed)).unwrap_or(0);
        let known = self.known.load(Ordering::Acquire);
        known.then(|| (value(&self.free_clusters), value(&self.free_inodes)))
    }
}

/// What waits to be written.
#[derive(Debug, Default)]
struct Waiting {
    written: Option<(u64, u64)>,
    errors: u32,
    first: Option<ErrorRecord>,
    last: Option<ErrorRecord>,
}

/// A feature that the superblock names from when it is first used.
#[derive(Debug)]
struct Late {
    /// The superblock names it or will.
    said: AtomicBool,
    /// It is to be named.
    waits: AtomicBool,
}

impl Late {
    fn new(said: bool) -> Self {
        Self { said: said.into(), waits: false.into() }
    }

    fn note(&self) {
        if !self.said.swap(true, Ordering::Relaxed) {
            self.waits.store(true, Ordering::Release);
        }
    }

    fn waits(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// Whether it is to be named now.
    fn take(&self) -> bool {
        self.waits.swap(false, Ordering::AcqRel)
    }
}

/// The superblock while it is mounted.
#[derive(Debug)]
pub(crate) struct Live {
    block: BlockNr,
    skip: usize,
    cluster_blocks: u32,
    has_sum: bool,
    pub(crate) counters: Counters,
    waiting: Mutex<Waiting>,
    /// Files may be larger than 2 GiB.
    large_files: Late,
    /// Inodes may have extended attributes.
    attributes: Late,
    /// s_kbytes_written at the mount, and what was written since.
    written: Option<(u64, Arc<Counted>)>,
}

impl Live {
    /// The superblock at byte `place`.
    pub(crate) fn new(place: u64, geometry: &Geometry) -> Self {
        let size = u64::from(geometry.block_size);
        Self {
            block: BlockNr::new(place.checked_div(size).unwrap_or(0)),
            skip: in_memory(place.checked_rem(size).unwrap_or(0)),
            cluster_blocks: geometry.cluster_blocks,
            has_sum: geometry.features.metadata_csum(),
            counters: Counters::default(),
            waiting: Mutex::default(),
            attributes: Late::new(geometry.features.compat.contains(Compat::EXT_ATTR)),
            large_files: Late::new(geometry.features.ro_compat.contains(RoCompat::LARGE_FILE)),
            written: None,
        }
    }

    /// The primary one.
    pub(crate) fn primary(geometry: &Geometry) -> Self {
        Self::new(OFFSET, geometry)
    }

    /// Counts what is written to `device` into s_kbytes_written, which is `so_far`.
    pub(crate) fn count_writes(&mut self, so_far: u64, device: Arc<Counted>) {
        self.written = Some((so_far, device));
    }

    /// Whether something was written to the device and not flushed since.
    pub(crate) fn is_unflushed(&self) -> bool {
        self.written.as_ref().is_some_and(|(_, device)| device.is_unflushed())
    }

    /// The block it is in.
    pub(crate) fn block(&self) -> BlockNr {
        self.block
    }

    /// Finds it in the bytes of its block.
    pub(crate) fn find<'a>(&self, bytes: &'a [u8]) -> Option<&'a RawSuperblock> {
        let (raw, _) = RawSuperblock::ref_from_prefix(bytes.get(self.skip..)?).ok()?;
        Some(raw)
    }

    /// Changes it in the bytes of its block and makes its checksum right.
    ///
    /// # Errors
    /// [`CorruptKind::Truncated`] if `bytes` are no block.
    pub(crate) fn edit<T>(
        &self,
        bytes: &mut [u8],
        edit: impl FnOnce(&mut RawSuperblock) -> T,
    ) -> Result<T> {
        let have = bytes.len();
        let rest = bytes.get_mut(self.skip..).unwrap_or_default();
        let Ok((raw, _)) = RawSuperblock::mut_from_prefix(rest) else {
            let kind = CorruptKind::Truncated { needed: SIZE, have };
            return Err(Error::corrupt(Place::block(self.block), kind));
        };
        let value = edit(raw);
        if self.has_sum {
            raw.checksum = raw.computed_checksum().into();
        }
        Ok(value)
    }

    /// Notes an error, to be written with the next transaction.
    pub(crate) fn note(&self, error: &Error) {
        let record = record(error);
        let mut waiting = self.waiting.lock();
        waiting.errors = waiting.errors.saturating_add(1);
        waiting.first.get_or_insert_with(|| record.clone());
        waiting.last = Some(record);
    }

    /// Inside a handle: a file has 2 GiB or more, which the superblock says from its transaction on.
    pub(crate) fn note_large_file(&self) {
        self.large_files.note();
    }

    /// Inside a handle: an inode gets an attribute, which the superblock says from its transaction on.
    pub(crate) fn note_attributes(&self) {
        self.attributes.note();
    }

    /// Whether there is anything to fold into the superblock.
    pub(crate) fn is_waiting(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.errors > 0
            || self.large_files.waits()
            || self.attributes.waits()
            || self.counters.get().is_some_and(|now| Some(now) != waiting.written)
    }

    /// Puts counts, errors and the time into `raw`.
    pub(crate) fn fold(&self, raw: &mut RawSuperblock) {
        let mut waiting = self.waiting.lock();
        if let Some((clusters, inodes)) = self.counters.get() {
            let blocks = clusters.saturating_mul(self.cluster_blocks.into());
            raw.set_free(blocks, inodes);
            waiting.written = Some((clusters, inodes));
        }
        if waiting.errors > 0 {
            raw.state = (raw.state.get() | STATE_ERROR).into();
            let count = raw.error_count.get().saturating_add(waiting.errors);
            raw.error_count = count.into();
            raw.set_errors(waiting.first.take(), waiting.last.take());
            waiting.errors = 0;
        }
        if self.large_files.take() {
            raw.allow_large_files();
        }
        if self.attributes.take() {
            raw.allow_attributes();
        }
        if let Some((so_far, device)) = &self.written {
            raw.kbytes_written = so_far.saturating_add(device.written() / 1024).into();
        }
        raw.set_written(now());
    }
}

/// Makes the copy of the superblock in `bytes`, which a replay is to bring home over `before`, one that
/// still asks for a replay, and that knows of the errors that were recorded after it.
pub(crate) fn make_recovering(bytes: &mut [u8], before: &[u8; SIZE]) {
    let Ok(old) = RawSuperblock::parse(before) else { return };
    let Ok((raw, _)) = RawSuperblock::mut_from_prefix(bytes) else { return };
    if raw.magic != old.magic {
        return;
    }
    raw.feature_incompat = (raw.feature_incompat.get() | Incompat::RECOVER.bits()).into();
    if raw.error_count.get() < old.error_count.get() {
        raw.keep_errors(old);
    }
    if raw.features().metadata_csum() {
        raw.checksum = raw.computed_checksum().into();
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What mounting for writing changes.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    /// There is a log that may have to be replayed.
    pub(crate) logged: bool,
    /// The log said that its last user was stopped by an error.
    pub(crate) failed: bool,
    /// Where it is mounted, if known.
    pub(crate) mount_point: Option<Vec<u8>>,
}

impl RawSuperblock {
    /// The superblock of a file system that begins to be written.
    pub(crate) fn open(&mut self, opening: &Opening) {
        if opening.logged {
            self.feature_incompat = (self.feature_incompat.get() | Incompat::RECOVER.bits()).into();
            if self.features().compat.contains(Compat::ORPHAN_FILE) {
                let present = RoCompat::ORPHAN_PRESENT.bits();
                self.feature_ro_compat = (self.feature_ro_compat.get() | present).into();
            }
        } else {
            self.state = (self.state.get() & !STATE_VALID).into();
        }
        if opening.failed {
            self.state = (self.state.get() | STATE_ERROR).into();
        }
        self.mnt_count = self.mnt_count.get().wrapping_add(1).into();
        let now = now();
        (self.mtime, self.mtime_hi) = split(now);
        self.set_written(now);
        if let Some(path) = &opening.mount_point {
            self.last_mounted = padded(path);
        }
    }

    /// The superblock of a file system of which everything is home. `valid`: it was so before.
    /// `orphans`: there are some.
    pub(crate) fn close(&mut self, valid: bool, orphans: bool) {
        let gone = Incompat::RECOVER.bits();
        self.feature_incompat = (self.feature_incompat.get() & !gone).into();
        if valid {
            self.state = (self.state.get() | STATE_VALID).into();
        }
        if !orphans {
            let gone = RoCompat::ORPHAN_PRESENT.bits();
            self.feature_ro_compat = (self.feature_ro_compat.get() & !gone).into();
        }
    }

    /// A superblock of revision 0 has no features: it becomes one of revision 1, which says what was
    /// fixed before.
    fn allow_features(&mut self) {
        if self.rev_level.get() == 0 {
            (self.rev_level, self.first_ino, self.inode_size) = (1.into(), 11.into(), 128.into());
        }
    }

    /// Kernel: fs/ext4/xattr.c `ext4_xattr_update_super_block`
    fn allow_attributes(&mut self) {
        self.allow_features();
        self.feature_compat = (self.feature_compat.get() | Compat::EXT_ATTR.bits()).into();
    }

    fn allow_large_files(&mut self) {
        self.allow_features();
        let large = RoCompat::LARGE_FILE.bits();
        self.feature_ro_compat = (self.feature_ro_compat.get() | large).into();
    }

    /// Sets the label; what is longer than [`LABEL_BYTES`] is cut.
    pub(crate) fn set_label(&mut self, label: &[u8]) {
        self.volume_name = padded::<LABEL_BYTES>(label);
    }

    fn set_written(&mut self, now: u64) {
        (self.wtime, self.wtime_hi) = split(now);
    }

    fn set_free(&mut self, blocks: u64, inodes: u64) {
        let [a, b, c, d, e, f, g, h] = blocks.to_le_bytes();
        self.free_blocks_count_lo = u32::from_le_bytes([a, b, c, d]).into();
        if self.features().incompat.contains(Incompat::BIT64) {
            self.free_blocks_count_hi = u32::from_le_bytes([e, f, g, h]).into();
        }
        self.free_inodes_count = u32::try_from(inodes).unwrap_or(u32::MAX).into();
    }

    fn set_errors(&mut self, first: Option<ErrorRecord>, last: Option<ErrorRecord>) {
        let is_first = self.first_error_time.get() == 0 && self.first_error_time_hi == 0;
        if let Some(first) = first.filter(|_| is_first) {
            (self.first_error_time, self.first_error_time_hi) = split(first.time);
            self.first_error_ino = first.inode.into();
            self.first_error_block = first.block.into();
            self.first_error_func = padded(&first.function);
            self.first_error_line = first.line.into();
            self.first_error_errcode = first.code;
        }
        if let Some(last) = last {
            (self.last_error_time, self.last_error_time_hi) = split(last.time);
            self.last_error_ino = last.inode.into();
            self.last_error_block = last.block.into();
            self.last_error_func = padded(&last.function);
            self.last_error_line = last.line.into();
            self.last_error_errcode = last.code;
        }
    }

    fn keep_errors(&mut self, other: &Self) {
        self.error_count = other.error_count;
        self.state = (self.state.get() | other.state.get() & STATE_ERROR).into();
        self.first_error_time = other.first_error_time;
        self.first_error_time_hi = other.first_error_time_hi;
        self.first_error_ino = other.first_error_ino;
        self.first_error_block = other.first_error_block;
        self.first_error_func = other.first_error_func;
        self.first_error_line = other.first_error_line;
        self.first_error_errcode = other.first_error_errcode;
        self.last_error_time = other.last_error_time;
        self.last_error_time_hi = other.last_error_time_hi;
        self.last_error_ino = other.last_error_ino;
        self.last_error_block = other.last_error_block;
        self.last_error_func = other.last_error_func;
        self.last_error_line = other.last_error_line;
        self.last_error_errcode = other.last_error_errcode;
    }
}

/// The low 32 bits of a time and the eight above them.
fn split(time: u64) -> (zerocopy::little_endian::U32, u8) {
    let [a, b, c, d, e, ..] = time.to_le_bytes();
    (u32::from_le_bytes([a, b, c, d]).into(), e)
}

/// `text` cut or filled up with NULs.
fn padded<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut field = [0; N];
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
    field
}

/// EXT4_ERR_*: what the superblock calls errors.
fn code(error: &Error) -> u8 {
    const UNKNOWN: u8 = 1;
    const IO: u8 = 2;
    const BAD_CHECKSUM: u8 = 4;
    const CORRUPTED: u8 = 5;
    match error {
        Error::Io { .. } => IO,
        Error::Corrupt { kind, .. } if kind.is_checksum() => BAD_CHECKSUM,
        Error::Corrupt { .. } => CORRUPTED,
        Error::Refused(_) | Error::Unmountable(_) => UNKNOWN,
    }
}

fn record(error: &Error) -> ErrorRecord {
    let (place, function) = match error {
        Error::Corrupt { kind, place } => (*place, kind.code().as_bytes()),
        Error::Io { place, .. } => (*place, "device-error".as_bytes()),
        Error::Refused(_) | Error::Unmountable(_) => (Place::default(), "aborted".as_bytes()),
    };
    ErrorRecord {
        time: now(),
        inode: place.inode.map_or(0, |inode| inode.get()),
        block: place.block.map_or(0, |block| block.get()),
        function: function.to_vec(),
        line: 0,
        code: code(error),
    }
}
