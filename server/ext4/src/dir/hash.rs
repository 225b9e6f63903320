//! The hashes that order an indexed directory.
//!
//! `legacy` is the hash of the first htree patches; `half_md4` is MD4 (RFC 1320) with eight words and
//! eight operations a round; `tea` runs the Tiny Encryption Algorithm (Wheeler and Needham, 1994)
//! over the name. Each exists twice, with name bytes taken as signed or unsigned: the sign of a
//! `char` depended on the machine, and the superblock says which one made the directories. A fourth
//! hash, SipHash with a key, is only ever read from the disk, behind the names that it belongs to.
//! Source: Documentation/filesystems/ext4/directory.rst, "Hash Tree Directories"

use crate::geometry::Geometry;

/// The hash that stands for the end of a directory and is never a name's.
const END: u32 = 0xffff_fffe;

/// A name's place in hash order. `major` is even: bit 0 is the index's continuation mark.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct DirHash {
    pub(super) major: u32,
    /// Orders names of equal `major`. Never on the disk, except in encrypted casefolded directories.
    pub(super) minor: u32,
}

/// The functions an index may name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HashVersion {
    Legacy,
    HalfMd4,
    Tea,
    /// Stored with each entry; never computed here, for that takes the directory's key.
    Siphash,
}

impl HashVersion {
    /// The version as the index or the superblock names it.
    pub(super) fn from_disk(version: u8) -> Option<Self> {
        match version {
            0 => Some(Self::Legacy),
            1 => Some(Self::HalfMd4),
            2 => Some(Self::Tea),
            6 => Some(Self::Siphash),
            _ => None,
        }
    }
}

/// Hashes names for one directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hasher {
    pub(super) version: HashVersion,
    unsigned: bool,
    seed: [u32; 4],
}

impl Hasher {
    pub(super) fn new(geometry: &Geometry, version: HashVersion) -> Self {
        Self::with_seed(version, geometry.hash_unsigned, geometry.hash_seed)
    }

    pub(super) fn with_seed(version: HashVersion, unsigned: bool, seed: [u32; 4]) -> Self {
        // MD4's initial state, unless the file system has a seed of its own.
        const DEFAULT: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
        let seed = if seed == [0; 4] { DEFAULT } else { seed };
        Self { version, unsigned, seed }
    }

    /// The hash of `name`'s bytes; zeros for [`HashVersion::Siphash`].
    pub(super) fn hash(&self, name: &[u8]) -> DirHash {
        let (major, minor) = match self.version {
            HashVersion::Legacy => (self.legacy(name), 0),
            HashVersion::HalfMd4 => {
                let [_, major, minor, _] = self.blocks::<8>(name, half_md4);
                (major, minor)
            }
            HashVersion::Tea => {
                let [major, minor, ..] = self.blocks::<4>(name, tea);
                (major, minor)
            }
            HashVersion::Siphash => (0, 0),
        };
        let major = match major & !1 {
            END => END.wrapping_sub(2),
            major => major,
        };
        DirHash { major, minor }
    }

    /// A name byte as the machine's `char` that made the hash widened it.
    fn widen(&self, byte: u8) -> u32 {
        if self.unsigned { byte.into() } else { i32::from(byte.cast_signed()).cast_unsigned() }
    }

    fn legacy(&self, name: &[u8]) -> u32 {
        let (mut older, mut newer) = (0x37ab_e8f9_u32, 0x12a3_fe2d_u32);
        for &byte in name {
            let mixed = newer ^ self.widen(byte).wrapping_mul(7_152_373);
            let mut hash = older.wrapping_add(mixed);
            if hash & 0x8000_0000 != 0 {
                hash = hash.wrapping_sub(0x7fff_ffff);
            }
            (older, newer) = (newer, hash);
        }
        newer << 1
    }

    /// Runs `mix` over the name, `WORDS` words at a time.
    fn blocks<const WORDS: usize>(
        &self,
        name: &[u8],
        mix: fn(&mut [u32; 4], &[u32; WORDS]),
    ) -> [u32; 4] {
        let mut state = self.seed;
        let mut rest = name;
        while !rest.is_empty() {
            mix(&mut state, &self.words(rest));
            rest = rest.get(WORDS.saturating_mul(4)..).unwrap_or_default();
        }
        state
    }

    /// The next words of the name, first byte highest. What the name does not fill is padded with
    /// its (remaining) length, in the last partial word too.
    fn words<const WORDS: usize>(&self, rest: &[u8]) -> [u32; WORDS] {
        let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let pad = len | len << 8;
        let pad = pad | pad << 16;
        let mut words = [pad; WORDS];
        for (word, bytes) in words.iter_mut().zip(rest.chunks(4)) {
            for &byte in bytes {
                *word = self.widen(byte).wrapping_add(*word << 8);
            }
        }
        words
    }
}

/// One operation of MD4: mixes a word into the first of four registers and turns the registers.
fn step(registers: &mut [u32; 4], mixed: u32, word: u32, turn: u32) {
    let [a, b, c, d] = *registers;
    let a = a.wrapping_add(mixed).wrapping_add(word).rotate_left(turn);
    *registers = [d, a, b, c];
}

/// The turns of a round, which come twice.
fn twice(turns: [u32; 4]) -> impl Iterator<Item = u32> {
    turns.into_iter().chain(turns)
}

/// Three rounds of eight operations each.
fn half_md4(state: &mut [u32; 4], words: &[u32; 8]) {
    // The square roots of 2 and 3, as in MD4.
    const ROOT2: u32 = 0x5a82_7999;
    const ROOT3: u32 = 0x6ed9_eba1;
    let [w0, w1, w2, w3, w4, w5, w6, w7] = *words;
    let mut registers = *state;
    for (word, turn) in [w0, w1, w2, w3, w4, w5, w6, w7].into_iter().zip(twice([3, 7, 11, 19])) {
        let [_, b, c, d] = registers;
        step(&mut registers, d ^ (b & (c ^ d)), word, turn);
    }
    for (word, turn) in [w1, w3, w5, w7, w0, w2, w4, w6].into_iter().zip(twice([3, 5, 9, 13])) {
        let [_, b, c, d] = registers;
        step(&mut registers, (b & c).wrapping_add((b ^ c) & d), word.wrapping_add(ROOT2), turn);
    }
    for (word, turn) in [w3, w7, w2, w6, w1, w5, w0, w4].into_iter().zip(twice([3, 9, 11, 15])) {
        let [_, b, c, d] = registers;
        step(&mut registers, b ^ c ^ d, word.wrapping_add(ROOT3), turn);
    }
    add(state, registers);
}

/// Sixteen cycles of TEA with the words as its key.
fn tea(state: &mut [u32; 4], key: &[u32; 4]) {
    const DELTA: u32 = 0x9e37_79b9;
    let [a, b, c, d] = *key;
    let [mut left, mut right, ..] = *state;
    let mut sum = 0_u32;
    let half = |from: u32, sum: u32, k0: u32, k1: u32| {
        (from << 4).wrapping_add(k0) ^ from.wrapping_add(sum) ^ (from >> 5).wrapping_add(k1)
    };
    for _ in 0..16 {
        sum = sum.wrapping_add(DELTA);
        left = left.wrapping_add(half(right, sum, a, b));
        right = right.wrapping_add(half(left, sum, c, d));
    }
    add(state, [left, right, 0, 0]);
}

fn add(state: &mut [u32; 4], other: [u32; 4]) {
    for (word, other) in state.iter_mut().zip(other) {
        *word = word.wrapping_add(other);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]
    use super::*;

    /// 6f1c1e0a-3b5d-4d0a-9f11-0123456789ab as four little-endian words.
    const SEED: [u32; 4] = [0x0a1e_1c6f, 0x0a4d_5d3b, 0x2301_119f, 0xab89_6745];

    /// Names with every length up to 255 and every byte value, the same for all.
    fn names() -> impl Iterator<Item = Vec<u8>> {
        (1..=255_usize).map(|len| (0..len).map(|at| (at * 7 + len) as u8 | 1).collect())
    }

    /// The hashes of [`names`] in a row, as one crc32c.
    fn digest(version: HashVersion, unsigned: bool, seed: [u32; 4]) -> u32 {
        let hasher = Hasher::with_seed(version, unsigned, seed);
        names().fold(0, |crc, name| {
            let DirHash { major, minor } = hasher.hash(&name);
            let crc = crate::disk::checksum::crc32c(crc, &major.to_le_bytes());
            crate::disk::checksum::crc32c(crc, &minor.to_le_bytes())
        })
    }

    #[test]
    fn single_names_hash_as_debugfs_says() {
        let hash = |version, name| Hasher::with_seed(version, false, SEED).hash(name);
        let cases: &[(HashVersion, &[u8], u32, u32)] = &[
            (HashVersion::Legacy, b"a", 0xe74b53e2, 0x0),
            (HashVersion::Legacy, b"lost+found", 0x5e2aba24, 0x0),
            (HashVersion::Legacy, b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0x862591b4, 0x0),
            (HashVersion::Legacy, b"name_of_32_bytes_exactly_here_ok", 0xb5bf9c92, 0x0),
            (HashVersion::Legacy, b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 0xf985a9f6, 0x0),
            (HashVersion::HalfMd4, b"a", 0xe2c6d494, 0x2376c325),
            (HashVersion::HalfMd4, b"lost+found", 0x8ef6c790, 0x8e3fd30c),
            (HashVersion::HalfMd4, b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0xfb8e2e36, 0x7219ce0e),
            (HashVersion::HalfMd4, b"name_of_32_bytes_exactly_here_ok", 0x7d2f7904, 0xcbb6088d),
            (HashVersion::HalfMd4, b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 0x8695d47c, 0x9bb21815),
            (HashVersion::Tea, b"a", 0x4d240c4e, 0xd280c422),
            (HashVersion::Tea, b"lost+found", 0x5ca2b6da, 0x86843a26),
            (HashVersion::Tea, b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0x4c01b360, 0xfa90692b),
            (HashVersion::Tea, b"name_of_32_bytes_exactly_here_ok", 0xf32ef4dc, 0x9659670b),
            (HashVersion::Tea, b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 0x611afed4, 0x8e829fff),
        ];
        for (version, name, major, minor) in cases {
            assert_eq!(hash(*version, name), DirHash { major: *major, minor: *minor });
        }
    }

    #[test]
    fn names_of_all_lengths_and_bytes_hash_as_in_e2fsprogs() {
        let cases = [
            (HashVersion::Legacy, false, 0xfaf3c56b, 0xfaf3c56b),
            (HashVersion::HalfMd4, false, 0x998068ba, 0xdea6cd35),
            (HashVersion::Tea, false, 0x9c821cc6, 0x62452864),
            (HashVersion::Legacy, true, 0x222e3c4e, 0x222e3c4e),
            (HashVersion::HalfMd4, true, 0xffc959d6, 0xaadbe616),
            (HashVersion::Tea, true, 0xd3dcb0d2, 0x840a9b39),
        ];
        for (version, unsigned, plain, seeded) in cases {
            assert_eq!(digest(version, unsigned, [0; 4]), plain, "{version:?} {unsigned}");
            assert_eq!(digest(version, unsigned, SEED), seeded, "{version:?} {unsigned}");
        }
    }

    #[test]
    fn the_end_mark_is_no_hash() {
        let hasher = Hasher::with_seed(HashVersion::Legacy, false, [0; 4]);
        assert!(names().all(|name| hasher.hash(&name).major < END));
    }
}
