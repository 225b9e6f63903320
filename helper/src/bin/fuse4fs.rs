//! `fuse4fs`: shows an image without being root.

use std::process::ExitCode;

fn main() -> ExitCode {
    fuse4fs_helper::fuse4fs(std::env::args_os().skip(1))
}
