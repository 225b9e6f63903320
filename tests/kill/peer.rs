//! What is mounted, and how it crashes.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::connection::{self, Connection};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::product::Product;
use fuse4fs_tests::sys;
use fuse4fs_tests::uring::Parameter;
use rustix::fs::StatVfsMountFlags;
use rustix::process::{Pid, Signal, kill_process};

#[derive(Clone, Copy)]
pub(crate) enum Peer {
    Ours(&'static Product),
    Kernel,
}

/// A mount that can crash.
pub(crate) struct Victim {
    pub(crate) mounted: Mounted,
    /// None of the kernel's.
    pub(crate) connection: Option<Connection>,
    server: Option<Pid>,
}

impl Peer {
    pub(crate) fn chosen() -> Result<Self> {
        host::need_root()?;
        if std::env::var("FUSE4FS_PEER").is_ok_and(|peer| peer == "kernel") {
            return Ok(Self::Kernel);
        }
        let product = Product::get()?;
        connection::show()?;
        Ok(Self::Ours(product))
    }

    /// Mounts it to be written, over io_uring if `ring` and where that can be had.
    pub(crate) fn mount(self, image: &Path, target: &Path, ring: bool) -> Result<Victim> {
        let Self::Ours(product) = self else {
            let mounted = Mounted::kernel(image, target, "rw")?;
            return Ok(Victim { mounted, connection: None, server: None });
        };
        let rings = if ring { Parameter::set("Y").ok() } else { None };
        let options = if rings.is_some() { "rw,io_uring=on" } else { "rw,io_uring=off" };
        let mounted = product.mount(image, target, options)?;
        let flags = rustix::fs::statvfs(target)?.f_flag;
        // It has answered, so it has the rings.
        drop(rings);
        ensure!(!flags.contains(StatVfsMountFlags::RDONLY), "it is mounted read-only");
        let server = Pid::from_raw(i32::try_from(product.server_running()?)?);
        Ok(Victim { mounted, connection: Some(Connection::of(target)?), server })
    }
}

impl Victim {
    /// From now on nothing reaches the device.
    pub(crate) fn crash(&self) -> Result<()> {
        match self.server {
            Some(pid) => kill_process(pid, Signal::KILL).context("killing the server"),
            None => sys::shut_down(File::open(self.mounted.path())?).context("shutting it down"),
        }
    }
}
