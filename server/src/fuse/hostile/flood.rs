//! Notifications, as many as go.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use zerocopy::IntoBytes;

use super::{DIRECTORY, FILE, ROOT, message};

/// Of each kind.
const COUNT: usize = 20_000;

/// The kinds: a name, the code, and the body for the n-th one.
type Kind = (&'static str, i32, fn(u64) -> Vec<u8>);

const KINDS: [Kind; 10] = [
    ("POLL", 1, |n| n.to_ne_bytes().to_vec()),
    ("INVAL_INODE", 2, |n| [node(n), 0, u64::MAX].as_bytes().to_vec()),
    ("INVAL_ENTRY", 3, |n| [[ROOT, 4].as_bytes(), names(n)].concat()),
    ("STORE", 4, |n| [[node(n), (n % 64) << 12, 8].as_bytes(), &[b'y'; 8]].concat()),
    ("STORE far away", 4, |n| [[FILE, (1 << 63) - 1 - n, 8].as_bytes(), &[b'y'; 8]].concat()),
    ("RETRIEVE", 5, |n| [n, node(n), 0, u64::from(u32::MAX)].as_bytes().to_vec()),
    ("DELETE", 6, |n| [[ROOT, FILE, 4].as_bytes(), names(n)].concat()),
    ("RESEND", 7, |_| Vec::new()),
    ("INC_EPOCH", 8, |_| Vec::new()),
    ("an unknown code", 99, |n| vec![0xff; (n % 512) as usize]),
];

fn node(n: u64) -> u64 {
    [ROOT, FILE, DIRECTORY, 0, u64::MAX, n][(n % 6) as usize]
}

/// Names of four bytes, and a NUL.
fn names(n: u64) -> &'static [u8] {
    let names: [&[u8]; 4] = [b"file\0", b"link\0", b"a/b/\0", b"\xff\xff\xff\xff\0"];
    names[(n % 4) as usize]
}

/// Sends all of them, in turns, and says how many were taken.
pub(super) fn run(fuse: &OwnedFd) {
    let mut taken = [0_usize; KINDS.len()];
    for n in 0..COUNT as u64 {
        for ((_, code, body), taken) in KINDS.iter().zip(&mut taken) {
            match rustix::io::write(fuse, &message(0, *code, &body(n))) {
                Ok(_) => *taken += 1,
                Err(Errno::NODEV) => return,
                Err(_) => {}
            }
        }
    }
    for ((name, ..), taken) in KINDS.iter().zip(taken) {
        crate::attack::println_error(&format!("flood {name}: {taken} of {COUNT} taken"));
    }
    crate::attack::println_error("done");
}
