//! What may stand after `=`.

use std::path::PathBuf;
use std::time::Duration;

use fuse4fs_protocol::Switch;

use crate::report::Failure;

pub(super) fn bad(name: &str, value: &str, wanted: &str) -> Failure {
    Failure::usage(format!("option '{name}={value}' is wrong: {wanted}"))
}

pub(super) fn number<N: TryFrom<u64>>(name: &str, value: &str) -> Result<N, Failure> {
    value
        .parse::<u64>()
        .ok()
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| bad(name, value, "a number is needed"))
}

/// A number from 0 to `most`.
pub(super) fn up_to(name: &str, value: &str, most: u32) -> Result<u32, Failure> {
    number(name, value)
        .ok()
        .filter(|number| *number <= most)
        .ok_or_else(|| bad(name, value, &format!("0 to {most} is possible")))
}

/// ext4's way to say no limit, no wish: 0.
pub(super) fn positive(name: &str, value: &str) -> Result<Option<u32>, Failure> {
    Ok(Some(number(name, value)?).filter(|number| *number != 0))
}

/// ext4's switches with a number: everything but 0 is on.
pub(super) fn truth(name: &str, value: &str) -> Result<bool, Failure> {
    Ok(number::<u32>(name, value)? != 0)
}

pub(super) fn switch(name: &str, value: &str) -> Result<Switch, Failure> {
    match value {
        "auto" => Ok(Switch::Auto),
        "on" => Ok(Switch::On),
        "off" => Ok(Switch::Off),
        _ => Err(bad(name, value, "auto, on or off is needed")),
    }
}

/// Bytes, with the suffixes of losetup(8): k, m, g, t, also as KiB, MiB, GiB, TiB.
pub(super) fn size(name: &str, value: &str) -> Result<u64, Failure> {
    let wanted = || bad(name, value, "bytes are needed, such as 1048576 or 1M");
    let digits = value.trim_end_matches(|c: char| !c.is_ascii_digit());
    let suffix = value.get(digits.len()..).unwrap_or_default().to_ascii_lowercase();
    let shift = match suffix.as_str() {
        "" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(wanted()),
    };
    let number: u64 = digits.parse().map_err(|_| wanted())?;
    number.checked_mul(1_u64 << shift).ok_or_else(wanted)
}

/// A day at most: a longer wait is a mistake.
pub(super) fn seconds(name: &str, value: &str) -> Result<Duration, Failure> {
    match number(name, value)? {
        seconds @ 1..=86_400 => Ok(Duration::from_secs(seconds)),
        _ => Err(bad(name, value, "1 to 86400 seconds are possible")),
    }
}

pub(super) fn path(name: &str, value: &str) -> Result<PathBuf, Failure> {
    if value.is_empty() {
        return Err(bad(name, value, "a path is needed"));
    }
    Ok(PathBuf::from(value))
}
