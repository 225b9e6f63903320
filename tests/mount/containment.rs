//! What the serving process can still do, looked at from outside while it serves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::host::Mounted;
use fuse4fs_tests::product::{Product, loops_below};
use fuse4fs_tests::shared::Golden;
use fuse4fs_tests::trial;
use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("the server has no user, group or capability of ours", no_privileges),
        trial::test("the server lives in namespaces of its own", own_namespaces),
        trial::test("the server's root is empty", empty_root),
        trial::test(
            "the server holds the device, /dev/fuse, its log, the load and what tells of memory, and nothing else",
            few_fds,
        ),
        trial::test("every thread of the server is filtered", every_thread_is_filtered),
        trial::test("memory, threads and files of the server have limits", limits),
    ]
}

/// A mount that was read from, so that all of the server's threads have run.
struct Serving {
    process: PathBuf,
    mounted: Mounted,
    directory: tempfile::TempDir,
}

fn serving() -> Result<Serving> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let image = Golden::named("ext4-4k-i512")?.unpack(directory.path())?;
    let mountpoint = directory.path().join("mnt");
    std::fs::create_dir(&mountpoint)?;
    let mounted = product.mount(&image, &mountpoint, "ro")?;
    std::fs::read(mountpoint.join("data/plain"))?;
    let process = Path::new("/proc").join(product.server_running()?.to_string());
    Ok(Serving { process, mounted, directory })
}

/// The fields of a process's status.
pub(crate) fn status(process: &Path) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(process.join("status"))?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    Ok(text.lines().filter_map(field).collect())
}

fn no_privileges() -> Result<()> {
    let serving = serving()?;
    let status = status(&serving.process)?;
    let get = |name: &str| status.get(name).with_context(|| name.to_owned());
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        ensure!(get(name)? == "0000000000000000", "{name}: {}", get(name)?);
    }
    ensure!(get("NoNewPrivs")? == "1" && get("Seccomp")? == "2", "{status:?}");
    for name in ["Uid", "Gid"] {
        let ids: Vec<u32> = get(name)?.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        ensure!(ids.iter().all(|id| *id == ids[0] && *id >= 0x7000_0000), "{name}: {ids:?}");
    }
    ensure!(get("Groups")?.is_empty(), "Groups: {}", get("Groups")?);
    serving.mounted.unmount()
}

fn own_namespaces() -> Result<()> {
    let serving = serving()?;
    for name in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let theirs = std::fs::read_link(serving.process.join("ns").join(name))?;
        let ours = std::fs::read_link(Path::new("/proc/self/ns").join(name))?;
        ensure!(theirs != ours, "the {name} namespace is ours");
    }
    serving.mounted.unmount()
}

fn empty_root() -> Result<()> {
    let serving = serving()?;
    let mounts = std::fs::read_to_string(serving.process.join("mountinfo"))?;
    ensure!(mounts.lines().count() == 1, "mounts: {mounts}");
    let options = mounts.split(' ').nth(5).unwrap_or_default();
    ensure!(options.split(',').any(|option| option == "ro"), "its root is writable: {mounts}");
    let names: Vec<_> = std::fs::read_dir(serving.process.join("root"))?.collect();
    ensure!(names.is_empty(), "in its root: {names:?}");
    ensure!(std::fs::read_link(serving.process.join("cwd"))? == Path::new("/"), "its directory");
    serving.mounted.unmount()
}

fn few_fds() -> Result<()> {
    let serving = serving()?;
    let device = loops_below(serving.directory.path())?.join("");
    let device = device.split_whitespace().next().unwrap_or_default().to_owned();
    let mut devices = 0;
    for entry in std::fs::read_dir(serving.process.join("fd"))? {
        let entry = entry?;
        let number: u32 = entry.file_name().to_string_lossy().parse()?;
        let target = std::fs::read_link(entry.path())?.display().to_string();
        let info = serving.process.join("fdinfo").join(number.to_string());
        let info = std::fs::read_to_string(info)?;
        let log = (1..=2).contains(&number) && target.starts_with("socket:");
        let load = target == "/proc/loadavg" && is_read_only(&info)?;
        let wake_up = target == "anon_inode:[eventfd]" || target == "anon_inode:[io_uring]";
        // Of a control group, or of the machine.
        let pressure = target.ends_with("/memory.pressure") || target == "/proc/pressure/memory";
        ensure!(
            log || load
                || pressure
                || wake_up
                || target == "/dev/null"
                || target == "/dev/fuse"
                || target == device,
            "descriptor {number} is {target}"
        );
        if target == device {
            devices += 1;
            ensure!(is_read_only(&info)?, "the device is open for writing: {info}");
        }
    }
    ensure!((1..=2).contains(&devices), "the device is open {devices} times");
    serving.mounted.unmount()
}

/// Whether a descriptor, of which `info` tells, is open for reading only.
pub(crate) fn is_read_only(info: &str) -> Result<bool> {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    Ok(u32::from_str_radix(flags.unwrap_or_default().trim(), 8)? & 3 == 0)
}

fn every_thread_is_filtered() -> Result<()> {
    let serving = serving()?;
    let mut threads = 0;
    for entry in std::fs::read_dir(serving.process.join("task"))? {
        let status = status(&entry?.path())?;
        let get = |name: &str| status.get(name).map(String::as_str).unwrap_or_default();
        ensure!(get("Seccomp") == "2" && get("NoNewPrivs") == "1", "{status:?}");
        ensure!(get("CapEff") == "0000000000000000", "{status:?}");
        // Two for all, and that of its part: /dev/fuse or the rings.
        ensure!(get("Seccomp_filters") == "3", "{status:?}");
        threads += 1;
    }
    ensure!(threads > 0, "no threads");
    serving.mounted.unmount()
}

fn limits() -> Result<()> {
    let serving = serving()?;
    let text = std::fs::read_to_string(serving.process.join("limits"))?;
    let limit = |name: &str| -> Result<u64> {
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)).context(name.to_owned())?;
        let hard = line.split_whitespace().nth(1).context("a hard limit")?;
        hard.parse().with_context(|| format!("{name}: {hard}"))
    };
    for none in ["Max core file size", "Max locked memory"] {
        ensure!(limit(none)? == 0, "{text}");
    }
    // Of descriptors only the standard input's number is below it.
    ensure!(limit("Max open files")? == 1, "{text}");
    ensure!(limit("Max file size")? == 256 << 20 && limit("Max processes")? == 2048, "{text}");
    ensure!((1 << 30..1100 << 20).contains(&limit("Max data size")?), "{text}");
    serving.mounted.unmount()
}
