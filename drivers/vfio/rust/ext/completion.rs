// SPDX-License-Identifier: GPL-2.0

//! Completions whose waits have a timeout and end for a fatal signal.
//!
//! `kernel::sync::Completion` has neither, and a wait on a `CondVar` is either interruptible by
//! every signal or has no timeout.
//!
//! C header: [`include/linux/completion.h`](srctree/include/linux/completion.h)

use kernel::{
    bindings,
    prelude::*,
    time::Jiffies,
    types::Opaque, //
};

/// Result of a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// The completion was signalled.
    Done,
    /// The timeout passed first.
    TimedOut,
    /// A fatal signal is pending; for an interruptible wait any signal.
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
    /// Creates a completion that is not complete.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes, and pinned from then on.
            inner <- Opaque::ffi_init(|slot| unsafe { bindings::init_completion(slot) }),
        })
    }

    /// Signals one waiter, or the next one if none is waiting. Can be called from any context.
    pub(crate) fn complete(&self) {
        // SAFETY: `inner` was initialised in `new`.
        unsafe { bindings::complete(self.inner.get()) };
    }

    /// Signals all present and future waiters. Can be called from any context.
    pub(crate) fn complete_all(&self) {
        // SAFETY: `inner` was initialised in `new`.
        unsafe { bindings::complete_all(self.inner.get()) };
    }

    /// Waits at most `timeout`, at least one jiffy.
    pub(crate) fn wait_killable_timeout(&self, timeout: Jiffies) -> Wait {
        let timeout = clamp(timeout);
        // SAFETY: `inner` was initialised in `new`; the callers of this function may sleep.
        match unsafe { bindings::wait_for_completion_killable_timeout(self.inner.get(), timeout) } {
            0 => Wait::TimedOut,
            left if left < 0 => Wait::Killed,
            _ => Wait::Done,
        }
    }

    /// Like [`Self::wait_killable_timeout`], but any signal ends the wait with [`Wait::Killed`].
    pub(crate) fn wait_interruptible_timeout(&self, timeout: Jiffies) -> Wait {
        let timeout = clamp(timeout);
        // SAFETY: `inner` was initialised in `new`; the callers of this function may sleep.
        let left = unsafe {
            bindings::wait_for_completion_interruptible_timeout(self.inner.get(), timeout)
        };
        match left {
            0 => Wait::TimedOut,
            left if left < 0 => Wait::Killed,
            _ => Wait::Done,
        }
    }

    /// Waits at most `timeout`, at least one jiffy. Ignores signals.
    pub(crate) fn wait_timeout(&self, timeout: Jiffies) -> Wait {
        let timeout = clamp(timeout);
        // SAFETY: `inner` was initialised in `new`; the callers of this function may sleep.
        match unsafe { bindings::wait_for_completion_timeout(self.inner.get(), timeout) } {
            0 => Wait::TimedOut,
            _ => Wait::Done,
        }
    }

    /// Waits without a timeout and ignores signals.
    pub(crate) fn wait(&self) {
        // SAFETY: `inner` was initialised in `new`; the callers of this function may sleep.
        unsafe { bindings::wait_for_completion(self.inner.get()) };
    }
}

/// Limits a timeout to what `schedule_timeout()` accepts: it must not be negative as a `long`.
fn clamp(timeout: Jiffies) -> Jiffies {
    timeout.clamp(1, c_long::MAX as Jiffies)
}

#[kunit_tests(ext_completion)]
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
        assert_eq!(done.wait_interruptible_timeout(Jiffies::MAX), Wait::Done);
        done.wait();
        Ok(())
    }

    /// `schedule_timeout()` takes a `long`, and prints an error for a negative one.
    #[test]
    fn no_timeout_is_negative() {
        assert_eq!(clamp(0), 1);
        assert_eq!(clamp(7), 7);
        for large in [
            c_long::MAX as Jiffies,
            c_long::MAX as Jiffies + 1,
            Jiffies::MAX,
        ] {
            assert_eq!(clamp(large), c_long::MAX as Jiffies);
        }
    }
}
