//! Encrypted names and symlink targets as they show without their key.
//!
//! A name shows as base64url of its directory hash and its cipher text; of a long one, the rest is
//! replaced by its SHA-256, so that every name fits in 255 characters and still finds its entry.
//! Kernel: fs/crypto/fname.c `fscrypt_nokey_name`, fs/crypto/hooks.c `fscrypt_get_symlink`

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Cipher text shorter than this (FSCRYPT_FNAME_MIN_MSG_LEN) is no name.
const CIPHER_MIN: usize = 16;
/// Bytes of cipher text that are shown as they are.
const PLAIN: usize = 149;
/// Bytes of the two hashes before the cipher text.
const HASHES: usize = 8;
/// Bytes of a SHA-256.
const DIGEST: usize = 32;
/// Bytes that the longest name stands for (FSCRYPT_NOKEY_NAME_MAX).
const LONGEST: usize = HASHES + PLAIN + DIGEST;
/// Characters that those take.
const LONGEST_ENCODED: usize = 252;

/// What `cipher` shows as, with the two hashes of its entry (zeros where it has none); `None` if it
/// is too short to be a name.
pub(crate) fn no_key_name(hash: (u32, u32), cipher: &[u8]) -> Option<Vec<u8>> {
    if cipher.len() < CIPHER_MIN {
        return None;
    }
    let mut name = Vec::with_capacity(LONGEST);
    name.extend(hash.0.to_le_bytes());
    name.extend(hash.1.to_le_bytes());
    match cipher.split_at_checked(PLAIN) {
        Some((start, rest)) if !rest.is_empty() => {
            name.extend(start);
            name.extend(Sha256::digest(rest));
        }
        _ => name.extend(cipher),
    }
    Some(URL_SAFE_NO_PAD.encode(name).into_bytes())
}

/// A decoded no-key name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NoKeyName {
    hash: (u32, u32),
    /// The cipher text, or the start of it.
    start: Vec<u8>,
    /// The SHA-256 of what follows `start`, if anything does.
    rest: Option<Vec<u8>>,
}

impl NoKeyName {
    /// Takes apart a name that [`no_key_name`] made; `None` if it cannot have.
    pub(crate) fn decode(name: &[u8]) -> Option<Self> {
        if name.len() > LONGEST_ENCODED {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(name).ok()?;
        let (major, rest) = bytes.split_first_chunk()?;
        let (minor, cipher) = rest.split_first_chunk()?;
        let hash = (u32::from_le_bytes(*major), u32::from_le_bytes(*minor));
        if cipher.is_empty() || cipher.len() > PLAIN && bytes.len() != LONGEST {
            return None;
        }
        let (start, digest) = cipher.split_at_checked(PLAIN).unwrap_or((cipher, &[]));
        let rest = (!digest.is_empty()).then(|| digest.to_vec());
        Some(Self { hash, start: start.to_vec(), rest })
    }

    /// The entry's two hashes.
    pub(crate) fn hash(&self) -> (u32, u32) {
        self.hash
    }

    /// The whole cipher text, if the name holds it.
    pub(crate) fn complete(&self) -> Option<&[u8]> {
        self.rest.is_none().then_some(&self.start)
    }

    /// Whether it is the name of an entry with this cipher text.
    pub(crate) fn matches(&self, cipher: &[u8]) -> bool {
        match &self.rest {
            None => self.start == cipher,
            Some(digest) => cipher.split_at_checked(PLAIN).is_some_and(|(start, rest)| {
                !rest.is_empty() && start == self.start && *Sha256::digest(rest) == **digest
            }),
        }
    }
}

/// What an encrypted symlink shows as; `None` if `stored` (a length and that many bytes of cipher
/// text, in a buffer that may be longer) cannot be one.
pub(crate) fn no_key_target(stored: &[u8]) -> Option<Vec<u8>> {
    let (len, rest) = stored.split_first_chunk()?;
    no_key_name((0, 0), rest.get(..u16::from_le_bytes(*len).into())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::as_conversions, reason = "test code")]
    use super::*;

    fn cipher(len: u8) -> Vec<u8> {
        (0..len).map(|byte| byte.wrapping_mul(37)).collect()
    }

    #[test]
    fn every_length_of_cipher_text_shows_as_a_name_that_finds_it() {
        for len in 16..=255 {
            let shown = no_key_name((0x1234_5678, 9), &cipher(len)).unwrap();
            assert!(shown.len() <= LONGEST_ENCODED && !shown.contains(&b'/'));
            let name = NoKeyName::decode(&shown).unwrap();
            assert_eq!(name.hash(), (0x1234_5678, 9));
            assert!(name.matches(&cipher(len)));
            assert!(!name.matches(&cipher(len - 1)));
            assert_eq!(name.complete().is_some(), len <= 149);
        }
    }

    #[test]
    fn cipher_text_that_is_too_short_is_no_name() {
        assert_eq!(no_key_name((0, 0), &cipher(15)), None);
    }

    #[test]
    fn names_that_no_cipher_text_shows_as_are_refused() {
        let encode = |len| URL_SAFE_NO_PAD.encode(vec![7; len]);
        assert_eq!(NoKeyName::decode(b"plain.txt"), None);
        assert_eq!(NoKeyName::decode(encode(HASHES).as_bytes()), None, "no cipher text");
        assert!(NoKeyName::decode(encode(HASHES + PLAIN).as_bytes()).is_some());
        assert_eq!(NoKeyName::decode(encode(HASHES + PLAIN + 1).as_bytes()), None);
        assert!(NoKeyName::decode(encode(LONGEST).as_bytes()).is_some());
        assert_eq!(NoKeyName::decode(encode(LONGEST + 1).as_bytes()), None);
    }

    #[test]
    fn a_symlink_shows_the_bytes_that_its_length_names() {
        let mut stored = vec![32, 0];
        stored.extend(cipher(40));
        assert_eq!(no_key_target(&stored), no_key_name((0, 0), &cipher(32)));
        assert_eq!(no_key_target(&stored[..20]), None, "runs past the buffer");
        assert_eq!(no_key_target(&[0; 60]), None, "empty");
    }
}
