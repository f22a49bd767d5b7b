// SPDX-License-Identifier: GPL-2.0

//! Rate limit for messages, so that a faulty device cannot flood the kernel log. Unlike
//! `struct ratelimit_state` it has no lock: the lock of its owner protects it.

use kernel::prelude::*;

/// Number of messages that may be printed at once.
const BURST: u32 = 10;
/// Time after which one more message may be printed, in milliseconds.
const REFILL_MS: u64 = 5_000;

/// A token bucket.
pub(crate) struct Throttle {
    tokens: u32,
    since: u64,
    kept_back: u32,
}

impl Throttle {
    /// Creates a full bucket.
    pub(crate) const fn new() -> Self {
        Self {
            tokens: BURST,
            since: 0,
            kept_back: 0,
        }
    }

    /// Returns `None` if a message must not be printed at `now`, a time in milliseconds, or else
    /// the number of messages suppressed before it.
    pub(crate) fn allow(&mut self, now: u64) -> Option<u32> {
        let passed = now.saturating_sub(self.since).checked_div(REFILL_MS);
        let passed = passed.unwrap_or(0);
        if passed != 0 {
            let more = u32::try_from(passed).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(more).min(BURST);
            self.since = self.since.saturating_add(passed.saturating_mul(REFILL_MS));
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                Some(core::mem::take(&mut self.kept_back))
            }
            None => {
                self.kept_back = self.kept_back.saturating_add(1);
                None
            }
        }
    }
}

#[kunit_tests(ext_throttle)]
mod tests {
    use super::*;

    #[test]
    fn l7_a_flood_is_kept_back() {
        let mut throttle = Throttle::new();
        let printed = (0..100_000u64).filter(|n| throttle.allow(n / 10).is_some());
        // Within 10 s: the burst, and one more every 5 s.
        assert_eq!(printed.count(), 11);
        assert_eq!(throttle.allow(10_000), Some(49_999));
        assert_eq!(throttle.allow(10_000), None);
    }

    #[test]
    fn calm_fills_it_again() {
        let mut throttle = Throttle::new();
        while throttle.allow(0).is_some() {}
        assert_eq!(throttle.allow(4_999), None);
        assert_eq!(throttle.allow(1 << 40), Some(2));
        for _ in 1..10 {
            assert_eq!(throttle.allow(1 << 40), Some(0));
        }
        assert_eq!(throttle.allow(1 << 40), None);
        // A clock that goes back adds no tokens.
        assert_eq!(throttle.allow(0), None);
    }
}
