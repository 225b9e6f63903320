//! How memory that was short develops, and what is left of the cache's budget meanwhile.

use std::time::{Duration, Instant};

use fuse4fs_protocol::CacheSize;

use super::Severity;

/// News within this time of the last are worse than those.
const MEMORY: Duration = Duration::from_secs(10);
/// How long it has to be quiet until the budget doubles.
pub(super) const QUIET: Duration = Duration::from_secs(10);
/// From the first news until all is as it was.
#[derive(Debug)]
pub(super) struct Course {
    /// What the cache may take at least, and while memory is not short.
    size: CacheSize,
    budget: u64,
    last: Option<(Instant, Severity)>,
}

impl Course {
    /// Memory was never short.
    pub(super) fn new(size: CacheSize) -> Self {
        Self { size, budget: size.most, last: None }
    }

    /// Memory is short, as far as is `told`. How short it is, going by the news before.
    pub(super) fn worsen(&mut self, now: Instant, told: Severity) -> Severity {
        let before = self.last.filter(|(then, _)| now.duration_since(*then) < MEMORY);
        let severity = before.map_or(told, |(_, before)| told.max(before.worse()));
        self.last = Some((now, severity));
        severity
    }

    /// The budget of a cache that holds `held` bytes when memory is so short.
    pub(super) fn shrink(&mut self, severity: Severity, held: u64) -> u64 {
        let kept = match severity {
            Severity::Mild => held / 2,
            Severity::Hard => held / 16,
            Severity::Severe | Severity::Desperate => 0,
        };
        self.budget = kept.max(self.size.least).min(self.budget);
        self.budget
    }

    /// The budget after a time of [`QUIET`].
    pub(super) fn recover(&mut self) -> u64 {
        self.budget = self.budget.saturating_mul(2).min(self.size.most);
        self.budget
    }

    /// Whether the budget is the whole one.
    pub(super) fn is_over(&self) -> bool {
        self.budget >= self.size.most
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "test code")]
    use super::*;

    const WHOLE: u64 = 512 << 20;
    const FLOOR: u64 = 4 << 20;
    const SIZE: CacheSize = CacheSize { least: FLOOR, most: WHOLE };

    #[test]
    fn each_news_within_a_while_is_worse_and_what_is_told_counts_at_least() {
        let (mut course, start) = (Course::new(SIZE), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        for (seconds, told, severity) in [
            (0, Severity::Mild, Severity::Mild),
            (2, Severity::Mild, Severity::Hard),
            (4, Severity::Mild, Severity::Severe),
            (6, Severity::Mild, Severity::Desperate),
            (8, Severity::Mild, Severity::Desperate),
            (18, Severity::Mild, Severity::Mild),
            (19, Severity::Severe, Severity::Severe),
            (40, Severity::Hard, Severity::Hard),
        ] {
            assert_eq!(course.worsen(after(seconds), told), severity, "at {seconds} s");
        }
    }

    #[test]
    fn the_cache_shrinks_by_shares_and_grows_back_step_by_step() {
        let mut course = Course::new(SIZE);
        assert!(course.is_over());
        assert_eq!(course.shrink(Severity::Mild, WHOLE), WHOLE / 2);
        assert_eq!(course.shrink(Severity::Hard, WHOLE / 2), WHOLE / 32);
        assert!(!course.is_over());
        assert_eq!(course.shrink(Severity::Severe, WHOLE / 32), FLOOR);
        // What has filled up meanwhile is no reason for more.
        assert_eq!(course.shrink(Severity::Mild, 8 * FLOOR), FLOOR);
        let steps = std::iter::repeat_with(|| course.recover()).take_while(|now| *now < WHOLE);
        assert_eq!(steps.last(), Some(WHOLE / 2));
        assert!(course.is_over());
    }

    #[test]
    fn a_cache_that_is_small_anyway_stays_as_it_is() {
        let mut course = Course::new(CacheSize { least: FLOOR, most: FLOOR });
        assert_eq!(course.shrink(Severity::Severe, FLOOR), FLOOR);
        assert!(course.is_over());
    }
}
