//! The contained server of one mount, or of one look at a device.
//!
//! [`run`] is the whole life: take the socket, hear what to serve, enter the sandbox, serve. From
//! `sandbox` on the process can only read, write and wait on the descriptors that the helper gave
//! it; `fuse` speaks to the kernel, the engine (`fuse4fs_ext4`) knows the disk.

#[cfg(feature = "attack")]
#[doc(hidden)]
pub mod attack;
mod checking;
mod cli;
mod clock;
mod device;
mod flusher;
mod fuse;
mod log;
mod mounting;
mod notices;
mod pressure;
mod progress;
mod sandbox;
mod session;
mod sys;
mod window;

#[cfg(feature = "null")]
#[doc(hidden)]
pub use fuse::serve_null;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use fuse::decode_request;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use session::hear_helper;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use thiserror::Error;

use cli::Command;
use fuse::{Doors, Rings};
use fuse4fs_protocol::{CheckRequest, MountRequest, RefusalKind, Switch};
use mounting::{Machine, Mount};
use pressure::Watch;
use sandbox::{Confined, Surroundings, Unconfined};
use session::{Asked, Conversation, Devices, Greeting, Handed};

/// Where a spawning helper leaves the socket; systemd's first descriptor has the same number.
const SOCKET: RawFd = 3;

/// Why the server ends with an error.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct ServerError(#[from] Reason);

#[derive(Debug, Error)]
enum Reason {
    #[error(transparent)]
    Usage(#[from] cli::UsageError),
    #[error("no socket: {0}; it is started by fuse4fs.socket or by mount.fuse4fs")]
    Socket(#[source] io::Error),
    #[error(transparent)]
    Session(#[from] session::SessionError),
    #[error(transparent)]
    Sandbox(#[from] sandbox::SandboxError),
    #[error(transparent)]
    Serve(#[from] mounting::ServeError),
    #[error("no io_uring: {0}")]
    Rings(#[source] io::Error),
    #[error("cannot ignore or block a signal: {0}")]
    Signals(#[source] io::Error),
    #[error("cannot print: {0}")]
    Print(#[source] io::Error),
}

/// Runs the server with the arguments after the program's name.
///
/// # Errors
/// Why nothing could be served, as a sentence for a person.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Result<(), ServerError> {
    #[cfg(feature = "attack")]
    let arguments = {
        let arguments: Vec<OsString> = arguments.collect();
        if let Some((_, attack)) = arguments.split_first().filter(|(first, _)| *first == "attack") {
            return Ok(attack::run_unconfined(attack).map_err(Reason::Print)?);
        }
        arguments.into_iter()
    };
    match cli::parse(arguments).map_err(Reason::from)? {
        Command::Help => print(cli::HELP)?,
        Command::Version => print(concat!("fuse4fs-server ", env!("CARGO_PKG_VERSION"), "\n"))?,
        Command::Serve(surroundings) => serve(surroundings)?,
    }
    Ok(())
}

fn print(text: &str) -> Result<(), Reason> {
    io::Write::write_all(&mut io::stdout(), text.as_bytes()).map_err(Reason::Print)
}

fn serve(surroundings: Surroundings) -> Result<(), Reason> {
    sys::ignore(libc::SIGHUP).map_err(Reason::Signals)?;
    // A log that may not grow any more is lost, not the mount.
    sys::ignore(libc::SIGXFSZ).map_err(Reason::Signals)?;
    let socket = socket(surroundings).map_err(Reason::Socket)?;
    match Greeting::new(socket)?.welcome()?.request()? {
        (conversation, Asked::Mount(request, handed)) => {
            serve_mount(surroundings, conversation, *request, handed)
        }
        (conversation, Asked::Check(request, devices)) => {
            check(surroundings, conversation, &request, devices)
        }
    }
}

fn serve_mount(
    surroundings: Surroundings,
    conversation: Conversation,
    request: MountRequest,
    handed: Handed,
) -> Result<(), Reason> {
    log::start(request.log_level);
    sys::share_heap();
    show(&request);
    flusher::become_one();
    let mut handed = clone_channels(handed);
    let rings = match prepare_rings(&request, &mut handed) {
        Ok(rings) => rings,
        Err(error) => {
            conversation.refuse(RefusalKind::Internal, &format!("io_uring=on: {error}"));
            return Err(Reason::Rings(error));
        }
    };
    let pressure = Watch::choose(handed.pressure.take());
    let machine = Machine::look();
    let keep = handed.numbers().chain([conversation.number()]);
    let keep = keep.chain(pressure.as_ref().map(Watch::number));
    let keep = keep.chain(rings.iter().flat_map(Rings::descriptors)).collect();
    // Before the first thread: each inherits the mask.
    let sigterm = sys::BlockedSignal::new(libc::SIGTERM).map_err(Reason::Signals)?;
    let fuse: Vec<RawFd> = handed.channels().collect();
    let unconfined = Unconfined::new(surroundings, handed.longest_file());
    let (confined, conversation) = confine(unconfined, conversation, keep, &fuse)?;
    let mount = Mount { conversation, request, handed, rings, pressure, machine, sigterm };
    #[cfg(feature = "attack")]
    let Some(mount) = attack::take_over(&confined, mount).map_err(mounting::ServeError::from)?
    else {
        return Ok(());
    };
    Ok(mounting::serve(&confined, mount)?)
}

/// Looks at a device, in the sandbox of a mount. No file may be written there, so none may grow.
fn check(
    surroundings: Surroundings,
    conversation: Conversation,
    request: &CheckRequest,
    devices: Devices,
) -> Result<(), Reason> {
    log::start(request.log_level);
    let device = &request.device_name;
    sys::title::set(&format!("fuse4fs-{device}"), &format!("fuse4fs check {device}"));
    let keep = devices.numbers().chain([conversation.number()]).collect();
    let unconfined = Unconfined::new(surroundings, 0);
    let (confined, conversation) = confine(unconfined, conversation, keep, &[])?;
    Ok(checking::check(&confined, conversation, request, devices)?)
}

/// Goes into the sandbox, or tells the helper why not.
fn confine(
    unconfined: Unconfined,
    conversation: Conversation,
    keep: Vec<RawFd>,
    fuse: &[RawFd],
) -> Result<(Confined, Conversation), Reason> {
    match unconfined.enter(keep, fuse) {
        Ok(confined) => Ok((confined, conversation)),
        Err(error) => {
            conversation.refuse(RefusalKind::Internal, &error.to_string());
            Err(error.into())
        }
    }
}

/// Has ps(1) tell which mount this is.
fn show(request: &MountRequest) {
    let (device, place) = (&request.device_name, &request.engine.mount_point);
    sys::title::set(&format!("fuse4fs-{device}"), &format!("fuse4fs {device} {place}"));
}

/// The one socket that systemd passes with Accept=yes, or the helper's.
fn socket(surroundings: Surroundings) -> io::Result<OwnedFd> {
    if surroundings == Surroundings::Unit {
        let fds: Vec<RawFd> = sd_notify::listen_fds()?.collect();
        if fds != [SOCKET] {
            return Err(io::Error::other(format!("systemd passed {} sockets, not one", fds.len())));
        }
    }
    sys::adopt(SOCKET)
}

/// Makes rings while that is possible. What the host lacks for them is not needed to serve, unless
/// somebody insists.
fn prepare_rings(request: &MountRequest, handed: &mut Handed) -> io::Result<Option<Rings>> {
    // Of no use without rings.
    let load = handed.load.take();
    let wanted = request.serving.io_uring;
    if wanted == Switch::Off {
        return Ok(None);
    }
    let doors = Doors {
        fuse: handed.fuse.as_fd(),
        device: handed.device.as_fd(),
        direct: handed.direct.as_ref().map(OwnedFd::as_fd),
    };
    let rings = Rings::prepare(doors, request.serving.cpus);
    let rings = rings.map(|rings| rings.heeding(load, request.serving.cpus));
    match rings {
        Err(error) if wanted == Switch::On => Err(error),
        rings => Ok(rings.inspect_err(|error| tracing::debug!("no rings: {error}")).ok()),
    }
}

/// Makes channels of the spare descriptors now, as the sandbox permits no ioctl. One that cannot
/// become a channel is not needed to serve.
fn clone_channels(mut handed: Handed) -> Handed {
    handed.clones.retain(|fresh| {
        let cloned = sys::clone_channel(fresh, &handed.fuse);
        cloned
            .inspect_err(|error| {
                tracing::warn!("descriptor {} stays unused: {error}", fresh.as_raw_fd());
            })
            .is_ok()
    });
    handed
}
