//! How long a reader of /dev/fuse looks for the next request before it sleeps.
//!
//! A client that waits for each answer asks again some microseconds after it; a reader that sleeps
//! meanwhile pays for two CPUs that have to wake up, which takes several times as long as to answer.

use std::time::Duration;

/// Where nobody says how long: longer than a client takes that goes from one request to the next.
const USUAL: Duration = Duration::from_micros(50);
/// Failures that what was found before makes up for.
const MEMORY: u8 = 4;

/// How long a reader looks, and whether it was worth it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lookout {
    longest: Duration,
    adapts: bool,
    worth: u8,
}

impl Lookout {
    /// Looks for `micros` microseconds each time, 0 for never; `None`: where that is worth it.
    pub(crate) fn new(micros: Option<u32>) -> Self {
        match micros {
            Some(micros) => {
                let longest = Duration::from_micros(micros.into());
                Self { longest, adapts: false, worth: 1 }
            }
            None => Self { longest: USUAL, adapts: true, worth: 0 },
        }
    }

    /// For how long to look now; zero: not at all.
    pub(super) fn time(self) -> Duration {
        if self.worth > 0 { self.longest } else { Duration::ZERO }
    }

    /// Looking has found a request, or not.
    pub(super) fn looked(&mut self, found: bool) {
        if self.adapts {
            let more =
                if found { self.worth.saturating_add(1) } else { self.worth.saturating_sub(1) };
            self.worth = more.min(MEMORY);
        }
    }

    /// A reader that did not look has slept for `slept`.
    pub(super) fn slept(&mut self, slept: Duration) {
        if slept < self.longest {
            self.worth = self.worth.max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_millis(3);
    const SHORT: Duration = Duration::from_micros(20);

    #[test]
    fn it_looks_once_requests_come_soon_and_stops_when_they_do_not() {
        let mut lookout = Lookout::new(None);
        assert!(lookout.time().is_zero());
        lookout.slept(LONG);
        assert!(lookout.time().is_zero(), "an idle mount costs nothing");
        lookout.slept(SHORT);
        assert_eq!(lookout.time(), USUAL);
        (0..100).for_each(|_| lookout.looked(true));
        for _ in 0..MEMORY {
            assert_eq!(lookout.time(), USUAL);
            lookout.looked(false);
        }
        assert!(lookout.time().is_zero());
    }

    #[test]
    fn who_is_told_how_long_looks_so_long() {
        let mut lookout = Lookout::new(Some(7));
        for found in [true, false, false, false, false, false] {
            lookout.looked(found);
            assert_eq!(lookout.time(), Duration::from_micros(7));
        }
        let mut never = Lookout::new(Some(0));
        never.slept(SHORT);
        assert!(never.time().is_zero());
    }
}
