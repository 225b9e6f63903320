//! Bounds on everything that crosses the socket.

/// Bytes of a packet, at most.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Bytes of a [`crate::Text`], at most (a path with its NUL left off).
pub const MAX_TEXT: usize = 4095;
/// File descriptors with one message, at most.
pub const MAX_FDS: usize = 64;
/// Threads of a server that read the connection, at most; each has a descriptor of its own.
pub const MAX_THREADS: u16 = 32;
/// Bytes that a server's caches have, at least.
pub const MIN_CACHE: u64 = 1 << 20;
/// Bytes that a server's caches may have, at most: with its buffers and what is not yet on the disk it
/// stays below the gibibyte that it is limited to.
pub const MAX_CACHE: u64 = 768 << 20;
/// Microseconds of waiting awake for a request, at most: more would cost a CPU for nothing.
pub const MAX_BUSY_POLL: u32 = 1000;
