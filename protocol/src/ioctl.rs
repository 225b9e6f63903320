//! Private ioctls on the root of a mount: what is said after the conversation on the socket is over.
//!
//! They reach the server as FUSE_IOCTL, restricted: the kernel moves as many bytes as the number
//! says. A request need not name its user, and never shows capabilities; so whoever asks for a change
//! proves that it has CAP_SYS_ADMIN by a key that the kernel lets nobody else read ([`KEY_XATTR`]).
//! A server answers ENOTTY to whatever it does not know.

/// Bytes of the key.
pub const KEY_BYTES: usize = 16;
/// Bytes that [`IOC_SET_READ_ONLY`] takes.
pub const SET_READ_ONLY_BYTES: usize = 20;

/// An attribute that the root of each mount has in memory, and does not list: the key, made anew by
/// each server. The kernel keeps attributes of that prefix from processes without CAP_SYS_ADMIN.
pub const KEY_XATTR: &str = "trusted.fuse4fs.key";

/// `_IOW('4', 1, u8[20])`: the mount becomes read-only or read-write; the bytes are those of
/// [`SetReadOnly`].
///
/// Answered when it is done: read-only means that nothing dirty is left and the file system is
/// marked clean. EPERM: the key is wrong. EROFS: this mount cannot be written, since it began
/// read-only, its server saw damage, or the file system has features that are not written.
pub const IOC_SET_READ_ONLY: u32 = 0x4014_3401;

/// `_IOR('4', 2, u32)`: whether the server writes nothing (1) or does (0). Anybody may ask.
pub const IOC_GET_READ_ONLY: u32 = 0x8004_3402;

/// Bytes that [`IOC_STATUS`] has room for.
pub const STATUS_BYTES: usize = 16_000;

/// `_IOR('4', 3, u8[16000])`: how the mount is doing, as [`Status`](crate::Status) says it. Anybody may
/// ask.
pub const IOC_STATUS: u32 = 0xbe80_3403;

/// What [`IOC_SET_READ_ONLY`] asks for: the key, then 1 or 0 in the machine's byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetReadOnly {
    /// The value of [`KEY_XATTR`].
    pub key: [u8; KEY_BYTES],
    /// What the mount becomes.
    pub read_only: bool,
}

impl SetReadOnly {
    /// As the ioctl takes it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; SET_READ_ONLY_BYTES] {
        let mut bytes = [0; SET_READ_ONLY_BYTES];
        let state = u32::from(self.read_only).to_ne_bytes();
        for (to, from) in bytes.iter_mut().zip(self.key.into_iter().chain(state)) {
            *to = from;
        }
        bytes
    }

    /// What `bytes` say, if it is anything.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (key, state) = bytes.split_at_checked(KEY_BYTES)?;
        let read_only = match u32::from_ne_bytes(state.try_into().ok()?) {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Self { key: key.try_into().ok()?, read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_comes_through_and_nothing_else_does() {
        for read_only in [false, true] {
            let asked = SetReadOnly { key: *b"0123456789abcdef", read_only };
            let bytes = asked.to_bytes();
            assert_eq!(SetReadOnly::from_bytes(&bytes), Some(asked));
            assert_eq!(SetReadOnly::from_bytes(bytes.get(1..).unwrap_or_default()), None);
            assert_eq!(SetReadOnly::from_bytes(&[&bytes[..], &[0]].concat()), None);
        }
        assert_eq!(SetReadOnly::from_bytes(&[2; SET_READ_ONLY_BYTES]), None);
    }
}
