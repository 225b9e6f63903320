//! Words of fuse2fs and of the C fuse4fs that are neither mount(8)'s nor ext4's.
//!
//! Source: fuse2fs(1)

use std::str::FromStr;

use fuse4fs_protocol::{LogLevel, MAX_THREADS};

use super::Options;
use super::value::{bad, number, path, positive};
use crate::report::Failure;

/// What they ask for is so anyway, or has no counterpart here.
const IGNORED: &[&str] = &["kernel", "directio", "timing", "no_default_opts", "clone_fd"];

/// False when the word is unknown.
pub(super) fn word(options: &mut Options, name: &str) -> bool {
    match name {
        "fakeroot" => options.fakeroot = true,
        "fuse2fs_debug" | "fuse4fs_debug" => options.log_level = LogLevel::Debug,
        _ => return IGNORED.contains(&name),
    }
    true
}

/// False when the name is unknown.
pub(super) fn assignment(options: &mut Options, name: &str, value: &str) -> Result<bool, Failure> {
    match name {
        "lockfile" => options.lock_file = Some(path(name, value)?),
        // 0 was never: here nothing is dirty for ever.
        "flush_interval" => options.engine.commit = positive(name, value)?,
        "max_threads" => options.serving.threads = number::<u16>(name, value)?.min(MAX_THREADS),
        "max_idle_threads" => drop(number::<u32>(name, value)?),
        "oom_score_adj" => {
            i32::from_str(value).map_err(|_| bad(name, value, "a number is needed"))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}
