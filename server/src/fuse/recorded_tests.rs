//! Every operation byte by byte: recorded requests, and the replies to them, on a fixed image.
//!
//! `recorded/*.txt` hold a title, `>` and the request, `<` and the reply if there is one. The requests were
//! written down from the layouts of linux/fuse.h by other means than `abi`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::{Settings, settings, starting_on};

/// Times, numbers and features that do not depend on when, where and by which mke2fs it is made.
fn image() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    fs::write(path("content"), "hello, world\n").unwrap();
    let mut script = String::from(
        "write content hello\nsymlink link hello\nmkdir dir\ncd dir\nwrite content one\n\
         cd ..\nea_set hello user.color blue\nsif hello mode 0100640\nsif hello uid 1000\n",
    );
    for inode in ["/", "hello", "link", "dir", "dir/one"] {
        for (field, second) in [("atime", 1), ("mtime", 2), ("ctime", 3), ("crtime", 4)] {
            writeln!(script, "sif {inode} {field} @{}", 1_700_000_000 + second).unwrap();
            writeln!(script, "sif {inode} {field}_extra 0").unwrap();
        }
        writeln!(script, "sif {inode} generation 7").unwrap();
    }
    fs::write(path("script"), script).unwrap();
    run(Command::new("mke2fs").current_dir(&directory).args([
        "-q",
        "-F",
        "-b",
        "4096",
        "-I",
        "256",
        "-N",
        "64",
        "-m",
        "5",
        "-L",
        "label",
        "-O",
        "none,extents,filetype,sparse_super,large_file,huge_file,extra_isize,ext_attr,dir_index",
        "-E",
        "root_owner=0:0,hash_seed=01234567-89ab-cdef-0123-456789abcdef",
        "-U",
        "01234567-89ab-cdef-0123-456789abcdef",
        "image",
        "4M",
    ]));
    run(Command::new("debugfs").current_dir(&directory).args(["-w", "-f", "script", "image"]));
    fs::read(path("image")).unwrap()
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("e2fsprogs is needed").success(), "{command:?}");
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.trim().chars().map(|c| c.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Plays a recording; the opcodes that were in it.
fn play(recording: &str, settings: Settings) -> BTreeSet<u32> {
    let starting = starting_on(&image(), settings);
    let socket = starting.kernel.socket.try_clone().unwrap();
    let mut opcodes = BTreeSet::new();
    let mut is_mounted = false;
    for exchange in recording.split("\n\n").map(str::trim).filter(|text| !text.is_empty()) {
        let mut lines = exchange.lines();
        let title = lines.next().unwrap();
        let request = bytes(lines.next().unwrap().strip_prefix('>').unwrap());
        opcodes.insert(u32::from_ne_bytes(request[4..8].try_into().unwrap()));
        send(&socket, &request, SendFlags::empty()).unwrap();
        if let Some(want) = lines.next() {
            let mut reply = vec![0; 1 << 16];
            let (len, _) = recv(&socket, &mut reply[..], RecvFlags::empty()).unwrap();
            assert_eq!(hex(&reply[..len]), want.strip_prefix('<').unwrap().trim(), "{title}");
        }
        if !std::mem::replace(&mut is_mounted, true) {
            starting.mount();
        }
    }
    starting.stopped.recv().unwrap().unwrap();
    opcodes
}

#[test]
fn every_operation_of_a_read_only_mount_is_answered_to_the_byte() {
    let opcodes = play(include_str!("recorded/read_only.txt"), settings());
    // 7 and 19 never were, 48 and 49 are for DAX; 54 stands for what is to come.
    let gaps = [7, 19, 48, 49];
    assert_eq!(opcodes, (1..=54).filter(|number| !gaps.contains(number)).collect());
}

#[test]
fn what_is_different_on_a_mount_that_can_be_written_is_answered_to_the_byte() {
    let settings = Settings { writable: true, ..settings() };
    play(include_str!("recorded/writable.txt"), settings);
}
