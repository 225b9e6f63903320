//! Bounds on everything that crosses the socket.

/// Bytes of a packet, at most.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Bytes of a [`crate::Text`], at most (a path with its NUL left off).
pub const MAX_TEXT: usize = 4095;
/// File descriptors with one message, at most.
pub const MAX_FDS: usize = 64;
