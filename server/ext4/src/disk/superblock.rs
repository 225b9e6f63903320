//! The superblock: 1024 bytes at offset 1024, and copies in some block groups.
//!
//! [`RawSuperblock`] is the layout; `geometry.rs` turns it into facts that were checked.
//! Source: Documentation/filesystems/ext4/super.rst.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::crc32c;
use crate::error::{Place, Result, Unmountable};
use crate::features::{Compat, Features, Incompat, RoCompat};

/// Bytes from the start of the device to the primary superblock.
pub const OFFSET: u64 = 1024;
/// Bytes of a superblock.
pub const SIZE: usize = 1024;
/// s_magic.
pub const MAGIC: u16 = 0xef53;

/// `struct ext4_super_block`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct RawSuperblock {
    pub(crate) inodes_count: U32,            // 0x000
    pub(crate) blocks_count_lo: U32,         // 0x004
    pub(crate) r_blocks_count_lo: U32,       // 0x008
    pub(crate) free_blocks_count_lo: U32,    // 0x00c
    pub(crate) free_inodes_count: U32,       // 0x010
    pub(crate) first_data_block: U32,        // 0x014
    pub(crate) log_block_size: U32,          // 0x018
    pub(crate) log_cluster_size: U32,        // 0x01c
    pub(crate) blocks_per_group: U32,        // 0x020
    pub(crate) clusters_per_group: U32,      // 0x024
    pub(crate) inodes_per_group: U32,        // 0x028
    pub(crate) mtime: U32,                   // 0x02c
    pub(crate) wtime: U32,                   // 0x030
    pub(crate) mnt_count: U16,               // 0x034
    pub(crate) max_mnt_count: U16,           // 0x036
    pub(crate) magic: U16,                   // 0x038
    pub(crate) state: U16,                   // 0x03a
    pub(crate) errors: U16,                  // 0x03c
    pub(crate) minor_rev_level: U16,         // 0x03e
    pub(crate) lastcheck: U32,               // 0x040
    pub(crate) checkinterval: U32,           // 0x044
    pub(crate) creator_os: U32,              // 0x048
    pub(crate) rev_level: U32,               // 0x04c
    pub(crate) def_resuid: U16,              // 0x050
    pub(crate) def_resgid: U16,              // 0x052
    pub(crate) first_ino: U32,               // 0x054
    pub(crate) inode_size: U16,              // 0x058
    pub(crate) block_group_nr: U16,          // 0x05a
    pub(crate) feature_compat: U32,          // 0x05c
    pub(crate) feature_incompat: U32,        // 0x060
    pub(crate) feature_ro_compat: U32,       // 0x064
    pub(crate) uuid: [u8; 16],               // 0x068
    pub(crate) volume_name: [u8; 16],        // 0x078
    pub(crate) last_mounted: [u8; 64],       // 0x088
    pub(crate) algorithm_usage_bitmap: U32,  // 0x0c8
    pub(crate) prealloc_blocks: u8,          // 0x0cc
    pub(crate) prealloc_dir_blocks: u8,      // 0x0cd
    pub(crate) reserved_gdt_blocks: U16,     // 0x0ce
    pub(crate) journal_uuid: [u8; 16],       // 0x0d0
    pub(crate) journal_inum: U32,            // 0x0e0
    pub(crate) journal_dev: U32,             // 0x0e4
    pub(crate) last_orphan: U32,             // 0x0e8
    pub(crate) hash_seed: [U32; 4],          // 0x0ec
    pub(crate) def_hash_version: u8,         // 0x0fc
    pub(crate) jnl_backup_type: u8,          // 0x0fd
    pub(crate) desc_size: U16,               // 0x0fe
    pub(crate) default_mount_opts: U32,      // 0x100
    pub(crate) first_meta_bg: U32,           // 0x104
    pub(crate) mkfs_time: U32,               // 0x108
    pub(crate) jnl_blocks: [U32; 17],        // 0x10c
    pub(crate) blocks_count_hi: U32,         // 0x150
    pub(crate) r_blocks_count_hi: U32,       // 0x154
    pub(crate) free_blocks_count_hi: U32,    // 0x158
    pub(crate) min_extra_isize: U16,         // 0x15c
    pub(crate) want_extra_isize: U16,        // 0x15e
    pub(crate) flags: U32,                   // 0x160
    pub(crate) raid_stride: U16,             // 0x164
    pub(crate) mmp_interval: U16,            // 0x166
    pub(crate) mmp_block: U64,               // 0x168
    pub(crate) raid_stripe_width: U32,       // 0x170
    pub(crate) log_groups_per_flex: u8,      // 0x174
    pub(crate) checksum_type: u8,            // 0x175
    pub(crate) encryption_level: u8,         // 0x176
    pub(crate) reserved_pad: u8,             // 0x177
    pub(crate) kbytes_written: U64,          // 0x178
    pub(crate) snapshot_inum: U32,           // 0x180
    pub(crate) snapshot_id: U32,             // 0x184
    pub(crate) snapshot_r_blocks_count: U64, // 0x188
    pub(crate) snapshot_list: U32,           // 0x190
    pub(crate) error_count: U32,             // 0x194
    pub(crate) first_error_time: U32,        // 0x198
    pub(crate) first_error_ino: U32,         // 0x19c
    pub(crate) first_error_block: U64,       // 0x1a0
    pub(crate) first_error_func: [u8; 32],   // 0x1a8
    pub(crate) first_error_line: U32,        // 0x1c8
    pub(crate) last_error_time: U32,         // 0x1cc
    pub(crate) last_error_ino: U32,          // 0x1d0
    pub(crate) last_error_line: U32,         // 0x1d4
    pub(crate) last_error_block: U64,        // 0x1d8
    pub(crate) last_error_func: [u8; 32],    // 0x1e0
    pub(crate) mount_opts: [u8; 64],         // 0x200
    pub(crate) usr_quota_inum: U32,          // 0x240
    pub(crate) grp_quota_inum: U32,          // 0x244
    pub(crate) overhead_clusters: U32,       // 0x248
    pub(crate) backup_bgs: [U32; 2],         // 0x24c
    pub(crate) encrypt_algos: [u8; 4],       // 0x254
    pub(crate) encrypt_pw_salt: [u8; 16],    // 0x258
    pub(crate) lpf_ino: U32,                 // 0x268
    pub(crate) prj_quota_inum: U32,          // 0x26c
    pub(crate) checksum_seed: U32,           // 0x270
    pub(crate) wtime_hi: u8,                 // 0x274
    pub(crate) mtime_hi: u8,                 // 0x275
    pub(crate) mkfs_time_hi: u8,             // 0x276
    pub(crate) lastcheck_hi: u8,             // 0x277
    pub(crate) first_error_time_hi: u8,      // 0x278
    pub(crate) last_error_time_hi: u8,       // 0x279
    pub(crate) first_error_errcode: u8,      // 0x27a
    pub(crate) last_error_errcode: u8,       // 0x27b
    pub(crate) encoding: U16,                // 0x27c
    pub(crate) encoding_flags: U16,          // 0x27e
    pub(crate) orphan_file_inum: U32,        // 0x280
    pub(crate) def_resuid_hi: U16,           // 0x284
    pub(crate) def_resgid_hi: U16,           // 0x286
    pub(crate) reserved: [U32; 93],          // 0x288
    pub(crate) checksum: U32,                // 0x3fc
}

const _: () = assert!(size_of::<RawSuperblock>() == SIZE);

impl core::fmt::Debug for RawSuperblock {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RawSuperblock").field("magic", &self.magic).finish_non_exhaustive()
    }
}

impl RawSuperblock {
    /// The superblock in `bytes`, if they begin with one.
    ///
    /// # Errors
    /// [`Unmountable::NotExt4`] without the magic.
    pub(crate) fn parse(bytes: &[u8; SIZE]) -> Result<&Self> {
        let raw: &Self = super::prefix(Place::default(), bytes)?;
        if raw.magic.get() != MAGIC {
            return Err(Unmountable::NotExt4.into());
        }
        Ok(raw)
    }

    pub(crate) fn features(&self) -> Features {
        Features {
            compat: Compat::new(self.feature_compat.get()),
            incompat: Incompat::new(self.feature_incompat.get()),
            ro_compat: RoCompat::new(self.feature_ro_compat.get()),
        }
    }

    /// A count of blocks from its halves; the high one counts with 64bit only.
    pub(crate) fn wide(&self, lo: U32, hi: U32) -> u64 {
        if self.features().incompat.contains(Incompat::BIT64) {
            join(lo, hi)
        } else {
            lo.get().into()
        }
    }

    /// The checksum over all that stands before it.
    pub(crate) fn computed_checksum(&self) -> u32 {
        crc32c(!0, self.as_bytes().split_at(SIZE - 4).0)
    }
}

/// Joins the two halves of a 64-bit number.
pub(crate) fn join(lo: U32, hi: U32) -> u64 {
    u64::from(lo.get()) | u64::from(hi.get()) << 32
}

/// `bytes` up to the first NUL.
pub(crate) fn text(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().take_while(|&byte| byte != 0).collect()
}

/// A time in seconds since 1970 from its low 32 bits and the eight above them.
pub(crate) fn seconds(lo: U32, hi: u8) -> u64 {
    u64::from(lo.get()) | u64::from(hi) << 32
}
