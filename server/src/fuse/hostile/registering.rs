//! Commands of FUSE over io_uring that make no sense.

use io_uring::IoUring;
use io_uring::opcode::UringCmd80;
use io_uring::squeue::Entry128;
use io_uring::types::Fixed;

use crate::attack::println_error;
use crate::sys::attack::submit;

/// A name, the command, the number of the request that is answered, and the queue.
const COMMANDS: [(&str, u32, u64, u16); 5] = [
    ("an unknown command", 77, 0, 0),
    ("a queue that does not exist", 1, 0, u16::MAX),
    ("an entry without memory", 1, 0, 0),
    ("an answer to nobody", 2, 0x5555, 0),
    ("an answer on no queue", 2, 1, u16::MAX),
];

/// Each fails at once; after the first, the kernel gives up rings for this mount.
pub(crate) fn run(mut ring: IoUring<Entry128>) {
    for (name, command, id, queue) in COMMANDS {
        // struct fuse_uring_cmd_req: flags, the number, the queue.
        let mut area = [0; 80];
        area[8..16].copy_from_slice(&id.to_ne_bytes());
        area[16..18].copy_from_slice(&queue.to_ne_bytes());
        let entry = UringCmd80::new(Fixed(0), command).cmd(area).build();
        let result = submit(&mut ring, &entry).unwrap_or(1);
        println_error(&format!("ring {name}: {}", -result));
    }
    println_error("done");
}
