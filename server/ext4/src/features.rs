//! The feature bits, by kind, with the names that dumpe2fs and mke2fs use.
//!
//! Source: Documentation/filesystems/ext4/super.rst, s_feature_{compat,incompat,ro_compat}.

use core::fmt;

macro_rules! features {
    ($(#[$doc:meta])* $set:ident { $($name:ident = $bit:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $set(u32);

        impl $set {
            $(
                #[doc = $text]
                pub const $name: Self = Self($bit);
            )*

            const NAMES: &'static [(u32, &'static str)] = &[ $(($bit, $text)),* ];

            /// Takes the bits as they are, known or not.
            #[must_use]
            pub const fn new(bits: u32) -> Self {
                Self(bits)
            }

            /// The raw bits.
            #[must_use]
            pub const fn bits(self) -> u32 {
                self.0
            }

            /// Whether all bits of `other` are set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The bits that are set here and not in `known`.
            #[must_use]
            pub const fn without(self, known: Self) -> Self {
                Self(self.0 & !known.0)
            }

            /// Both sets.
            #[must_use]
            pub const fn union(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Whether no bit is set.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }
        }

        impl fmt::Display for $set {
            /// The names, comma separated; bits without a name in hex.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut rest = self.0;
                let mut separator = "";
                for (bit, name) in Self::NAMES {
                    if self.0 & bit != 0 {
                        write!(f, "{separator}{name}")?;
                        separator = ",";
                        rest &= !bit;
                    }
                }
                if rest != 0 {
                    write!(f, "{separator}{rest:#x}")?;
                }
                Ok(())
            }
        }
    };
}

features! {
    /// Features that any driver may ignore.
    Compat {
        DIR_PREALLOC = 0x1, "dir_prealloc";
        IMAGIC_INODES = 0x2, "imagic_inodes";
        HAS_JOURNAL = 0x4, "has_journal";
        EXT_ATTR = 0x8, "ext_attr";
        RESIZE_INODE = 0x10, "resize_inode";
        DIR_INDEX = 0x20, "dir_index";
        LAZY_BG = 0x40, "lazy_bg";
        EXCLUDE_INODE = 0x80, "exclude_inode";
        EXCLUDE_BITMAP = 0x100, "snapshot_bitmap";
        SPARSE_SUPER2 = 0x200, "sparse_super2";
        FAST_COMMIT = 0x400, "fast_commit";
        STABLE_INODES = 0x800, "stable_inodes";
        ORPHAN_FILE = 0x1000, "orphan_file";
    }
}

features! {
    /// Features that a driver must know to read.
    Incompat {
        COMPRESSION = 0x1, "compression";
        FILETYPE = 0x2, "filetype";
        RECOVER = 0x4, "needs_recovery";
        JOURNAL_DEV = 0x8, "journal_dev";
        META_BG = 0x10, "meta_bg";
        EXTENTS = 0x40, "extent";
        BIT64 = 0x80, "64bit";
        MMP = 0x100, "mmp";
        FLEX_BG = 0x200, "flex_bg";
        EA_INODE = 0x400, "ea_inode";
        DIRDATA = 0x1000, "dirdata";
        CSUM_SEED = 0x2000, "metadata_csum_seed";
        LARGEDIR = 0x4000, "large_dir";
        INLINE_DATA = 0x8000, "inline_data";
        ENCRYPT = 0x1_0000, "encrypt";
        CASEFOLD = 0x2_0000, "casefold";
    }
}

features! {
    /// Features that a driver must know to write.
    RoCompat {
        SPARSE_SUPER = 0x1, "sparse_super";
        LARGE_FILE = 0x2, "large_file";
        BTREE_DIR = 0x4, "btree_dir";
        HUGE_FILE = 0x8, "huge_file";
        GDT_CSUM = 0x10, "uninit_bg";
        DIR_NLINK = 0x20, "dir_nlink";
        EXTRA_ISIZE = 0x40, "extra_isize";
        HAS_SNAPSHOT = 0x80, "snapshot";
        QUOTA = 0x100, "quota";
        BIGALLOC = 0x200, "bigalloc";
        METADATA_CSUM = 0x400, "metadata_csum";
        REPLICA = 0x800, "replica";
        READONLY = 0x1000, "read-only";
        PROJECT = 0x2000, "project";
        SHARED_BLOCKS = 0x4000, "shared_blocks";
        VERITY = 0x8000, "verity";
        ORPHAN_PRESENT = 0x1_0000, "orphan_present";
    }
}

impl Incompat {
    /// What the engine reads.
    pub const KNOWN: Self = Self::FILETYPE
        .union(Self::RECOVER)
        .union(Self::META_BG)
        .union(Self::EXTENTS)
        .union(Self::BIT64)
        .union(Self::MMP)
        .union(Self::FLEX_BG)
        .union(Self::EA_INODE)
        .union(Self::CSUM_SEED)
        .union(Self::LARGEDIR)
        .union(Self::INLINE_DATA)
        .union(Self::ENCRYPT)
        .union(Self::CASEFOLD);
}

impl RoCompat {
    /// What the engine writes.
    pub const KNOWN: Self = Self::SPARSE_SUPER
        .union(Self::LARGE_FILE)
        .union(Self::BTREE_DIR)
        .union(Self::HUGE_FILE)
        .union(Self::GDT_CSUM)
        .union(Self::DIR_NLINK)
        .union(Self::EXTRA_ISIZE)
        .union(Self::QUOTA)
        .union(Self::BIGALLOC)
        .union(Self::METADATA_CSUM)
        .union(Self::PROJECT)
        .union(Self::VERITY)
        .union(Self::ORPHAN_PRESENT);
}

/// The three sets of one file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// Any driver may ignore these.
    pub compat: Compat,
    /// A reader must know these.
    pub incompat: Incompat,
    /// A writer must know these.
    pub ro_compat: RoCompat,
}

impl Features {
    /// Whether metadata carries crc32c checksums.
    #[must_use]
    pub const fn metadata_csum(&self) -> bool {
        self.ro_compat.contains(RoCompat::METADATA_CSUM)
    }

    /// Whether group descriptors carry checksums, so that parts of a group may be uninitialised.
    #[must_use]
    pub const fn group_checksums(&self) -> bool {
        self.metadata_csum() || self.ro_compat.contains(RoCompat::GDT_CSUM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_bits_are_named_in_hex_after_the_known_ones() {
        let bits = Incompat::new(0x8000_0000).union(Incompat::CASEFOLD);
        assert_eq!(bits.to_string(), "casefold,0x80000000");
    }
}
