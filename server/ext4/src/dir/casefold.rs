//! Names that differ in case only: Unicode 12.1 full case folding and canonical decomposition.
//!
//! As the kernel's utf8 "nfdicf": each code point is case folded (CaseFolding.txt, C and F), then
//! decomposed, default ignorable ones are dropped, and combining marks are put in canonical order.
//! The mappings come from crates with newer data, which Unicode's stability policy keeps equal for
//! code points that were assigned in 12.1; the others pass through unchanged.
//! Kernel: fs/unicode/utf8-norm.c

use caseless::Caseless;
use unicode_normalization::char::{canonical_combining_class, decompose_canonical};

use super::unicode_12_1::{IGNORABLE, UNASSIGNED};

/// A code point and its combining class; of a dropped one only the class is left, 0: marks on its
/// two sides are not compared.
type Folded = (u8, Option<char>);

/// The folded form of `name` up to a NUL; `None` if it is not UTF-8. Names that fold to the same are
/// the same.
pub(super) fn fold(name: &[u8]) -> Option<Vec<u8>> {
    let name = name.split(|byte| *byte == 0).next()?;
    if name.is_ascii() {
        return Some(name.to_ascii_lowercase());
    }
    let mut folded = Vec::with_capacity(name.len());
    for code in core::str::from_utf8(name).ok()?.chars() {
        fold_one(code, &mut folded);
    }
    for marks in folded.chunk_by_mut(|(before, _), (after, _)| *before != 0 && *after != 0) {
        marks.sort_by_key(|(class, _)| *class);
    }
    Some(folded.into_iter().filter_map(|(_, code)| code).collect::<String>().into_bytes())
}

fn fold_one(code: char, into: &mut Vec<Folded>) {
    if within(IGNORABLE, code) {
        return into.push((0, None));
    }
    if within(UNASSIGNED, code) {
        return into.push((0, Some(code)));
    }
    for folded in core::iter::once(code).default_case_fold() {
        decompose_canonical(folded, |part| {
            into.push((canonical_combining_class(part), Some(part)));
        });
    }
}

fn within(ranges: &[(u32, u32)], code: char) -> bool {
    let code = u32::from(code);
    let after = ranges.partition_point(|(start, _)| *start <= code);
    let before = after.checked_sub(1).and_then(|index| ranges.get(index));
    before.is_some_and(|(_, end)| code <= *end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "test code")]
    use super::super::hash::{DirHash, HashVersion, Hasher};
    use super::*;
    use crate::disk::checksum::crc32c;

    /// Adds the half_md4 hash of the folded `name` to a checksum over many.
    fn digest(hasher: &Hasher, crc: u32, name: &str) -> u32 {
        let DirHash { major, minor } = hasher.hash(&fold(name.as_bytes()).unwrap());
        crc32c(crc32c(crc, &major.to_le_bytes()), &minor.to_le_bytes())
    }

    #[test]
    fn every_code_point_folds_as_in_e2fsprogs() {
        let hasher = Hasher::with_seed(HashVersion::HalfMd4, false, [0; 4]);
        let crc = ('\u{80}'..=char::MAX)
            .fold(0, |crc, code| digest(&hasher, crc, &format!("A{code}\u{301}\u{323}")));
        assert_eq!(crc, 0xe93b_489a);
    }

    #[test]
    fn mixed_names_fold_as_in_e2fsprogs() {
        // Letters with several decompositions, marks of many classes, Hangul, ignorable and
        // unassigned code points, in pseudorandom order.
        let codes: Vec<char> =
            "aZßÅ\u{1e9e}\u{1f82}\u{344}\u{345}\u{301}\u{323}\u{5b0}\u{64b}\u{3099}\u{94d}\u{ac01}\
             \u{1100}\u{1161}\u{11a8}\u{200d}\u{ad}\u{378}\u{870}\u{1e030}\u{fb2c}\u{1d15f}\u{130}ſK"
                .chars()
                .collect();
        let hasher = Hasher::with_seed(HashVersion::HalfMd4, false, [0; 4]);
        let mut state = 1_u32;
        let mut crc = 0;
        for _ in 0..5000 {
            let name: String = (0..12)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    codes[usize::try_from(state >> 16).unwrap() % codes.len()]
                })
                .collect();
            crc = digest(&hasher, crc, &name);
        }
        assert_eq!(crc, 0xa6628255);
    }

    #[test]
    fn bytes_that_are_not_utf8_do_not_fold() {
        assert_eq!(fold(b"a\xff"), None);
        assert_eq!(fold(b"\xed\xa0\x80"), None, "a surrogate");
        assert_eq!(fold("ÄÖ\u{200b}".as_bytes()), Some("a\u{308}o\u{308}".into()));
    }
}
