//! What the helper and the log hear of a mount while it is made.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fuse4fs_ext4::{Guard, Notice, Observer};
use fuse4fs_protocol::Phase;
use parking_lot::Mutex;
use tracing::{Level, error, info, warn};

use crate::notices;
use crate::session::Conversation;

/// The shortest time between two messages.
const INTERVAL: Duration = Duration::from_millis(200);

/// Passes on how far the mount is, not too often.
pub(crate) struct Progress<'a> {
    conversation: &'a Conversation,
    device: &'a str,
    last: Mutex<Option<Instant>>,
}

impl<'a> Progress<'a> {
    /// Tells who is at the other end of `conversation`, and the log.
    pub(crate) fn new(conversation: &'a Conversation, device: &'a str) -> Self {
        Self { conversation, device, last: Mutex::new(None) }
    }

    /// Holds the replay for N seconds if the volume's label is `hold:N`, so that tests can look at
    /// a mount in that state however the server was started.
    #[cfg(feature = "test-hooks")]
    pub(crate) fn hold(&self, label: &[u8]) {
        let seconds = std::str::from_utf8(label).ok().and_then(|label| label.strip_prefix("hold:"));
        let seconds: u64 = seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
        for second in 0..seconds {
            self.conversation.progress(Phase::Replay, second, seconds);
            thread::sleep(Duration::from_secs(1));
        }
    }
}

impl Progress<'_> {
    fn tell(&self, phase: Phase, done: u64, total: u64) {
        let mut last = self.last.lock();
        if last.is_none_or(|last| last.elapsed() >= INTERVAL) {
            *last = Some(Instant::now());
            self.conversation.progress(phase, done, total);
        }
    }
}

impl Observer for Progress<'_> {
    fn replay(&self, done: u64, total: u64) {
        self.tell(Phase::Replay, done, total);
    }

    fn orphans(&self, done: u64, total: u64) {
        self.tell(Phase::Orphans, done, total);
    }

    fn await_other_node(&self, done: u64, total: u64) {
        self.conversation.progress(Phase::MultiMountProtection, done, total);
        thread::sleep(Duration::from_secs(1));
    }

    fn guarded(&self, guard: &Arc<Guard>) {
        let (guard, device) = (Arc::clone(guard), self.device.to_owned());
        let work = move || {
            if let Err(error) = guard.run() {
                error!("EXT4-fs ({device}): {error}; nothing is written any more");
            }
        };
        if let Err(error) = thread::Builder::new().name("mmp".into()).spawn(work) {
            warn!("EXT4-fs ({}): no thread keeps other nodes off: {error}", self.device);
        }
    }

    fn notice(&self, notice: Notice) {
        let device = self.device;
        match notices::describe(&notice) {
            (Level::INFO, text) => info!("EXT4-fs ({device}): {text}"),
            (_, text) => warn!("EXT4-fs ({device}): {text}"),
        }
    }
}
