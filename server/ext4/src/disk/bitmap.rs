//! Bitmaps: one bit per cluster or inode of a group, least significant bit of the first byte first.
//!
//! Bits past the group's last cluster or inode are set, up to the end of the block.
//! Source: Documentation/filesystems/ext4/bitmaps.rst, checksums.rst.

use core::ops::Range;

use super::checksum::ChecksumSeed;
use crate::ids::in_memory;

/// Whether `bit` is set; bits past the end are.
#[must_use]
pub(crate) fn is_set(bytes: &[u8], bit: u32) -> bool {
    bytes.get(in_memory((bit / 8).into())).is_none_or(|byte| byte & (1 << (bit % 8)) != 0)
}

/// Gives all bits of `range` the value `to`; those past the end of `bytes` are left out.
pub(crate) fn fill(bytes: &mut [u8], range: Range<u32>, to: bool) {
    let mut at = range.start;
    while at < range.end {
        let index = in_memory((at / 8).into());
        let whole = in_memory((range.end / 8).into());
        if at.is_multiple_of(8) && whole > index {
            let upto = whole.min(bytes.len());
            if let Some(middle) = bytes.get_mut(index..upto) {
                middle.fill(if to { 0xff } else { 0 });
            }
            at = range.end & !7;
            continue;
        }
        let Some(byte) = bytes.get_mut(index) else { return };
        let mask = 1_u8 << (at % 8);
        *byte = if to { *byte | mask } else { *byte & !mask };
        at = at.saturating_add(1);
    }
}

/// The first bit of `range` that is `value`, or `range.end`.
#[must_use]
pub(crate) fn next(bytes: &[u8], range: Range<u32>, value: bool) -> u32 {
    let mut at = range.start;
    while at < range.end {
        let word = word(bytes, at / 64);
        // Bits below `at` do not count.
        let wanted = if value { word } else { !word } & (u64::MAX << (at % 64));
        let start = at & !63;
        if wanted != 0 {
            return start.saturating_add(wanted.trailing_zeros()).min(range.end);
        }
        at = start.saturating_add(64);
    }
    range.end
}

/// How many of the first `bits` bits are clear.
#[must_use]
pub(crate) fn count_clear(bytes: &[u8], bits: u32) -> u32 {
    let whole = bits / 64;
    let sum = (0..whole).map(|index| word(bytes, index).count_zeros()).sum::<u32>();
    let rest = bits % 64;
    let last = if rest == 0 { 0 } else { (word(bytes, whole) | u64::MAX << rest).count_zeros() };
    sum.saturating_add(last)
}

/// The checksum of a bitmap of `bits` bits; where descriptors are 32 bytes long its lower half.
#[must_use]
pub(crate) fn checksum(seed: ChecksumSeed, bytes: &[u8], bits: u32) -> u32 {
    seed.of(bytes.get(..in_memory((bits / 8).into())).unwrap_or(bytes))
}

/// The 64 bits from `64 * index` on; past the end all are set.
fn word(bytes: &[u8], index: u32) -> u64 {
    let start = in_memory(u64::from(index).saturating_mul(8));
    let chunk = bytes.get(start..).and_then(<[u8]>::first_chunk);
    chunk.map_or(u64::MAX, |chunk| u64::from_le_bytes(*chunk))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "test code")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_vector_of_bools_does(
            runs in prop::collection::vec((0_u32..512, 0_u32..200, any::<bool>()), 1..20),
            from in 0_u32..512,
            end in 0_u32..512,
        ) {
            let (mut bytes, mut model) = (vec![0; 64], vec![false; 512]);
            for (start, len, to) in runs {
                let range = start..(start + len).min(512);
                fill(&mut bytes, range.clone(), to);
                range.for_each(|bit| model[in_memory(bit.into())] = to);
            }
            for bit in 0..512_u32 {
                prop_assert_eq!(is_set(&bytes, bit), model[in_memory(bit.into())]);
            }
            for value in [false, true] {
                let expected = (from..end).find(|&bit| model[in_memory(bit.into())] == value);
                prop_assert_eq!(next(&bytes, from..end, value), expected.unwrap_or(end));
            }
            let clear = model.iter().take(in_memory(end.into())).filter(|&&set| !set).count();
            prop_assert_eq!(in_memory(count_clear(&bytes, end).into()), clear);
        }
    }

    #[test]
    fn past_the_end_every_bit_is_set() {
        let mut bytes = [0; 8];
        assert!(is_set(&bytes, 64));
        assert_eq!(next(&bytes, 70..90, false), 90);
        fill(&mut bytes, 60..90, true);
        assert_eq!(count_clear(&bytes, 90), 60);
    }
}
