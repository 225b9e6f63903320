//! fuse4fs-server: see `fuse4fs_server`.

use std::io::{Write, stderr};
use std::process::ExitCode;

fn main() -> ExitCode {
    match fuse4fs_server::run(std::env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be left to read it.
            let _ = writeln!(stderr(), "fuse4fs-server: {error}");
            ExitCode::FAILURE
        }
    }
}
