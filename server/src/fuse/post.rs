//! What threads that may not write to /dev/fuse have to say there: one that may does it for them.
//! Which may, and why not all: `sandbox/syscalls.rs`.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::classic::Channel;

/// One message.
struct Letter {
    channel: Arc<Channel>,
    unique: u64,
    error: i32,
    payload: Vec<u8>,
    /// Dropped when it is written.
    written: Sender<()>,
}

/// Where messages are handed in.
#[derive(Clone)]
pub(super) struct Post(Sender<Option<Letter>>);

/// Who writes them.
pub(crate) struct Delivery(Receiver<Option<Letter>>);

impl Post {
    pub(super) fn new() -> (Self, Delivery) {
        let (letters, delivery) = channel();
        (Self(letters), Delivery(delivery))
    }

    /// Has a message written, and waits for that. After the end it goes nowhere.
    pub(super) fn write(&self, channel: Arc<Channel>, unique: u64, error: i32, payload: &[u8]) {
        let (written, is_written) = std::sync::mpsc::channel();
        let letter = Letter { channel, unique, error, payload: payload.to_vec(), written };
        if self.0.send(Some(letter)).is_ok() {
            // Nothing is ever sent: it ends with the letter.
            let _ = is_written.recv();
        }
    }

    /// There will be no more.
    pub(super) fn close(&self) {
        let _ = self.0.send(None);
    }
}

impl Delivery {
    /// Writes until that is closed.
    pub(super) fn run(self) {
        while let Ok(Some(letter)) = self.0.recv() {
            letter.channel.write(letter.unique, letter.error, &letter.payload);
            drop(letter.written);
        }
    }
}
