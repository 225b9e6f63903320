//! What a file's size says of its blocks, and of the file system.

use zerocopy::FromBytes;

use super::write_tests::{Bench, KIND, pattern};
use super::*;
use crate::disk::superblock::{OFFSET, RawSuperblock};
use crate::ids::in_memory;
use crate::map::Mapping;

#[test]
fn what_is_preallocated_behind_the_end_stays_unwritten_when_the_run_is_written_in_part() {
    let options =
        ["-t", "ext4", "-b", "1024", "-O", "^flex_bg,^huge_file,^extra_isize", "-I", "128"];
    let mut bench = Bench::on(8192, &options);
    // One run of eleven blocks: short enough to be zeroed out, and all but the last are written.
    let (volume, inode) = (&bench.mount.volume, &mut bench.inode);
    allocate(volume, inode, KIND, 0..11_264, KeepSize::Yes).unwrap();
    assert_eq!(bench.write(9_216, &pattern(1, 521)), 521);
    assert_eq!(bench.inode.size, 9_737);
    assert!(matches!(bench.mapping(9), Mapping::Written { .. }));
    assert!(matches!(bench.mapping(10), Mapping::Unwritten { .. }));
    let bytes = bench.judged();
    assert!(bytes[..9_216].iter().all(|byte| *byte == 0) && bytes[9_216..] == pattern(1, 521));
    bench.write(11_000, b"x");
    assert!(matches!(bench.mapping(10), Mapping::Written { .. }));
    bench.judged();
}

fn superblock(bench: &Bench) -> RawSuperblock {
    let bytes = bench.device.contents();
    let start = in_memory(OFFSET);
    RawSuperblock::read_from_prefix(&bytes[start..]).unwrap().0
}

#[test]
fn the_first_file_of_two_gigabytes_makes_the_superblock_say_so() {
    for options in [&["-t", "ext4", "-O", "^large_file"][..], &["-t", "ext2", "-r", "0"]] {
        let mut bench = Bench::on(8192, options);
        let says =
            |bench: &Bench| superblock(bench).features().ro_compat.contains(RoCompat::LARGE_FILE);
        truncate(&bench.mount.volume, &mut bench.inode, KIND, (1 << 31) - 1).unwrap();
        bench.remount();
        assert!(!says(&bench));
        truncate(&bench.mount.volume, &mut bench.inode, KIND, 1 << 31).unwrap();
        bench.remount();
        assert!(says(&bench));
        assert_eq!(superblock(&bench).rev_level.get(), 1);
        assert_eq!(bench.inode.size, 1 << 31);
    }
}

#[test]
fn inline_content_is_no_longer_than_it_can_be_whatever_the_size_says() {
    let mut bench = Bench::on(8192, &["-t", "ext4", "-O", "inline_data", "-I", "256"]);
    bench.write(0, b"inline");
    for size in [1 << 30, 1 << 43] {
        bench.inode.size = size;
        assert_eq!(bench.write(2, b"write"), 5);
        let mut bytes = [7; 9];
        assert_eq!(read(&bench.mount.volume, &bench.inode, 0, &mut bytes).unwrap(), 9);
        assert_eq!(&bytes, b"inwrite\0\0");
        assert_eq!(bench.inode.size, size);
    }
}
