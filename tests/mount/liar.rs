//! A FUSE server that is not ours but says so: all that it has is a root, and one answer to all ioctls.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::Result;
use fuse4fs_tests::host::Mounted;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

const GETATTR: u32 = 3;
const FORGET: u32 = 2;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const IOCTL: u32 = 39;
const BATCH_FORGET: u32 = 42;

/// What it says to an ioctl: bytes, or an error.
pub(crate) type Lie = Result<Vec<u8>, Errno>;

/// Mounts it at `target`, as if `user` did. Its thread ends with the mount.
pub(crate) fn mount(target: &Path, lie: Lie, user: u32) -> Result<Mounted> {
    let fuse = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let rights = format!("user_id={user},group_id=0,allow_other");
    let options = format!("fd={},rootmode=40000,{rights}", fuse.as_raw_fd());
    let options = CString::new(options)?;
    let kind = "fuse.fuse4fs";
    rustix::mount::mount("liar", target, kind, MountFlags::empty(), options.as_c_str())?;
    let mounted = Mounted::adopt(target);
    std::thread::spawn(move || serve(&fuse, &lie));
    Ok(mounted)
}

fn serve(fuse: &OwnedFd, lie: &Lie) {
    let mut request = vec![0; 1 << 20];
    while let Ok(len) = rustix::io::read(fuse, &mut request[..]) {
        let number =
            |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap_or([0; 4]));
        let (opcode, unique) = (number(4), &request[8..16]);
        if len < 40 || matches!(opcode, FORGET | BATCH_FORGET) {
            continue;
        }
        let (errno, body) = match answer(opcode, lie) {
            Ok(body) => (0, body),
            Err(errno) => (-errno.raw_os_error(), Vec::new()),
        };
        let total = u32::try_from(16 + body.len()).unwrap_or(0);
        let reply = [&total.to_ne_bytes()[..], &errno.to_ne_bytes(), unique, &body].concat();
        let _ = rustix::io::write(fuse, &reply);
    }
}

fn answer(opcode: u32, lie: &Lie) -> Result<Vec<u8>, Errno> {
    match opcode {
        INIT => {
            let (major, minor, write) = (7_u32, 31_u32, 4096_u32);
            let words = [major, minor, 0, 0, 0, write, 1];
            let mut body: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
            body.resize(64, 0);
            Ok(body)
        }
        GETATTR => {
            let mut body = vec![0; 104];
            // Of the root, good for some time: a directory that everybody may read, with two links.
            body[0..8].copy_from_slice(&60_u64.to_ne_bytes());
            body[16..24].copy_from_slice(&1_u64.to_ne_bytes());
            body[76..80].copy_from_slice(&0o40755_u32.to_ne_bytes());
            body[80..84].copy_from_slice(&2_u32.to_ne_bytes());
            Ok(body)
        }
        OPENDIR => Ok(vec![0; 16]),
        IOCTL => lie.clone().map(|bytes| [&[0; 16][..], &bytes].concat()),
        _ => Err(Errno::NOSYS),
    }
}
