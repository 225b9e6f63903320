//! Whether something is mounted at this moment. Source: proc_pid_mountinfo(5), sysfs of loop devices.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::mounts::unescape;
use crate::policy::SourceKind;
use crate::source;
use crate::sys::loops;
use crate::sys::open::Pinned;

/// Where `source` is mounted, by itself or through a loop device, as far as this mount namespace shows
/// it. Mounts of image files without a loop device are not found.
pub(super) fn places(source: &Pinned) -> Vec<PathBuf> {
    let devices = match source::kind(source) {
        SourceKind::Block => vec![number(source.stat().st_rdev)],
        SourceKind::File { .. } => loops_on(source),
        SourceKind::Directory | SourceKind::Other => Vec::new(),
    };
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    places_of(&devices, &table)
}

/// `major:minor`, as the kernel writes it.
fn number(device: u64) -> String {
    format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
}

/// The numbers of loop devices on a file, by the name that the kernel has for it: to look other files up
/// could mean to wait for a server.
fn loops_on(file: &Pinned) -> Vec<String> {
    let name = file.path();
    let of = |number: u32| {
        let loop_device = Path::new("/sys/block").join(format!("loop{number}"));
        let mut backing = fs::read(loop_device.join("loop/backing_file")).ok()?;
        backing.truncate(backing.len().saturating_sub(1));
        let same = name.as_os_str().as_bytes() == backing;
        let device = same.then(|| fs::read_to_string(loop_device.join("dev")))?.ok()?;
        Some(device.trim().to_owned())
    };
    loops::bound().unwrap_or_default().into_iter().filter_map(of).collect()
}

/// Mount points of the file systems on `devices` in the text of a mountinfo file.
fn places_of(devices: &[String], table: &[u8]) -> Vec<PathBuf> {
    let place = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let device = fields.nth(2)?;
        let ours = devices.iter().any(|it| it.as_bytes() == device);
        let point = fields.nth(1).filter(|_| ours)?;
        Some(PathBuf::from(OsString::from_vec(unescape(point))))
    };
    table.split(|byte| *byte == b'\n').filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_the_number_of_their_device() {
        let table = br"36 35 7:0 / /mnt/my\040disk rw shared:1 - ext4 /dev/loop0 rw
37 35 7:01 / /other rw - ext4 /dev/x rw
38 35 7:0 /sub /bind rw - ext4 /dev/loop0 rw
";
        let places = places_of(&["7:0".to_owned()], table);
        assert_eq!(places, [PathBuf::from("/mnt/my disk"), PathBuf::from("/bind")]);
        assert!(places_of(&[], table).is_empty());
    }
}
