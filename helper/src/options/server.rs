//! Words of fuse4fs: who serves, how, and what is told.

use std::path::PathBuf;

use fuse4fs_protocol::{LogLevel, MAX_BUSY_POLL, MAX_CACHE, MAX_THREADS, MIN_CACHE};

use super::value::{bad, number, path, seconds, size, switch, up_to};
use super::{DEFAULT_SOCKET, Options, ServerChoice};
use crate::report::Failure;

/// Reading ahead further than this only fills memory.
const MAX_READ_AHEAD_KIB: u32 = 65_536;

/// False when the word is unknown.
pub(super) fn word(options: &mut Options, name: &str) -> bool {
    match name {
        "admin_ioctls" => options.serving.admin_ioctls = true,
        _ => return false,
    }
    true
}

/// False when the name is unknown.
pub(super) fn assignment(options: &mut Options, name: &str, value: &str) -> Result<bool, Failure> {
    if tuning(options, name, value)? {
        return Ok(true);
    }
    match name {
        "offset" => options.offset = size(name, value)?,
        "sizelimit" => options.sizelimit = size(name, value)?,
        "journal_path" => options.journal_path = Some(path(name, value)?),
        "server" => options.server = server(value)?,
        "request_timeout" => options.request_timeout = number(name, value)?,
        "server_timeout" => options.server_timeout = seconds(name, value)?,
        "log_level" => options.log_level = log_level(value)?,
        "log" => options.log = Some(path(name, value)?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// What matters to speed alone.
fn tuning(options: &mut Options, name: &str, value: &str) -> Result<bool, Failure> {
    let serving = &mut options.serving;
    match name {
        "cache_size" => options.cache.least = Some(cache(name, value)?),
        "cache_max" => options.cache.most = Some(cache(name, value)?),
        "threads" => {
            let threads = up_to(name, value, MAX_THREADS.into())?;
            serving.threads = u16::try_from(threads).unwrap_or(MAX_THREADS);
        }
        "busy_poll" if value == "auto" => serving.busy_poll = None,
        "busy_poll" => serving.busy_poll = Some(up_to(name, value, MAX_BUSY_POLL)?),
        "io_uring" => serving.io_uring = switch(name, value)?,
        "writeback_cache" => serving.writeback_cache = switch(name, value)?,
        "read_ahead_kb" => {
            options.tuning.read_ahead_kib = up_to(name, value, MAX_READ_AHEAD_KIB)?;
        }
        "max_ratio" => options.tuning.max_ratio = up_to(name, value, 100)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// What is out of range is as near to it as possible: fuse2fs takes up to 2 GiB.
fn cache(name: &str, value: &str) -> Result<u64, Failure> {
    Ok(size(name, value)?.clamp(MIN_CACHE, MAX_CACHE))
}

fn log_level(value: &str) -> Result<LogLevel, Failure> {
    match value {
        "error" => Ok(LogLevel::Error),
        "warn" => Ok(LogLevel::Warn),
        "info" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        "trace" => Ok(LogLevel::Trace),
        _ => Err(bad("log_level", value, "error, warn, info, debug or trace is needed")),
    }
}

fn server(value: &str) -> Result<ServerChoice, Failure> {
    match value.split_once(':') {
        None if value == "systemd" => Ok(ServerChoice::Systemd(PathBuf::from(DEFAULT_SOCKET))),
        None if value == "spawn" => Ok(ServerChoice::Spawn(None)),
        Some(("systemd", socket)) => Ok(ServerChoice::Systemd(path("server", socket)?)),
        Some(("spawn", program)) => Ok(ServerChoice::Spawn(Some(path("server", program)?))),
        _ => Err(bad("server", value, "systemd or spawn is needed")),
    }
}
