//! Bytes of a packet ↔ message. The one place that knows bincode.
//!
//! Big-endian fixed-width integers; a length prefix can neither allocate nor count beyond
//! [`MAX_MESSAGE`], and bytes after the message are an error.

use bincode::config::{BigEndian, Configuration, Fixint, Limit};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::limits::MAX_MESSAGE;

/// Why bytes are no message.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CodecError {
    /// A message over [`MAX_MESSAGE`].
    #[error("message of {0} bytes is too long")]
    TooLong(usize),
    /// Bytes that do not decode.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// Bytes after the message.
    #[error("{0} bytes after the end of the message")]
    Trailing(usize),
}

const fn config() -> Configuration<BigEndian, Fixint, Limit<MAX_MESSAGE>> {
    bincode::config::standard()
        .with_big_endian()
        .with_fixed_int_encoding()
        .with_limit::<MAX_MESSAGE>()
}

/// One message as a packet.
///
/// # Errors
/// [`CodecError::TooLong`] when it does not fit a packet.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(message, config())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if bytes.len() > MAX_MESSAGE {
        return Err(CodecError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// One packet as a message.
///
/// # Errors
/// Anything but exactly one well-formed message.
pub fn decode<M: DeserializeOwned>(packet: &[u8]) -> Result<M, CodecError> {
    if packet.len() > MAX_MESSAGE {
        return Err(CodecError::TooLong(packet.len()));
    }
    let (message, used) = bincode::serde::decode_from_slice(packet, config())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    match packet.len().saturating_sub(used) {
        0 => Ok(message),
        rest => Err(CodecError::Trailing(rest)),
    }
}
