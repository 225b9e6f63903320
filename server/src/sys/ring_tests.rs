#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use std::fs::File as Opened;
use std::io::Write;
use std::os::fd::AsFd;

use super::super::arena::entries;
use super::*;

const PAGE: usize = 4096;

/// Three pages: of 1, 2 and 3.
fn pages() -> Opened {
    let mut file = tempfile::tempfile().unwrap();
    for page in 1..4 {
        file.write_all(&[page; PAGE]).unwrap();
    }
    file
}

fn wait_for(ring: &mut Ring) -> Event {
    loop {
        ring.wait().unwrap();
        if let Some(event) = ring.next().unwrap() {
            return event;
        }
    }
}

#[test]
fn parts_of_a_file_land_where_they_belong() {
    let file = pages();
    let mut ring = Ring::new(1, &[file.as_fd()]).unwrap();
    let [entry] = entries(1, 288, 4 * PAGE).unwrap().try_into().unwrap();
    let part = |offset, at, len| Part { file: File(0), offset, at, len };
    ring.read(entry, vec![part(4096, 0, PAGE), part(0, 2 * PAGE, 100), part(8190, PAGE, 4)])
        .unwrap();
    let Event::Read(mut entry, result) = wait_for(&mut ring) else { panic!("no read") };
    result.unwrap();
    let (_, payload) = entry.parts();
    assert!(payload[..PAGE].iter().all(|byte| *byte == 2));
    assert_eq!(payload[PAGE..PAGE + 5], [2, 2, 3, 3, 0]);
    assert!(payload[2 * PAGE..2 * PAGE + 100].iter().all(|byte| *byte == 1));
    assert_eq!(payload[2 * PAGE + 100], 0);
}

#[test]
fn a_read_past_the_end_is_an_error() {
    let file = pages();
    let mut ring = Ring::new(1, &[file.as_fd()]).unwrap();
    let [entry] = entries(1, 288, 2 * PAGE).unwrap().try_into().unwrap();
    ring.read(entry, vec![Part { file: File(0), offset: 8192, at: 0, len: 2 * PAGE }]).unwrap();
    let Event::Read(_, result) = wait_for(&mut ring) else { panic!("no read") };
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_part_outside_of_the_payload_is_not_submitted() {
    let file = pages();
    let mut ring = Ring::new(1, &[file.as_fd()]).unwrap();
    let [entry] = entries(1, 288, PAGE).unwrap().try_into().unwrap();
    assert!(ring.read(entry, vec![Part { file: File(0), offset: 0, at: 1, len: PAGE }]).is_err());
}

#[test]
fn somebody_else_can_wake_it() {
    let flags = rustix::event::EventfdFlags::CLOEXEC;
    let bell = rustix::event::eventfd(0, flags).unwrap();
    let mut ring = Ring::new(1, &[bell.as_fd()]).unwrap();
    ring.listen(File(0)).unwrap();
    let ringer = std::thread::spawn(move || {
        rustix::io::write(&bell, &1_u64.to_ne_bytes()).unwrap();
    });
    assert!(matches!(wait_for(&mut ring), Event::Woken));
    ringer.join().unwrap();
}

#[test]
fn only_reads_and_commands_of_registered_files_are_taken() {
    let file = pages();
    let mut ring = Ring::new(1, &[file.as_fd()]).unwrap();
    let fixed = types::Fixed(0);
    let plain = types::Fd(file.as_raw_fd());
    let mut byte = [0_u8; 1];
    let path = c"/etc/passwd".as_ptr();
    let refused = [
        opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path).build(),
        opcode::Socket::new(libc::AF_UNIX, libc::SOCK_STREAM, 0).build(),
        opcode::Write::new(fixed, b"x".as_ptr(), 1).build(),
        opcode::Fallocate::new(fixed, 1).build(),
        opcode::Nop::new().build(),
        opcode::Nop::new().build().flags(Flags::FIXED_FILE),
        opcode::Close::new(plain).build(),
        opcode::UnlinkAt::new(types::Fd(libc::AT_FDCWD), path).build(),
        opcode::Read::new(plain, byte.as_mut_ptr(), 1).build(),
        opcode::Read::new(fixed, byte.as_mut_ptr(), 1).build().flags(Flags::IO_LINK),
        opcode::Read::new(fixed, byte.as_mut_ptr(), 1).build().flags(Flags::ASYNC),
    ];
    for entry in refused {
        let what = format!("{entry:?}");
        assert_eq!(ring.attack(entry), -libc::EACCES, "{what}");
    }
    let unknown = opcode::Read::new(types::Fixed(1), byte.as_mut_ptr(), 1).build();
    assert_eq!(ring.attack(unknown), -libc::EBADF);
    let permitted = opcode::Read::new(fixed, byte.as_mut_ptr(), 1).build();
    assert_eq!((ring.attack(permitted), byte), (1, [1]));
}

#[test]
fn nothing_can_be_registered_once_it_runs() {
    let file = pages();
    let ring = Ring::new(1, &[file.as_fd()]).unwrap();
    let submitter = ring.ring.submitter();
    let denied = |result: io::Result<()>| {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EACCES));
    };
    denied(submitter.register_files_update(0, &[0]).map(drop));
    denied(submitter.register_eventfd(file.as_raw_fd()));
    denied(submitter.register_personality().map(drop));
    denied(submitter.register_iowq_max_workers(&mut [9, 9]));
    denied(submitter.register_restrictions(&mut [Restriction::sqe_op(opcode::OpenAt::CODE)]));
}

#[test]
fn a_file_is_closed_once_the_ring_drops_it() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let ring = Ring::new(1, &[writer.as_fd()]).unwrap();
    drop(writer);
    drop_files(ring.number()).unwrap();
    // The end of the file: nobody has it open for writing.
    assert_eq!(rustix::io::read(&reader, &mut [0; 1]).unwrap(), 0);
    assert!(drop_files(ring.number()).is_err());
}
