//! What ps(1) shows of this process.

use std::fs;

use rustix::thread::set_name;

/// Bytes of a name that the kernel keeps (TASK_COMM_LEN without its NUL).
const NAME: usize = 15;

/// Makes `title` the command line of this process, as far as the one that it was started with has room,
/// and `name` the process's name. Where that cannot be done nothing is, which harms nobody. To be
/// called while there is one thread, and nobody looks at the arguments any more.
///
/// Source: proc_pid_cmdline(5), proc_pid_stat(5) (arg_start, arg_end)
pub(crate) fn set(name: &str, title: &str) {
    let name: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(NAME).collect();
    // It has no NUL.
    let _ = std::ffi::CString::new(name).map(|name| set_name(&name));
    let Some((start, len)) = arguments() else { return };
    let padded = cut(title, len.saturating_sub(1))
        .into_bytes()
        .into_iter()
        .filter(|byte| *byte != 0)
        .chain(std::iter::repeat(0))
        .take(len);
    for (at, byte) in padded.enumerate() {
        // SAFETY: the kernel says that the bytes from `start` on, `len` of them, are the strings that
        // this process got for arguments: memory that is mapped, can be written, and is no Rust object.
        // std reads them when it is asked for arguments, which it is not any more, and no other thread
        // is there to do so. They end with a NUL, before and after.
        unsafe { std::ptr::with_exposed_provenance_mut::<u8>(start).add(at).write_volatile(byte) };
    }
}

/// `text` in `room` bytes; where it has to be cut, it shows.
fn cut(text: &str, room: usize) -> String {
    if text.len() <= room {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(room.saturating_sub(3));
    format!("{}...", text.get(..end).unwrap_or_default())
}

/// Where the kernel says that the arguments are, and how many bytes they have.
fn arguments() -> Option<(usize, usize)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (start, end) = places(&stat)?;
    // So that nothing else is written to, whatever /proc is: it must hold what was passed.
    let passed: usize = std::env::args_os().map(|word| word.len().saturating_add(1)).sum();
    let len = end.checked_sub(start)?;
    (len == passed && start != 0).then_some((start, len))
}

/// Fields 48 and 49; the second one, the name, may hold anything.
fn places(stat: &str) -> Option<(usize, usize)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(45);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_come_after_a_name_that_may_be_anything() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("1 (a) b) {}", fields.join(" "));
        assert_eq!(places(&stat), Some((48, 49)));
        assert_eq!(places("1 (a) S 1 2"), None);
    }

    #[test]
    fn what_has_no_room_is_seen_to_be_cut() {
        assert_eq!(
            (cut("fuse4fs sdb1 /a", 15), cut("fuse4fs é /mnt", 12)),
            ("fuse4fs sdb1 /a".into(), "fuse4fs ...".into())
        );
    }

    #[test]
    fn the_kernel_tells_where_the_arguments_of_this_process_are() {
        let (start, len) = arguments().unwrap();
        let passed: usize = std::env::args_os().map(|word| word.len() + 1).sum();
        assert!(start > 0 && len == passed);
    }
}
