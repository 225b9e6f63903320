//! How often the kernel asked for what, and how long the answers took.

use serde::{Deserialize, Serialize};

/// Buckets of a histogram of latencies, see [`bucket_of`].
pub const LATENCY_BUCKETS: usize = 27;
/// Nanoseconds below which a latency is in the first bucket; each further one reaches twice as far.
const FIRST_BUCKET: u64 = 256;

/// FUSE opcodes and what they are called here, in ascending order; 0 stands for all that have no name.
const NAMES: [(u16, &str); 50] = [
    (0, "unknown"),
    (1, "lookup"),
    (2, "forget"),
    (3, "getattr"),
    (4, "setattr"),
    (5, "readlink"),
    (6, "symlink"),
    (8, "mknod"),
    (9, "mkdir"),
    (10, "unlink"),
    (11, "rmdir"),
    (12, "rename"),
    (13, "link"),
    (14, "open"),
    (15, "read"),
    (16, "write"),
    (17, "statfs"),
    (18, "release"),
    (20, "fsync"),
    (21, "setxattr"),
    (22, "getxattr"),
    (23, "listxattr"),
    (24, "removexattr"),
    (25, "flush"),
    (26, "init"),
    (27, "opendir"),
    (28, "readdir"),
    (29, "releasedir"),
    (30, "fsyncdir"),
    (31, "getlk"),
    (32, "setlk"),
    (33, "setlkw"),
    (34, "access"),
    (35, "create"),
    (36, "interrupt"),
    (37, "bmap"),
    (38, "destroy"),
    (39, "ioctl"),
    (40, "poll"),
    (41, "notify_reply"),
    (42, "batch_forget"),
    (43, "fallocate"),
    (44, "readdirplus"),
    (45, "rename2"),
    (46, "lseek"),
    (47, "copy_file_range"),
    (50, "syncfs"),
    (51, "tmpfile"),
    (52, "statx"),
    (53, "copy_file_range_64"),
];

/// Opcodes are below this.
pub const OPCODES: usize = 54;

/// What an opcode is called; `None` for one that has no name.
#[must_use]
pub fn operation_name(opcode: u16) -> Option<&'static str> {
    let at = NAMES.binary_search_by_key(&opcode, |(code, _)| *code).ok()?;
    NAMES.get(at).map(|(_, name)| *name)
}

/// The bucket of a latency: the one with index i has those of less than 2^i × 256 ns, the last one
/// all others.
#[must_use]
pub fn bucket_of(nanoseconds: u64) -> usize {
    let units = nanoseconds.checked_div(FIRST_BUCKET).unwrap_or(0);
    let bits = u64::BITS.saturating_sub(units.leading_zeros());
    usize::try_from(bits).unwrap_or(usize::MAX).min(LATENCY_BUCKETS.saturating_sub(1))
}

/// Nanoseconds below which latencies of the bucket with that index are; `None` for the last one.
#[must_use]
pub fn bucket_end(index: usize) -> Option<u64> {
    if index >= LATENCY_BUCKETS.saturating_sub(1) {
        return None;
    }
    FIRST_BUCKET.checked_shl(u32::try_from(index).ok()?)
}

/// All requests with one opcode since the mount began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Operation {
    /// FUSE_*; one that [`operation_name`] knows.
    pub opcode: u16,
    /// Answers that were an errno, "no such name" included.
    pub errors: u64,
    /// Sum of all latencies: from when the server had the request to when its answer was handed over.
    pub nanoseconds: u64,
    /// How many latencies were in each bucket, see [`bucket_of`].
    pub latencies: [u64; LATENCY_BUCKETS],
}

impl Operation {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        operation_name(self.opcode).unwrap_or("unknown")
    }

    /// How many requests there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.latencies.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Nanoseconds that `percent` (1 to 100) of the latencies did not exceed, as exactly as the
    /// buckets tell: those in one are taken to lie at equal distances. 0 without any.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> u64 {
        let wanted = u128::from(self.count()).saturating_mul(percent.into()).div_ceil(100);
        let mut below = 0_u128;
        for (index, count) in self.latencies.iter().enumerate() {
            let count = u128::from(*count);
            if count > 0 && below.saturating_add(count) >= wanted {
                let start = index.checked_sub(1).and_then(bucket_end).unwrap_or(0);
                let width = bucket_end(index).unwrap_or(start).saturating_sub(start);
                // In halves: the only one is in the middle.
                let rank = wanted.saturating_sub(below).saturating_mul(2).saturating_sub(1);
                let part = u128::from(width).saturating_mul(rank);
                let part = part.checked_div(count.saturating_mul(2)).unwrap_or(0);
                return start.saturating_add(u64::try_from(part).unwrap_or(0));
            }
            below = below.saturating_add(count);
        }
        0
    }
}

/// The operations that were asked for, by ascending opcode, each once.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Operation>", into = "Vec<Operation>")]
pub struct Operations(Vec<Operation>);

impl Operations {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Operation> {
        self.0.iter()
    }
}

impl TryFrom<Vec<Operation>> for Operations {
    type Error = String;

    fn try_from(operations: Vec<Operation>) -> Result<Self, String> {
        if let Some(unknown) = operations.iter().find(|one| operation_name(one.opcode).is_none()) {
            return Err(format!("there is no operation {}", unknown.opcode));
        }
        if !operations.is_sorted_by(|left, right| left.opcode < right.opcode) {
            return Err("operations are out of order".into());
        }
        Ok(Self(operations))
    }
}

impl From<Operations> for Vec<Operation> {
    fn from(operations: Operations) -> Self {
        operations.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_begins_where_the_one_before_ends() {
        assert_eq!(bucket_of(0), 0);
        for index in 0..LATENCY_BUCKETS - 1 {
            let end = bucket_end(index).unwrap();
            assert_eq!((bucket_of(end - 1), bucket_of(end)), (index, index + 1));
        }
        assert_eq!(bucket_of(u64::MAX), LATENCY_BUCKETS - 1);
        assert_eq!(bucket_end(LATENCY_BUCKETS - 1), None);
        assert_eq!(bucket_end(usize::MAX), None);
    }

    #[test]
    fn names_are_in_order_and_below_their_limit() {
        assert!(NAMES.is_sorted_by(|left, right| left.0 < right.0));
        assert!(NAMES.iter().all(|(opcode, _)| usize::from(*opcode) < OPCODES));
        assert_eq!((operation_name(15), operation_name(7)), (Some("read"), None));
    }

    #[test]
    fn percentiles_are_where_so_many_latencies_are() {
        let mut latencies = [0; LATENCY_BUCKETS];
        let empty = Operation { opcode: 1, errors: 0, nanoseconds: 0, latencies };
        assert_eq!(empty.percentile(50), 0);
        // 90 of 256 to 512 ns, ten in the last bucket.
        latencies[1] = 90;
        latencies[LATENCY_BUCKETS - 1] = 10;
        let some = Operation { latencies, ..empty };
        assert_eq!(some.percentile(45), 256 + 126);
        assert_eq!(some.percentile(90), 512 - 2);
        assert_eq!(some.percentile(99), bucket_end(LATENCY_BUCKETS - 2).unwrap());
        let most = Operation { latencies: [u64::MAX; LATENCY_BUCKETS], ..empty };
        assert!(most.percentile(100) > 0);
    }
}
