//! Where in a group: pure functions over a bitmap in which everything that may not be taken is set.
//!
//! Kernel: fs/ext4/mballoc.c `ext4_mb_find_by_goal`, `ext4_mb_scan_aligned`

use std::ops::Range;

use crate::disk::bitmap;

/// What to look for in a group.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    /// A run that starts here, of any length.
    At(u32),
    /// A run of this length, after the first number if there is one, else anywhere.
    Fit(u32, u32),
    /// The longest run.
    Longest,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// The whole free run, from where it may be taken.
    pub(super) run: Option<Range<u32>>,
    /// The longest run of the group, where all of it was looked at.
    pub(super) longest: Option<u32>,
}

/// Looks in the first `bits` bits of `busy`.
pub(super) fn find(busy: &[u8], bits: u32, wish: Wish) -> Found {
    match wish {
        Wish::At(at) => {
            let run = (at < bits && !bitmap::is_set(busy, at)).then(|| run_at(busy, bits, at));
            Found { run, longest: None }
        }
        Wish::Fit(from, len) => {
            let from = from.min(bits);
            let enough = |run: &Range<u32>| length(run) >= len;
            if let Some(run) = runs(busy, from, bits).find(enough) {
                return Found { run: Some(run), longest: None };
            }
            let mut longest = 0;
            for run in runs(busy, 0, bits) {
                if enough(&run) {
                    return Found { run: Some(run), longest: None };
                }
                longest = longest.max(length(&run));
            }
            Found { run: None, longest: Some(longest) }
        }
        Wish::Longest => {
            // The first of equals.
            let run = runs(busy, 0, bits)
                .reduce(|best, run| if length(&run) > length(&best) { run } else { best });
            let longest = Some(run.as_ref().map_or(0, length));
            Found { run, longest }
        }
    }
}

/// Clusters of a run.
pub(super) fn length(run: &Range<u32>) -> u32 {
    run.end.saturating_sub(run.start)
}

fn run_at(busy: &[u8], bits: u32, at: u32) -> Range<u32> {
    at..bitmap::next(busy, at..bits, true)
}

/// All free runs from `from` on.
pub(super) fn runs(busy: &[u8], from: u32, bits: u32) -> impl Iterator<Item = Range<u32>> {
    let mut at = from;
    core::iter::from_fn(move || {
        let start = bitmap::next(busy, at..bits, false);
        let run = (start < bits).then(|| run_at(busy, bits, start))?;
        at = run.end;
        Some(run)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Free: 4..8, 16..32, 60..64.
    fn busy() -> [u8; 8] {
        let mut busy = [0xff; 8];
        [4..8, 16..32, 60..64].into_iter().for_each(|run| bitmap::fill(&mut busy, run, false));
        busy
    }

    #[test]
    fn a_run_after_the_goal_is_preferred_to_one_before_it() {
        let fit = |from, len| find(&busy(), 64, Wish::Fit(from, len));
        assert_eq!(fit(0, 4).run, Some(4..8));
        assert_eq!(fit(9, 4).run, Some(16..32));
        assert_eq!(fit(20, 4).run, Some(20..32));
        assert_eq!(fit(40, 5).run, Some(16..32));
        assert_eq!(fit(40, 17), Found { run: None, longest: Some(16) });
        assert_eq!(fit(99, 4).run, Some(4..8));
    }

    #[test]
    fn exact_and_longest_runs_are_found() {
        assert_eq!(find(&busy(), 64, Wish::At(5)).run, Some(5..8));
        assert_eq!(find(&busy(), 64, Wish::At(8)).run, None);
        assert_eq!(find(&busy(), 62, Wish::At(61)).run, Some(61..62));
        assert_eq!(find(&busy(), 62, Wish::At(63)).run, None);
        assert_eq!(
            find(&busy(), 64, Wish::Longest),
            Found { run: Some(16..32), longest: Some(16) }
        );
        assert_eq!(find(&[0xff; 8], 64, Wish::Longest), Found { run: None, longest: Some(0) });
    }
}
