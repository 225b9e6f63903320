//! Taking more than one's share: memory in all ways there are, and threads.

use super::println_error;
use crate::sys::attack::{address, call};

/// Nothing takes more than this, so that a machine survives a sandbox that fails: MiB.
const MOST: u64 = 8 << 10;
/// Bytes of a piece.
const PIECE: i64 = 16 << 20;
const THREADS: u64 = 4096;

type Taker = (&'static str, fn() -> u64);

/// Names, and what each took: MiB, or threads.
pub(super) const TAKERS: &[Taker] = &[
    ("memory by mmap", || map_all(libc::MAP_PRIVATE)),
    ("memory shared", || map_all(libc::MAP_SHARED)),
    ("memory as stacks", || map_all(libc::MAP_PRIVATE | libc::MAP_GROWSDOWN)),
    ("memory by mprotect", map_unusable),
    ("memory by brk", grow_heap),
    ("memory by mremap of the stack", grow_stack),
    ("threads", threads),
];

/// Takes all it gets, by one way.
pub(super) fn take(number: usize) {
    let Some((name, take)) = TAKERS.get(number) else { return };
    println_error(&format!("{name}: {}", take()));
    println_error("done");
}

const WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

fn map(protection: i32, flags: i32) -> i64 {
    let flags = flags | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    call(libc::SYS_mmap, [0, PIECE, protection.into(), flags.into(), -1, 0])
}

/// How many MiB there are until `more` gets none.
fn sum(mut more: impl FnMut() -> bool) -> u64 {
    let mut taken = 0;
    while taken < MOST && more() {
        taken += PIECE as u64 >> 20;
    }
    taken
}

fn map_all(flags: i32) -> u64 {
    sum(|| map(WRITE, flags) > 0)
}

/// Pages that cannot be used count little; they are made usable afterwards.
fn map_unusable() -> u64 {
    sum(|| {
        let page = map(libc::PROT_NONE, libc::MAP_PRIVATE);
        page > 0 && call(libc::SYS_mprotect, [page, PIECE, WRITE.into(), 0, 0, 0]) == 0
    })
}

fn grow_heap() -> u64 {
    let mut end = call(libc::SYS_brk, [0; 6]);
    sum(|| {
        let asked = end + PIECE;
        end = call(libc::SYS_brk, [asked, 0, 0, 0, 0, 0]);
        end == asked
    })
}

/// The page that this runs on, made ever longer somewhere else.
fn grow_stack() -> u64 {
    let here = [0_u8; 1];
    let mut page = address(&here) & !4095;
    // A page below, which is not in use.
    page -= 8 << 12;
    let mut len = 4096;
    sum(|| {
        let longer = [page, len, len + PIECE, libc::MREMAP_MAYMOVE.into(), 0, 0];
        let moved = call(libc::SYS_mremap, longer);
        (page, len) = (moved, len + PIECE);
        moved > 0
    })
}

fn threads() -> u64 {
    let mut count = 0;
    let wait = || loop {
        std::thread::park();
    };
    while count < THREADS {
        let builder = std::thread::Builder::new().stack_size(16 << 10);
        if builder.spawn(wait).is_err() {
            break;
        }
        count += 1;
    }
    count
}
