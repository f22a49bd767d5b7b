// SPDX-License-Identifier: GPL-2.0

//! A wake-up that coalesces.

use super::completion::{
    Completion,
    Wait, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Full, //
    },
    time::Jiffies, //
};

/// A wake-up that coalesces: any number of signals before a wait wake one waiter once.
///
/// The signaller changes the state first and calls [`Self::signal`] then; the waiter waits first
/// and reads the state then. So no change is missed. A wait may end without a change, so the waiter
/// checks the state again.
#[pin_data]
pub(crate) struct Event {
    pending: Atomic<bool>,
    #[pin]
    done: Completion,
}

impl Event {
    /// Creates an event that is not signalled.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            pending: Atomic::new(false),
            done <- Completion::new(),
        })
    }

    /// Wakes the waiter, or makes the next wait return at once. Can be called from any context.
    pub(crate) fn signal(&self) {
        if !self.pending.xchg(true, Full) {
            self.done.complete();
        }
    }

    /// Waits at most `timeout`, at least one jiffy.
    pub(crate) fn wait_killable_timeout(&self, timeout: Jiffies) -> Wait {
        self.wait_by(|done| done.wait_killable_timeout(timeout))
    }

    /// Waits with `wait`, which gets the completion that [`Self::signal`] completes.
    pub(crate) fn wait_by(&self, wait: impl FnOnce(&Completion) -> Wait) -> Wait {
        let wait = wait(&self.done);
        if wait == Wait::Done {
            // ORDERING: Full, so that the caller reads the state after this. A `signal` between the
            // wait and this exchange is not kept, but the caller sees the change that it announces.
            self.pending.xchg(false, Full);
        }
        wait
    }
}

#[kunit_tests(ext_event)]
mod tests {
    use super::*;

    #[test]
    fn events_count_as_one() -> Result {
        let event = KBox::pin_init(Event::new(), GFP_KERNEL)?;
        event.signal();
        event.signal();
        assert_eq!(event.wait_killable_timeout(1), Wait::Done);
        assert_eq!(event.wait_killable_timeout(1), Wait::TimedOut);
        event.signal();
        assert_eq!(event.wait_killable_timeout(1), Wait::Done);
        Ok(())
    }
}
