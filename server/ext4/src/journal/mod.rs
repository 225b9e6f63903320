//! jbd2: the log, its recovery, and what recovery leaves for a read-only mount.

mod overlay;

pub(crate) use overlay::Overlay;
