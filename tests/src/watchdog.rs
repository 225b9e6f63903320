//! Steps that must end: whoever hangs on a mount is freed, and the test fails.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::connection::Connection;

/// After this long a step hangs.
pub const LIMIT: Duration = Duration::from_secs(30);
/// A wait of this length within a step can still tell for whom it waited.
pub const PATIENCE: Duration = Duration::from_secs(25);

/// Does `body`, which must end within [`LIMIT`], and says `what` of an error.
///
/// A hung one is freed by aborting `connection`. One that hangs even then ends this process, since
/// nothing can be cleaned up.
///
/// # Errors
/// Those of `body`; that it hung.
pub fn step<T>(
    what: &'static str,
    connection: Option<&Connection>,
    body: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let (alive, ended) = mpsc::channel::<()>();
    let connection = connection.cloned();
    let late = move || ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
    let watch = std::thread::spawn(move || {
        if !late() {
            return false;
        }
        eprintln!("hangs: {what}");
        if let Some(connection) = connection
            && let Err(error) = connection.abort()
        {
            eprintln!("cannot be aborted: {error:#}");
        }
        if late() {
            eprintln!("hangs even without its connection: {what}");
            std::process::exit(70);
        }
        true
    });
    let result = body();
    drop(alive);
    let hung = watch.join().unwrap_or(true);
    ensure!(!hung, "{what}: had not ended after {LIMIT:?}");
    result.context(what)
}
