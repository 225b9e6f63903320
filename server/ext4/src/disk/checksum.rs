//! The three checksums of the format: crc32c (metadata_csum), crc16 (uninit_bg) and jbd2's crc32.
//!
//! Source: Documentation/filesystems/ext4/checksums.rst.

/// ext4's running crc32c: no final inversion, so that parts can be chained.
///
/// Seed with `!0` for the first part (or [`ChecksumSeed`] for most structures).
#[must_use]
pub fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    // The crate inverts on the way in and out; ext4 does neither.
    !crc32c::crc32c_append(!seed, bytes)
}

/// crc16 (ARC: polynomial 0x8005 reflected) chained from `seed`, as uninit_bg uses it.
#[must_use]
pub fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    const ARC: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_ARC);
    let mut digest = ARC.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// jbd2's v1 checksum: crc32 most significant bit first, no final inversion, chained from `seed`.
#[must_use]
pub fn crc32_be(seed: u32, bytes: &[u8]) -> u32 {
    const MPEG: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_MPEG_2);
    let mut digest = MPEG.digest_with_initial(seed);
    digest.update(bytes);
    digest.finalize()
}

/// The file system's checksum seed: s_checksum_seed with metadata_csum_seed, else crc32c of the UUID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChecksumSeed(u32);

impl ChecksumSeed {
    /// Takes the seed as it is.
    #[must_use]
    pub const fn new(seed: u32) -> Self {
        Self(seed)
    }

    /// The raw seed.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Derives a narrower seed, for example an inode's from its number and generation.
    #[must_use]
    pub fn chain(self, bytes: &[u8]) -> Self {
        Self(crc32c(self.0, bytes))
    }

    /// The checksum of `bytes` under this seed.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> u32 {
        crc32c(self.0, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_the_check_string_inverted_is_the_published_value() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(!0, b"1234"), b"56789"), crc32c(!0, b"123456789"));
    }

    #[test]
    fn crc32_be_chains() {
        assert_eq!(crc32_be(!0, b"123456789"), 0x0376_e6e7);
        assert_eq!(crc32_be(crc32_be(!0, b"1234"), b"56789"), crc32_be(!0, b"123456789"));
    }

    #[test]
    fn crc16_chains() {
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
        assert_eq!(crc16(crc16(0xffff, b"1234"), b"56789"), crc16(0xffff, b"123456789"));
    }
}
