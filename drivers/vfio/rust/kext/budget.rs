// SPDX-License-Identifier: GPL-2.0

//! A time limit for clean-ups that signals do not interrupt.

use kernel::{
    prelude::*,
    time::{
        Instant,
        Monotonic, //
    },
};

/// Longest time of one uninterruptible clean-up, undo or recovery, in milliseconds.
///
/// Such work runs under `dev_set->lock` or `memory_lock`, for which other tasks wait
/// uninterruptibly. The timeout of a device may be a minute for each command; several in a row
/// would exceed the 120 seconds after which the hung task detector warns.
const CLEAN_UP_MS: i64 = 5_000;

/// The time that all commands of one clean-up, undo or recovery have together.
///
/// It starts when it is created. Commands under a budget ignore signals. Once the time is over,
/// each further command fails with `ETIMEDOUT` without reaching the device, and the caller does not
/// know what the device does.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    begin: Instant<Monotonic>,
}

impl Budget {
    /// Starts a budget of `CLEAN_UP_MS`.
    pub(crate) fn new() -> Self {
        Self {
            begin: Instant::now(),
        }
    }

    /// Returns whether the time is used up.
    pub(crate) fn is_over(&self) -> bool {
        self.left_ms() == 0
    }

    /// Returns the remaining time in milliseconds.
    pub(crate) fn left_ms(&self) -> u32 {
        left(self.begin.elapsed().as_millis())
    }

    /// Limits `ms` to the remaining time.
    pub(crate) fn at_most(&self, ms: u32) -> u32 {
        ms.min(self.left_ms())
    }
}

/// Returns the remaining time in milliseconds after `elapsed` milliseconds.
fn left(elapsed: i64) -> u32 {
    u32::try_from(CLEAN_UP_MS.saturating_sub(elapsed).max(0)).unwrap_or(0)
}

#[kunit_tests(kext_budget)]
mod tests {
    use super::*;

    #[test]
    fn ends_after_five_seconds() {
        for (elapsed, want) in [(0, 5000), (1, 4999), (4999, 1), (5000, 0), (i64::MAX, 0)] {
            assert_eq!(left(elapsed), want);
        }
        let budget = Budget::new();
        assert_eq!(budget.at_most(7), 7);
        assert!(budget.at_most(u32::MAX) <= 5000);
    }
}
