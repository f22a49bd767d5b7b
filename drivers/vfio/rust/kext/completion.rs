// SPDX-License-Identifier: GPL-2.0

//! Waiting with a deadline that a fatal signal ends.
//!
//! `kernel::sync::Completion` has neither, and `CondVar` waits are interruptible or without a deadline.

use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{
        Atomic,
        Full, //
    },
    time::Jiffies,
    types::Opaque, //
};

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// What was waited for is there.
    Done,
    /// The deadline passed first.
    TimedOut,
    /// A fatal signal is pending.
    Killed,
}

/// A `struct completion`.
#[pin_data]
pub(crate) struct Completion {
    #[pin]
    inner: Opaque<bindings::completion>,
}

// SAFETY: A completion may be used from any thread.
unsafe impl Send for Completion {}
// SAFETY: All its functions lock internally.
unsafe impl Sync for Completion {}

impl Completion {
    /// Not complete.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes, and pinned from then on.
            inner <- Opaque::ffi_init(|slot| unsafe { bindings::init_completion(slot) }),
        })
    }

    /// Wakes one waiter, now or later. From any context.
    pub(crate) fn complete(&self) {
        // SAFETY: `inner` was initialised in `new`.
        unsafe { bindings::complete(self.inner.get()) };
    }

    /// Wakes all waiters, now and for ever. From any context.
    pub(crate) fn complete_all(&self) {
        // SAFETY: `inner` was initialised in `new`.
        unsafe { bindings::complete_all(self.inner.get()) };
    }

    /// Waits at most `timeout`, at least one jiffy.
    pub(crate) fn wait_killable_timeout(&self, timeout: Jiffies) -> Wait {
        let timeout = timeout.clamp(1, c_long::MAX as Jiffies);
        // SAFETY: `inner` was initialised in `new`; the callers of this function may sleep.
        match unsafe { bindings::wait_for_completion_killable_timeout(self.inner.get(), timeout) } {
            0 => Wait::TimedOut,
            left if left < 0 => Wait::Killed,
            _ => Wait::Done,
        }
    }

    /// Waits at most `timeout`, at least one jiffy. Signals do not end it.
    pub(crate) fn wait_timeout(&self, timeout: Jiffies) -> Wait {
        // SAFETY: `inner` was initialised in `new`; the callers of this function may sleep.
        match unsafe { bindings::wait_for_completion_timeout(self.inner.get(), timeout.max(1)) } {
            0 => Wait::TimedOut,
            _ => Wait::Done,
        }
    }

    /// Waits however long it takes.
    pub(crate) fn wait(&self) {
        // SAFETY: `inner` was initialised in `new`; the callers of this function may sleep.
        unsafe { bindings::wait_for_completion(self.inner.get()) };
    }
}

/// Something may have happened: look again.
///
/// Calls of [`Self::signal`] before a wait count as one; none is lost if what they announce was changed
/// before. A wait may end without reason.
#[pin_data]
pub(crate) struct Event {
    pending: Atomic<bool>,
    #[pin]
    done: Completion,
}

impl Event {
    /// Nothing has happened.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            pending: Atomic::new(false),
            done <- Completion::new(),
        })
    }

    /// Wakes one waiter, now or later. From any context.
    pub(crate) fn signal(&self) {
        if !self.pending.xchg(true, Full) {
            self.done.complete();
        }
    }

    /// Waits at most `timeout`, at least one jiffy.
    pub(crate) fn wait_killable_timeout(&self, timeout: Jiffies) -> Wait {
        let wait = self.done.wait_killable_timeout(timeout);
        if wait == Wait::Done {
            // ORDERING: Full, so that the caller's look comes after this. A `signal` in between is not
            // remembered, but what it announces is seen.
            self.pending.xchg(false, Full);
        }
        wait
    }
}

#[kunit_tests(dlr_kext_completion)]
mod tests {
    use super::*;

    #[test]
    fn times_out_and_completes() -> Result {
        let done = KBox::pin_init(Completion::new(), GFP_KERNEL)?;
        assert_eq!(done.wait_killable_timeout(0), Wait::TimedOut);
        done.complete();
        assert_eq!(done.wait_killable_timeout(1), Wait::Done);
        assert_eq!(done.wait_killable_timeout(1), Wait::TimedOut);
        done.complete_all();
        assert_eq!(done.wait_killable_timeout(1), Wait::Done);
        assert_eq!(done.wait_killable_timeout(Jiffies::MAX), Wait::Done);
        done.wait();
        Ok(())
    }

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
