//! `mount.fuse4fs`: what mount(8) executes for the type fuse4fs.

use std::process::ExitCode;

fn main() -> ExitCode {
    fuse4fs_helper::mount_fuse4fs(std::env::args_os().skip(1))
}
