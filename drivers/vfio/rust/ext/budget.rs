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
    total_ms: i64,
}

impl Budget {
    /// Starts a budget of `CLEAN_UP_MS`.
    pub(crate) fn new() -> Self {
        Self::of(CLEAN_UP_MS)
    }

    /// Starts a budget of `total_ms` milliseconds.
    fn of(total_ms: i64) -> Self {
        Self {
            begin: Instant::now(),
            total_ms,
        }
    }

    /// Starts a budget of the `n`th part of the remaining time, for the first of `n` pieces of work
    /// that must all get their turn.
    pub(crate) fn part(&self, n: usize) -> Self {
        Self::of(share(self.left_ms(), n))
    }

    /// Returns whether the time is used up.
    pub(crate) fn is_over(&self) -> bool {
        self.left_ms() == 0
    }

    /// Returns the remaining time in milliseconds.
    pub(crate) fn left_ms(&self) -> u32 {
        left(self.total_ms, self.begin.elapsed().as_millis())
    }

    /// Limits `ms` to the remaining time.
    pub(crate) fn at_most(&self, ms: u32) -> u32 {
        ms.min(self.left_ms())
    }
}

/// Returns what is left of `total` milliseconds after `elapsed` milliseconds.
fn left(total: i64, elapsed: i64) -> u32 {
    u32::try_from(total.saturating_sub(elapsed).max(0)).unwrap_or(0)
}

/// Returns the `n`th part of `left` milliseconds.
fn share(left: u32, n: usize) -> i64 {
    let n = u32::try_from(n).unwrap_or(u32::MAX);
    left.checked_div(n).unwrap_or(left).into()
}

#[kunit_tests(ext_budget)]
mod tests {
    use super::*;

    #[test]
    fn ends_after_five_seconds() {
        for (elapsed, want) in [(0, 5000), (1, 4999), (4999, 1), (5000, 0), (i64::MAX, 0)] {
            assert_eq!(left(CLEAN_UP_MS, elapsed), want);
        }
        let budget = Budget::new();
        assert_eq!(budget.at_most(7), 7);
        assert!(budget.at_most(u32::MAX) <= 5000);
    }

    /// The parts of one budget are no longer than the budget, and each gets its turn.
    #[test]
    fn m7_pieces_of_work_share_one_budget() {
        for n in [1, 2, 3, 64] {
            let mut left = 5000;
            for at in 0..n {
                let part = share(left, n - at);
                assert!(part >= 5000 / n as i64 && part <= left.into());
                // The work uses up its part.
                left -= part as u32;
            }
            assert_eq!(left, 0);
        }
        assert_eq!(share(5000, 0), 5000);
        let budget = Budget::new();
        assert!(budget.part(2).left_ms() <= 2500);
        assert!(!budget.part(2).is_over());
    }
}
