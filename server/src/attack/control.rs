//! The same attacks, outside of any sandbox: `fuse4fs-server attack NAME [DEVICE END]`.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;

use super::{Reach, attempts, exhaust, takers, writes};

/// Carries out one attack and prints its errno, 0 for success. In a process that has one thread, and
/// ends right after.
pub(crate) fn run_unconfined(arguments: &[OsString]) -> std::io::Result<()> {
    let word = |index: usize| arguments.get(index).and_then(|word| word.to_str()).unwrap_or("");
    if let Some(number) = takers().iter().position(|name| *name == word(0)) {
        exhaust::take(number);
        return Ok(());
    }
    #[cfg(target_arch = "x86_64")]
    if word(0) == "old entry" {
        println!("{}", crate::sys::attack::old_entry().min(0));
        return Ok(());
    }
    let open = |flags| File::options().read(true).write(true).custom_flags(flags).open(word(1));
    let (device, direct) = (open(0)?, open(libc::O_DIRECT)?);
    let fuse: OwnedFd = File::options().read(true).write(true).open("/dev/fuse")?.into();
    let log = File::options().write(true).custom_flags(libc::O_TMPFILE).open("/tmp")?;
    // A kernel without it must not make the attack fail here.
    let pressure = File::options().read(true).write(true).open("/proc/pressure/memory").ok();
    // Somebody must be there to be spoken to.
    let (socket, _other) = UnixDatagram::pair()?;
    let files = [fuse.as_raw_fd()].into_iter().chain([device.as_raw_fd(); 7]).collect::<Vec<_>>();
    let mut reach = Reach {
        device: device.as_raw_fd(),
        direct: Some(direct.as_raw_fd()),
        fuse: fuse.as_raw_fd(),
        socket: socket.as_raw_fd(),
        log: log.as_raw_fd(),
        pressure: pressure.as_ref().map_or(log.as_raw_fd(), AsRawFd::as_raw_fd),
        end: word(2).parse().unwrap_or(0),
        ring: crate::sys::attack::free_ring(&files),
    };
    let known = attempts().into_iter().chain(writes());
    let attempt = known.into_iter().find(|attempt| attempt.name == word(0));
    let attempt = attempt.ok_or_else(|| std::io::Error::other(format!("no attack {}", word(0))))?;
    println!("{}", attempt.errno(&mut reach));
    Ok(())
}
