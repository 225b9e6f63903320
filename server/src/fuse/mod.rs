//! The FUSE side: requests of the kernel become verbs of the engine.
//!
//! `abi` and `decode` take the bytes apart, `serve` runs the workers and knows what phase the mount
//! is in, `verbs` has one method for each operation, `reply` sends. The engine never sees a FUSE
//! type and nothing here sees one of the disk.

mod abi;
mod attr;
mod decode;
mod errno;
mod init;
mod ioctl;
mod nodes;
mod readdir;
mod reply;
mod serve;
mod verbs;

#[cfg(test)]
mod tests;

pub(crate) use serve::{Frontend, Settings};

/// Decodes one request as the workers do, for fuzzers; what it is, if it is one.
#[cfg(feature = "fuzzing")]
#[must_use]
pub fn decode_request(bytes: &[u8]) -> Option<&'static str> {
    decode::decode(bytes).ok().map(|call| call.request.name())
}
