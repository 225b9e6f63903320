//! The time, for what the engine stamps.

use std::time::{SystemTime, UNIX_EPOCH};

use fuse4fs_ext4::Timestamp;

/// What the clock says now.
pub(crate) fn now() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: since.subsec_nanos(),
        },
        // A clock that was never set.
        Err(_) => Timestamp::default(),
    }
}
