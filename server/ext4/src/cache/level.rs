//! How full the cache is, and how often it had what was wanted.

/// What the cache holds, and what it was asked for since the mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheLevel {
    /// Bytes.
    pub bytes: u64,
    /// Bytes, at most.
    pub budget: u64,
    /// Blocks and inodes.
    pub entries: u64,
    /// Times that one was there.
    pub hits: u64,
    /// Times that one had to be read.
    pub misses: u64,
}
