//! System calls, one file per kind. The only place with `unsafe`, and no decision is taken here.

pub(crate) mod child;
pub(crate) mod ioctl;
pub(crate) mod launch;
pub(crate) mod loops;
pub(crate) mod open;
mod prune;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod vfs;
