//! The FUSE side: requests of the kernel become verbs of the engine.
//!
//! A transport (`uring`, or `classic` with the threads of `crew`) carries requests and replies. `abi`,
//! `body` and `decode` take the bytes
//! apart, `serve` knows what phase the mount is in, `verbs` has one method for each operation, and
//! `reply` is what it answers with. The engine never sees a FUSE type and nothing here sees one of
//! the disk.

mod abi;
mod attr;
mod body;
mod classic;
mod command;
mod control;
mod crew;
mod decode;
mod errno;
mod forget;
mod handles;
#[cfg(feature = "attack")]
mod hostile;
mod init;
mod ioctl;
mod nodes;
#[cfg(feature = "null")]
mod null;
mod operations;
mod post;
mod readdir;
mod reply;
mod request;
mod serve;
mod settings;
#[cfg(feature = "test-hooks")]
mod silence;
mod status;
mod turn;
mod uring;
mod verbs;

#[cfg(test)]
mod tests;

pub(crate) use classic::{Classic, Effort, OnInit, OnStop};
pub(crate) use crew::CrewSize;
#[cfg(feature = "attack")]
pub use hostile::{Action, LIES, Lie, MUTES};
#[cfg(feature = "attack")]
pub(crate) use hostile::{misuse_ring, serve_hostile};
#[cfg(feature = "null")]
pub use null::serve_null;
pub(crate) use serve::Frontend;
pub(crate) use settings::{Process, Settings};
pub(crate) use uring::{Doors, Rings};

/// Decodes one request as the transports do, for fuzzers; what it is, if it is one.
///
/// # Panics
/// When bytes that are a request in one piece are none in two.
#[cfg(feature = "fuzzing")]
#[must_use]
pub fn decode_request(bytes: &[u8]) -> Option<&'static str> {
    use body::Body;
    use zerocopy::FromBytes;

    let (header, body) = abi::InHeader::read_from_prefix(bytes).ok()?;
    let dialect = decode::Dialect { setxattr_ext: header.unique & 1 != 0 };
    let name = |body: Body<'_>| {
        decode::decode(&header, body, dialect).ok().map(|call| call.request.name())
    };
    let whole = name(Body::Whole(body));
    // Fixed parts are of at most 128 bytes, a multiple of 4.
    let split = (0..=128_usize).step_by(4).filter_map(|len| {
        let (op_in, payload) = body.split_at_checked(len)?;
        name(Body::Split { op_in, payload })
    });
    let same = split.filter(|name| Some(*name) == whole).count();
    assert!(whole.is_none() || whole == Some("init") || same > 0, "{whole:?} only in one piece");
    whole
}
