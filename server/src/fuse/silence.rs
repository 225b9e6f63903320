//! A server that answers nothing any more after it was asked for the name `fall silent`, so that tests can
//! look at who waits then. In no program that is shipped.
//!
//! Threads sleep where they can be woken, as those of a server that means harm must.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::request::{Call, Request};

static SILENT: AtomicBool = AtomicBool::new(false);

/// Does not return once that is so.
pub(super) fn keep() {
    while SILENT.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// This call is the last that is answered, if it is that.
pub(super) fn fall_if_asked(call: &Call<'_>) {
    if let Request::Lookup(name) = call.request
        && name.0 == b"fall silent"
    {
        SILENT.store(true, Ordering::Relaxed);
    }
}
