//! Writes to the device, and to what lies beyond its end. Inside means on a read-only mount; what a
//! read-write one permits is what lies within the device, and whoever tests looks at the bytes.

use io_uring::opcode::UringCmd80;
use io_uring::squeue::Entry128;
use io_uring::types;

use super::{Attempt, FILTER, Reach};
use crate::sys::attack::{address, call, submit};

const WITHIN: &str = "writes to the device of a read-only mount";
const BEYOND: &str = "writes beyond the end of the device";
/// BLOCK_URING_CMD_DISCARD: `_IO(0x12, 0)`.
const DISCARD: u32 = 0x1200;
const LEN: usize = 4096;
/// Where it is written, each time at another multiple: what is dirty cannot be discarded.
const PLACE: i64 = 1 << 20;

#[repr(align(4096))]
struct Page(#[allow(dead_code, reason = "the kernel reads it")] [u8; LEN]);
static PAGE: Page = Page([0xa5; LEN]);

fn write(fd: i32, offset: i64) -> i64 {
    let part = [address(&PAGE), LEN as i64];
    // Low and high half of the offset, and no flags.
    call(libc::SYS_pwritev2, [fd.into(), address(&part), 1, offset, 0, 0])
}

fn seek_and_write(fd: i32, offset: i64) -> i64 {
    let place = call(libc::SYS_lseek, [fd.into(), offset, 0, 0, 0, 0]);
    if place < 0 {
        place
    } else {
        call(libc::SYS_write, [fd.into(), address(&PAGE), LEN as i64, 0, 0, 0])
    }
}

fn allocate(fd: i32, how: i32, offset: i64) -> i64 {
    call(libc::SYS_fallocate, [fd.into(), how.into(), offset, LEN as i64, 0, 0])
}

const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;

/// A discard by a ring, of the device.
fn discard(reach: &mut Reach, offset: i64) -> i64 {
    let command = UringCmd80::new(types::Fixed(1), DISCARD).addr(Some(offset as u64)).build();
    // The length lies where the address of a second pointer would: sqe->addr3, at byte 48.
    let command: Entry128 = crate::sys::attack::with_third(command, LEN as u64);
    reach.ring.as_mut().and_then(|ring| submit(ring, &command)).unwrap_or(-i64::from(libc::ENOTSUP))
}

/// A shared mapping, written and unmapped.
fn map(fd: i32, offset: i64) -> i64 {
    crate::sys::attack::store_mapped(fd, offset, 0xa5)
}

const fn within(name: &'static str, inside: &'static [i32], run: fn(&mut Reach) -> i64) -> Attempt {
    Attempt { group: WITHIN, name, inside, outside: 0, run }
}

const fn beyond(name: &'static str, run: fn(&mut Reach) -> i64) -> Attempt {
    const REFUSED: &[i32] =
        &[libc::EBADF, libc::ENOSPC, libc::EINVAL, libc::EACCES, libc::EPERM, libc::EFBIG];
    Attempt { group: BEYOND, name, inside: REFUSED, outside: 0, run }
}

pub(super) fn attempts() -> Vec<Attempt> {
    vec![
        within("pwritev2", &[libc::EBADF], |reach| write(reach.device, PLACE)),
        within("pwritev2 with O_DIRECT", &[libc::EBADF], |reach| {
            write(reach.direct.unwrap_or(-1), 2 * PLACE)
        }),
        within("lseek and write", &[libc::EBADF], |reach| seek_and_write(reach.device, 3 * PLACE)),
        within("fallocate to punch a hole", &[libc::EBADF], |reach| {
            allocate(reach.device, PUNCH, 4 * PLACE)
        }),
        within("fallocate to zero", FILTER, |reach| {
            allocate(reach.device, libc::FALLOC_FL_ZERO_RANGE, 5 * PLACE)
        }),
        within("a shared mapping", FILTER, |reach| map(reach.device, 6 * PLACE)),
        within("discarding by a ring", &[libc::EBADF], |reach| discard(reach, 7 * PLACE)),
        beyond("pwritev2 at its end", |reach| write(reach.device, reach.end)),
        beyond("pwritev2 far beyond", |reach| write(reach.device, reach.end + PLACE)),
        beyond("pwritev2 with O_DIRECT at its end", |reach| {
            write(reach.direct.unwrap_or(-1), reach.end)
        }),
        beyond("lseek and write beyond", |reach| seek_and_write(reach.device, reach.end + PLACE)),
        beyond("fallocate to punch a hole at its end", |reach| {
            allocate(reach.device, PUNCH, reach.end)
        }),
        beyond("fallocate to zero far beyond", |reach| {
            allocate(reach.device, libc::FALLOC_FL_ZERO_RANGE, reach.end + PLACE)
        }),
        beyond("discarding by a ring at its end", |reach| {
            let end = reach.end;
            discard(reach, end)
        }),
        beyond("discarding by a ring far beyond", |reach| {
            let end = reach.end;
            discard(reach, end + PLACE)
        }),
    ]
}
