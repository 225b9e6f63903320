//! What a taken-over server would do: any system call at all. In no program that is shipped.

use std::os::fd::{AsRawFd, RawFd};

use io_uring::IoUring;
use io_uring::squeue::Entry128;

/// The arguments of a system call.
pub(crate) type Arguments = [i64; 6];

/// Any system call; its result, or the negative errno.
pub(crate) fn call(number: libc::c_long, arguments: Arguments) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: none, and that is the point. The callers are attacks, whose pointers are null or to
    // memory that outlives the call; what else they do ends with this process.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 { i64::from(errno()).saturating_neg() } else { result }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// A system call that makes a process, which ends at once.
pub(crate) fn forking(number: libc::c_long, arguments: Arguments) -> i64 {
    let result = call(number, arguments);
    if result == 0 {
        call(libc::SYS_exit_group, [0; 6]);
    }
    result
}

/// The address of something, as an argument.
pub(crate) fn address<T: ?Sized>(of: &T) -> i64 {
    i64::try_from(std::ptr::from_ref(of).cast::<u8>().expose_provenance()).unwrap_or(0)
}

/// The same of something that the call writes to.
pub(crate) fn address_mut<T: ?Sized>(to: &mut T) -> i64 {
    i64::try_from(std::ptr::from_mut(to).cast::<u8>().expose_provenance()).unwrap_or(0)
}

/// A system call by the entry for programs of 32 bits: getpid, as the numbers there are.
#[cfg(target_arch = "x86_64")]
pub(crate) fn old_entry() -> i64 {
    let mut number: i64 = 20;
    // SAFETY: takes no argument and touches no memory; the entry saves all other registers but
    // those that are named.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inout("rax") number,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    number
}

/// Any operation of a ring; its result.
///
/// `None` when the ring takes none.
pub(crate) fn submit(ring: &mut IoUring<Entry128>, entry: &Entry128) -> Option<i64> {
    // SAFETY: as in `call`.
    unsafe { ring.submission().push(entry) }.ok()?;
    ring.submit_and_wait(1).ok()?;
    ring.completion().next().map(|completion| completion.result().into())
}

/// The number of a ring that has not been restricted, with `files`.
pub(crate) fn free_ring(files: &[RawFd]) -> Option<IoUring<Entry128>> {
    let ring: IoUring<Entry128> = IoUring::builder().build(8).ok()?;
    ring.submitter().register_files(files).ok()?;
    Some(ring)
}

/// A ring's descriptor.
pub(crate) fn number(ring: &IoUring<Entry128>) -> RawFd {
    ring.as_raw_fd()
}

/// A command with `sqe->addr3`, which the crate has no way to set for commands.
pub(crate) fn with_third(mut command: Entry128, third: u64) -> Entry128 {
    const AT: usize = 48;
    // SAFETY: an `Entry128` is a `struct io_uring_sqe` of 128 bytes and repr(C); `addr3` has its place at
    // byte 48 of it, which is aligned for 64 bits.
    unsafe { std::ptr::from_mut(&mut command).cast::<u8>().add(AT).cast::<u64>().write(third) };
    command
}

/// Writes a byte by a shared mapping of a page of a file, and says how mapping it went.
pub(crate) fn store_mapped(fd: RawFd, offset: i64, byte: u8) -> i64 {
    let access = i64::from(libc::PROT_READ | libc::PROT_WRITE);
    let shared = libc::MAP_SHARED.into();
    let page = call(libc::SYS_mmap, [0, 4096, access, shared, fd.into(), offset]);
    let Ok(place) = usize::try_from(page) else { return page };
    // SAFETY: the page was mapped just now, for writing, and nobody else knows of it. Beyond the end of
    // the file it ends this process.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(place).write_volatile(byte) };
    call(libc::SYS_munmap, [page, 4096, 0, 0, 0, 0])
}
