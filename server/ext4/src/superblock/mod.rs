//! The superblock: read, checked, and told apart into layout ([`Geometry`]) and everything else
//! ([`Facts`]).
//!
//! [`Live`] is how it is written.
//! Kernel: fs/ext4/super.c `ext4_load_super`

mod live;

use crate::device::BlockDevice;
use crate::disk::superblock::{OFFSET, RawSuperblock, SIZE, seconds, text};
use crate::error::{CorruptKind, Error, IoOp, Place, Result, Unmountable};
use crate::geometry::{self, Geometry};
use crate::ids::{BlockNr, GroupNr, InodeNr, on_disk};
use crate::source::Source;

pub(crate) use live::{LABEL_BYTES, Live, Opening, STATE_ERROR, STATE_VALID, make_recovering, now};

/// A superblock that passed all checks.
#[derive(Clone, Debug)]
pub(crate) struct Superblock {
    pub(crate) geometry: Geometry,
    pub(crate) facts: Facts,
}

/// What the superblock says that the layout does not depend on. Nothing here is trusted further
/// than its own use.
#[derive(Clone, Debug)]
pub struct Facts {
    /// s_state: 1 cleanly unmounted, 2 errors seen, 4 orphans being recovered.
    pub state: u16,
    /// s_errors: what the file system wants done on errors; 1 continue, 2 remount-ro, 3 panic.
    pub errors: u16,
    /// s_creator_os: 0 Linux, 1 Hurd, 2 Masix, 3 FreeBSD, 4 Lites.
    pub creator_os: u32,
    /// s_rev_level: 0 or 1.
    pub revision: u32,
    /// Blocks kept for the reserve's owner.
    pub reserved_blocks: u64,
    /// Who may use the reserve, by user.
    pub reserved_uid: u32,
    /// Who may use the reserve, by group.
    pub reserved_gid: u32,
    /// Free blocks as last written; the group descriptors know better.
    pub free_blocks: u64,
    /// Free inodes as last written; the group descriptors know better.
    pub free_inodes: u32,
    /// Clusters of metadata as mke2fs or resize2fs counted them; 0 if not counted.
    pub overhead_clusters: u32,
    /// The inode of the journal, if it is inside.
    pub journal_inode: Option<InodeNr>,
    /// Device number of the journal when it was made, if it is outside.
    pub journal_device: Option<u32>,
    /// The UUID of an outside journal.
    pub journal_uuid: [u8; 16],
    /// i_block (15 words), i_size_high and i_size of the journal's inode, where a copy is kept.
    pub journal_backup: Option<[u32; 17]>,
    /// First of the list of orphans.
    pub last_orphan: Option<InodeNr>,
    /// The inode of the orphan file.
    pub orphan_file: Option<InodeNr>,
    /// The block of multi-mount protection; 0 without.
    pub mmp_block: u64,
    /// Seconds between updates of multi-mount protection.
    pub mmp_interval: u16,
    /// The quota files: user, group, project.
    pub quota_inodes: [Option<InodeNr>; 3],
    /// s_default_mount_opts.
    pub default_mount_options: u32,
    /// s_mount_opts: options as text, up to the first NUL.
    pub mount_options: Vec<u8>,
    /// Where it was mounted last, up to the first NUL.
    pub last_mounted: Vec<u8>,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// When it was mounted last for writing, in seconds since 1970.
    pub mounted: u64,
    /// When the superblock was written last, in seconds since 1970.
    pub written: u64,
    /// When it was checked last, in seconds since 1970.
    pub checked: u64,
    /// Mounts since the last check.
    pub mount_count: u16,
    /// Mounts after which a check is due; negative or 0 for never.
    pub max_mount_count: i16,
    /// log2 of the groups that keep their metadata together (flex_bg).
    pub log_groups_per_flex: u8,
    /// KiB written in the life of the file system.
    pub kbytes_written: u64,
    /// Errors recorded since the last check.
    pub error_count: u32,
    /// The first of them.
    pub first_error: Option<ErrorRecord>,
    /// The last of them.
    pub last_error: Option<ErrorRecord>,
}

/// An error that a driver recorded in the superblock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorRecord {
    /// When, in seconds since 1970.
    pub time: u64,
    /// The inode involved, or 0.
    pub inode: u32,
    /// The block involved, or 0.
    pub block: u64,
    /// The driver's function, up to the first NUL.
    pub function: Vec<u8>,
    /// The line in its source.
    pub line: u32,
    /// EXT4_ERR_*, or 0.
    pub code: u8,
}

impl Superblock {
    /// Reads the superblock at `kib` KiB, else the primary one.
    ///
    /// # Errors
    /// Unmountable, Corrupt or I/O. A primary one that is damaged while a backup is sound is
    /// [`Unmountable::SuperblockDamaged`]: the backup may be old, so using it is a person's choice.
    pub(crate) fn read(device: &dyn BlockDevice, kib: Option<u64>) -> Result<Self> {
        let place = place(kib)?;
        let bytes = read(device, place)?;
        if kib.is_some() {
            return Self::parse(&bytes, place, device.size());
        }
        let error = match Self::parse(&bytes, place, device.size()) {
            Err(error @ (Error::Corrupt { .. } | Error::Unmountable(Unmountable::NotExt4))) => {
                error
            }
            answer => return answer,
        };
        let Some((backup, block_size)) = find_backup(device, &bytes) else { return Err(error) };
        let damage = if let Error::Corrupt { kind, .. } = error { Some(kind) } else { None };
        Err(Unmountable::SuperblockDamaged { damage, backup, block_size }.into())
    }

    /// Reads it once more, through the journal's overlay.
    ///
    /// # Errors
    /// As [`Superblock::read`]; Corrupt also if the size of blocks is another one now.
    pub(crate) fn read_again(source: &Source, kib: Option<u64>) -> Result<Self> {
        let place = place(kib)?;
        let mut bytes = [0; SIZE];
        let size = u64::from(source.block_size());
        let block = place.checked_div(size).map(BlockNr::new).unwrap_or_default();
        let skip = u32::try_from(place.checked_rem(size).unwrap_or(0)).unwrap_or(0);
        source.read(block, skip, &mut bytes)?;
        let found = Self::parse(&bytes, place, source.device().size())?;
        if found.geometry.block_size != source.block_size() {
            let (field, value) = ("s_log_block_size", found.geometry.block_size.into());
            let kind = CorruptKind::SuperblockField { field, value };
            return Err(Error::corrupt(Place::default(), kind));
        }
        Ok(found)
    }

    /// Checks `bytes`, which were read from byte `place` of a device of `device_bytes`.
    ///
    /// # Errors
    /// Unmountable or Corrupt.
    pub(crate) fn parse(bytes: &[u8; SIZE], place: u64, device_bytes: u64) -> Result<Self> {
        let raw = RawSuperblock::parse(bytes)?;
        Ok(Self { geometry: Geometry::new(raw, place, device_bytes)?, facts: Facts::new(raw) })
    }
}

/// The byte at which the superblock at `kib` KiB lies, else the primary one.
pub(crate) fn place(kib: Option<u64>) -> Result<u64> {
    let Some(kib) = kib else { return Ok(OFFSET) };
    kib.checked_mul(1024).ok_or(Unmountable::NotExt4.into())
}

/// The bytes of the superblock at byte `place`.
///
/// # Errors
/// [`Unmountable::DeviceTooSmall`]; I/O errors.
pub(crate) fn read(device: &dyn BlockDevice, place: u64) -> Result<[u8; SIZE]> {
    let mut bytes = [0; SIZE];
    let size = device.size();
    if place.checked_add(on_disk(SIZE)).is_none_or(|end| end > size) {
        return Err(Unmountable::DeviceTooSmall { device: size }.into());
    }
    let fail = |source| Error::Io { op: IoOp::Read, place: Place::default(), source };
    device.read_at(place, &mut bytes).map_err(fail)?;
    Ok(bytes)
}

/// Groups that hold a backup on nearly every file system.
const BACKUP_GROUPS: [u32; 7] = [1, 3, 5, 7, 9, 25, 27];

/// Where a sound backup is, in KiB, and its block size: looked for where mke2fs puts it by default,
/// and where the damaged superblock says if it still can.
fn find_backup(device: &dyn BlockDevice, damaged: &[u8; SIZE]) -> Option<(u64, u32)> {
    let hint = geometry::group_size_of(damaged);
    let usual = (10..=16).map(|log| 1_u32 << log).map(|size| (size, size.saturating_mul(8)));
    for (block_size, group_blocks) in hint.into_iter().chain(usual) {
        for group in BACKUP_GROUPS {
            let first = u64::from(block_size == 1024);
            let start = u64::from(group).saturating_mul(group_blocks.into()).saturating_add(first);
            let place = start.saturating_mul(block_size.into());
            if read(device, place).is_ok_and(|bytes| is_backup(&bytes, place, device.size())) {
                return Some((place / 1024, block_size));
            }
        }
    }
    None
}

/// Whether `bytes` are a sound superblock that says itself that it belongs at byte `place`.
fn is_backup(bytes: &[u8; SIZE], place: u64, device_bytes: u64) -> bool {
    let group = RawSuperblock::parse(bytes).map(|raw| raw.block_group_nr.get());
    let (Ok(group), Ok(found)) = (group, Superblock::parse(bytes, place, device_bytes)) else {
        return false;
    };
    let start = found.geometry.first_block(GroupNr::new(group.into()));
    start.get().checked_mul(found.geometry.block_size.into()) == Some(place)
}

impl Facts {
    pub(crate) fn new(raw: &RawSuperblock) -> Self {
        Self {
            state: raw.state.get(),
            errors: raw.errors.get(),
            creator_os: raw.creator_os.get(),
            revision: raw.rev_level.get(),
            reserved_blocks: raw.wide(raw.r_blocks_count_lo, raw.r_blocks_count_hi),
            reserved_uid: u32::from(raw.def_resuid.get())
                | u32::from(raw.def_resuid_hi.get()) << 16,
            reserved_gid: u32::from(raw.def_resgid.get())
                | u32::from(raw.def_resgid_hi.get()) << 16,
            free_blocks: raw.wide(raw.free_blocks_count_lo, raw.free_blocks_count_hi),
            free_inodes: raw.free_inodes_count.get(),
            overhead_clusters: raw.overhead_clusters.get(),
            journal_inode: inode(raw.journal_inum.get()),
            journal_device: Some(raw.journal_dev.get()).filter(|&device| device != 0),
            journal_uuid: raw.journal_uuid,
            journal_backup: (raw.jnl_backup_type == 1)
                .then(|| raw.jnl_blocks.map(|word| word.get())),
            last_orphan: inode(raw.last_orphan.get()),
            orphan_file: inode(raw.orphan_file_inum.get()),
            mmp_block: raw.mmp_block.get(),
            mmp_interval: raw.mmp_interval.get(),
            quota_inodes: [raw.usr_quota_inum, raw.grp_quota_inum, raw.prj_quota_inum]
                .map(|nr| inode(nr.get())),
            default_mount_options: raw.default_mount_opts.get(),
            mount_options: text(&raw.mount_opts),
            last_mounted: text(&raw.last_mounted),
            made: seconds(raw.mkfs_time, raw.mkfs_time_hi),
            mounted: seconds(raw.mtime, raw.mtime_hi),
            written: seconds(raw.wtime, raw.wtime_hi),
            checked: seconds(raw.lastcheck, raw.lastcheck_hi),
            mount_count: raw.mnt_count.get(),
            max_mount_count: raw.max_mnt_count.get().cast_signed(),
            log_groups_per_flex: raw.log_groups_per_flex,
            kbytes_written: raw.kbytes_written.get(),
            error_count: raw.error_count.get(),
            first_error: first_error(raw),
            last_error: last_error(raw),
        }
    }
}

fn inode(nr: u32) -> Option<InodeNr> {
    (nr != 0).then(|| InodeNr::new(nr))
}

fn first_error(raw: &RawSuperblock) -> Option<ErrorRecord> {
    let time = seconds(raw.first_error_time, raw.first_error_time_hi);
    (time != 0).then(|| ErrorRecord {
        time,
        inode: raw.first_error_ino.get(),
        block: raw.first_error_block.get(),
        function: text(&raw.first_error_func),
        line: raw.first_error_line.get(),
        code: raw.first_error_errcode,
    })
}

fn last_error(raw: &RawSuperblock) -> Option<ErrorRecord> {
    let time = seconds(raw.last_error_time, raw.last_error_time_hi);
    (time != 0).then(|| ErrorRecord {
        time,
        inode: raw.last_error_ino.get(),
        block: raw.last_error_block.get(),
        function: text(&raw.last_error_func),
        line: raw.last_error_line.get(),
        code: raw.last_error_errcode,
    })
}
