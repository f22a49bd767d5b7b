// SPDX-License-Identifier: Apache-2.0 OR MIT

//! How far the traffic has come, for a thread that does not run it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Requests and answers of a guest, counted while it runs.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Requests that the function may have seen.
    sent: AtomicU64,
    /// One more than the number of the last request that was answered.
    answered: AtomicU64,
    over: AtomicBool,
}

impl Pulse {
    /// Before the function can see request `number`.
    pub(super) fn sends(&self, number: u64) {
        self.sent.fetch_max(number + 1, Ordering::SeqCst);
    }

    /// The answer to request `number` came.
    pub(super) fn receives(&self, number: u64) {
        self.answered.fetch_max(number + 1, Ordering::SeqCst);
    }

    /// The traffic begins, or goes on.
    pub(super) fn begin(&self) {
        self.over.store(false, Ordering::SeqCst);
    }

    /// No more will come.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Will no more come?
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// The first request that the function has not seen yet. When its answer or a later one is there, the
    /// function has written memory since.
    pub(super) fn next(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Is there an answer to request `number` or to a later one?
    pub(super) fn has_come(&self, number: u64) -> bool {
        self.answered.load(Ordering::SeqCst) > number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_to_a_later_request_counts() {
        let pulse = Pulse::default();
        (0..3).for_each(|number| pulse.sends(number));
        pulse.receives(0);
        let next = pulse.next();
        assert_eq!(next, 3);
        // These were on their way.
        pulse.receives(2);
        pulse.receives(1);
        assert!(!pulse.has_come(next));
        pulse.sends(3);
        assert!(!pulse.has_come(next));
        pulse.receives(3);
        assert!(pulse.has_come(next));
    }

    #[test]
    fn what_is_over_can_go_on() {
        let pulse = Pulse::default();
        assert!(!pulse.is_over());
        pulse.end();
        assert!(pulse.is_over());
        pulse.begin();
        assert!(!pulse.is_over());
    }
}
