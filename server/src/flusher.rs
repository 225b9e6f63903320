//! The process as one that writes a file system out: when it needs memory, the kernel must not have it
//! wait for file systems and disks, as that may be to wait for itself.
//!
//! Source: prctl(2), PR_SET_IO_FLUSHER; proc_pid_stat(5)

use tracing::debug;

use crate::sys;

/// PF_MEMALLOC_NOIO, one of the two flags.
const NO_IO: u64 = 0x0008_0000;

/// Becomes one, unless whoever started this process has seen to it. That takes a privilege which few give:
/// without it the kernel's own provisions for FUSE have to do. To be called on the first thread.
pub(crate) fn become_one() {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    if flags(&stat).is_some_and(|flags| flags & NO_IO != 0) {
        return debug!("started as an I/O flusher");
    }
    match sys::become_flusher() {
        Ok(()) => debug!("an I/O flusher"),
        Err(error) => debug!("no I/O flusher, which takes CAP_SYS_RESOURCE: {error}"),
    }
}

/// The flags of a task, going by its `stat`. Its name, in brackets, may hold anything.
fn flags(stat: &str) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(6)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 103 0";
        assert_eq!(flags(stat), Some(4_194_560));
        for junk in ["", "7 (a) S 1", "7 (a) S 1 7 7 0 -1 x"] {
            assert_eq!(flags(junk), None);
        }
        let own = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        assert!(flags(&own).is_some());
    }
}
