//! Numbers that name things on the disk, each a type of its own.
//!
//! Raw values enter by `new` and leave by `get`; arithmetic is checked, because every one of these
//! may come from a hostile image.
//! Kernel: `ext4_fsblk_t`, `ext4_lblk_t`, `ext4_group_t` in fs/ext4/ext4.h.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name($raw);

        impl $name {
            /// Wraps a raw number; any value is representable.
            #[must_use]
            pub const fn new(raw: $raw) -> Self {
                Self(raw)
            }

            /// The raw number.
            #[must_use]
            pub const fn get(self) -> $raw {
                self.0
            }

            /// This number plus `count`, or `None` past the type's range.
            #[must_use]
            pub const fn checked_add(self, count: $raw) -> Option<Self> {
                match self.0.checked_add(count) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// This number minus `count`, or `None` below zero.
            #[must_use]
            pub const fn checked_sub(self, count: $raw) -> Option<Self> {
                match self.0.checked_sub(count) {
                    Some(rest) => Some(Self(rest)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A block of the file system, counted from the start of the device (`ext4_fsblk_t`).
    BlockNr(u64)
}
number! {
    /// A block of a file, counted from its start (`ext4_lblk_t`).
    LogicalBlock(u32)
}
number! {
    /// A block group (`ext4_group_t`).
    GroupNr(u32)
}
number! {
    /// An inode; 0 names none, 2 is the root directory.
    InodeNr(u32)
}
number! {
    /// A jbd2 transaction; compared modulo 2^32, see `journal`.
    Tid(u32)
}

impl Tid {
    /// Whether this transaction is `other` or a later one.
    #[must_use]
    pub const fn reached(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) < 1 << 31
    }

    /// The transaction after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl InodeNr {
    /// EXT4_ROOT_INO.
    pub const ROOT: Self = Self::new(2);
    /// EXT4_JOURNAL_INO, the usual value of s_journal_inum.
    pub const JOURNAL: Self = Self::new(8);
}

/// `value` as an index or length in memory. Lossless: the engine runs on 64-bit targets only.
#[must_use]
pub const fn in_memory(value: u64) -> usize {
    const { assert!(size_of::<usize>() == size_of::<u64>()) };
    #[expect(clippy::as_conversions, reason = "usize is 64 bits wide, asserted above")]
    {
        value as usize
    }
}

/// A length in memory as a 64-bit number.
#[must_use]
pub const fn on_disk(value: usize) -> u64 {
    #[expect(clippy::as_conversions, reason = "usize is 64 bits wide, see in_memory")]
    {
        value as u64
    }
}
