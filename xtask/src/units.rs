//! The systemd units, looked at by systemd-analyze.

use std::path::Path;
use std::process::Command;

use crate::Findings;

/// `systemd-analyze security`, in tenths; 100 is a service without any confinement.
const EXPOSURE_CEILING: u32 = 4;

/// Directives that an older systemd ignores, and the first version that knows them. They are left
/// out of what an older systemd-analyze is shown; installed units keep them.
const NEWER: &[(&str, u32)] = &[("SurviveFinalKillSignal=", 255), ("BindLogSockets=", 257)];

const SERVICE: &str = "fuse4fs@.service";
const UNITS: &[&str] = &["fuse4fs.socket", "system-fuse4fs.slice"];

/// Verifies the units and their exposure. Without systemd-analyze nothing is checked, and said so.
pub(crate) fn check(root: &Path) -> Findings {
    let Some(version) = version() else {
        println!("SKIPPED: units: there is no systemd-analyze");
        return Ok(Vec::new());
    };
    let stage = tempfile::tempdir()?;
    stage_units(root, stage.path(), version)?;
    let mut findings = verify(stage.path())?;
    findings.extend(exposure(stage.path())?);
    Ok(findings)
}

fn version() -> Option<u32> {
    let output = Command::new("systemd-analyze").arg("--version").output().ok()?;
    String::from_utf8_lossy(&output.stdout).split_whitespace().nth(1)?.parse().ok()
}

/// The units as an installation would have them, with a program that exists.
fn stage_units(root: &Path, stage: &Path, version: u32) -> std::io::Result<()> {
    let program = stage.join("fuse4fs-server");
    std::fs::copy("/bin/true", &program)?;
    let directory = stage.to_string_lossy();
    for name in UNITS {
        std::fs::copy(root.join("systemd").join(name), stage.join(name))?;
    }
    let template = std::fs::read_to_string(root.join("systemd").join(format!("{SERVICE}.in")))?;
    let known = |line: &&str| {
        !NEWER.iter().any(|(directive, since)| version < *since && line.starts_with(directive))
    };
    let unit: Vec<&str> = template.lines().filter(known).collect();
    std::fs::write(stage.join(SERVICE), unit.join("\n").replace("@LIBEXECDIR@", &directory))
}

/// Manual pages are checked elsewhere: they are not installed here.
fn verify(stage: &Path) -> Findings {
    let mut findings = Vec::new();
    for name in [SERVICE].iter().chain(UNITS) {
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(stage.join(name))
            .env("SYSTEMD_UNIT_PATH", format!("{}:", stage.display()))
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        findings.extend(said.lines().filter(|line| line.contains("fuse4fs")).map(str::to_owned));
        if !output.status.success() {
            findings.push(format!("systemd-analyze verify {name}: {}", output.status));
        }
    }
    Ok(findings)
}

fn exposure(stage: &Path) -> Findings {
    let output = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=yes"])
        .arg(stage.join(SERVICE))
        .output()?;
    let table = String::from_utf8_lossy(&output.stdout);
    let level = table.lines().find_map(|line| {
        let (_, level) = line.split_once("Overall exposure level")?.1.split_once(": ")?;
        tenths(level.split(' ').next()?)
    });
    let level = level.ok_or("systemd-analyze security gave no exposure level")?;
    println!("exposure level {}.{}", level / 10, level % 10);
    if level <= EXPOSURE_CEILING {
        return Ok(Vec::new());
    }
    let exposed = table.lines().filter(|line| line.starts_with('✗')).map(str::to_owned);
    let finding = format!("exposure level {level} tenths is over {EXPOSURE_CEILING}");
    Ok(std::iter::once(finding).chain(exposed).collect())
}

/// `0.3` → 3
fn tenths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.')?;
    whole.parse::<u32>().ok()?.checked_mul(10)?.checked_add(part.get(..1)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_in_tenths() {
        assert_eq!(tenths("0.3"), Some(3));
        assert_eq!(tenths("9.6"), Some(96));
        assert_eq!(tenths("x"), None);
    }
}
