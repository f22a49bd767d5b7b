// SPDX-License-Identifier: GPL-2.0

//! The log lock: a mutex for which the thread of an interrupt does not wait.
//!
//! A report holds the lock while it writes to user memory, for as long as the user's page faults
//! take. The thread of an interrupt must not wait that long: `free_irq()` waits for the thread, and
//! unbinding the device of the interrupt waits for `free_irq()`. So the thread sets `owed` and only
//! tries the lock. A thread that has released the lock checks `owed`, and if it is set, tries the
//! lock once more and drains the hardware's log. It does not drain before it releases the lock,
//! because a report must consume exactly up to its marker (rule 4 in `ring/mod.rs`).
//!
//! `owed` is not left set with the lock free and no thread on its way to drain, unless a thread has
//! drained [`ROUNDS`] times and leaves the rest to the next one. A thread N stores `owed`, executes
//! a full barrier and fails to take the lock. Each thread H that releases the lock after N has read
//! it as taken executes a full barrier and loads `owed`. It reads `owed` as set or as cleared by a
//! thread that then drains: both barriers forbid that it misses N's store (the store buffering
//! pattern of tools/memory-model).
//!
//! `tools/dlr-loom` runs this file with three threads under loom, and finds a lost drain when one
//! of the barriers is removed.

use crate::ext::killable::lock_killable;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        barrier::{
            self,
            smp_mb, //
        },
        lock::mutex::MutexGuard,
        Mutex,
    },
};

/// Number of times that one thread drains before it leaves the rest to the next holder of the lock
/// or the next interrupt. That loses no write, because the hardware keeps its entries.
const ROUNDS: u32 = 8;

/// The work that a [`LogLock`] defers to its holder.
pub(crate) trait Debtor<T> {
    /// Does the deferred work. Called with the lock held, in the thread of an interrupt or of a
    /// user.
    fn pay(&self, locked: &mut T);
    /// Called with the lock held, before each release of the lock.
    fn released(&self, locked: &T);
}

/// The log lock.
#[pin_data]
pub(crate) struct LogLock<T> {
    #[pin]
    locked: Mutex<T>,
    /// Whether work was requested. See the page of the module.
    owed: Atomic<bool>,
}

impl<T: Unpin> LogLock<T> {
    /// Makes a lock around `value`.
    pub(crate) fn new(value: T) -> impl PinInit<Self> {
        pin_init!(Self {
            locked <- new_mutex!(value, "vfio_dirty_log"),
            owed: Atomic::new(false),
        })
    }

    /// Runs `f` with the lock held, and then the work that was deferred meanwhile. Ignores signals:
    /// only the last close of a device uses this, when no report can hold the lock.
    pub(crate) fn with<R>(&self, debtor: &impl Debtor<T>, f: impl FnOnce(&mut T) -> R) -> R {
        self.run(self.locked.lock(), debtor, f)
    }

    /// Like [`Self::with`], but a fatal signal ends the wait: the holder of the lock may be in a
    /// page fault for as long as its user wants.
    ///
    /// # Errors
    ///
    /// `EINTR` when a fatal signal is pending and `f` was not run, and those of `f`.
    pub(crate) fn with_killable<R>(
        &self,
        debtor: &impl Debtor<T>,
        f: impl FnOnce(&mut T) -> Result<R>,
    ) -> Result<R> {
        self.run(lock_killable(&self.locked)?, debtor, f)
    }

    /// Runs `f` on what `guard` protects, releases the lock and settles.
    fn run<R>(
        &self,
        mut guard: MutexGuard<'_, T>,
        debtor: &impl Debtor<T>,
        f: impl FnOnce(&mut T) -> R,
    ) -> R {
        let result = f(&mut guard);
        debtor.released(&guard);
        drop(guard);
        self.settle(debtor);
        result
    }

    /// Requests the work, which this thread or the holder of the lock does. Does not wait for the
    /// lock.
    pub(crate) fn owe(&self, debtor: &impl Debtor<T>) {
        // ORDERING: Full, see the page of the module. It also orders this thread's view of the
        // hardware's log before `owed`.
        self.owed.xchg(true, Full);
        self.settle(debtor);
    }

    /// Does the work that was requested while this thread held the lock.
    fn settle(&self, debtor: &impl Debtor<T>) {
        for _ in 0..ROUNDS {
            // ORDERING: Between the release of the lock by this thread and the load of `owed`.
            smp_mb(barrier::Full);
            if !self.owed.load(Relaxed) {
                return;
            }
            let Some(mut guard) = self.locked.try_lock() else {
                // The holder calls this function after it has released the lock, or leaves the
                // work to the next holder if it has done its rounds.
                return;
            };
            // ORDERING: Full, so that `pay` sees what was logged before a request that this clears.
            // A request after this causes another round.
            self.owed.xchg(false, Full);
            debtor.pay(&mut guard);
            debtor.released(&guard);
        }
    }
}

#[kunit_tests(vfio_dirty_lock)]
mod tests {
    use super::*;
    use kernel::sync::Arc;

    /// Counts its calls, and requests more work from within `pay` if `again` is set.
    struct Counter {
        lock: Arc<LogLock<u32>>,
        paid: Atomic<u32>,
        again: Atomic<u32>,
        released: Atomic<u32>,
    }

    impl Debtor<u32> for Counter {
        fn pay(&self, locked: &mut u32) {
            *locked += 1;
            self.paid.fetch_add(1, Relaxed);
            if self.again.load(Relaxed) != 0 {
                self.again.fetch_sub(1, Relaxed);
                self.lock.owe(self);
            }
        }

        fn released(&self, locked: &u32) {
            self.released.store(*locked, Relaxed);
        }
    }

    fn counter() -> Result<Counter> {
        Ok(Counter {
            lock: Arc::pin_init(LogLock::new(0), GFP_KERNEL)?,
            paid: Atomic::new(0),
            again: Atomic::new(0),
            released: Atomic::new(0),
        })
    }

    #[test]
    fn h2_a_free_lock_pays_at_once() -> Result {
        let c = counter()?;
        c.lock.owe(&c);
        assert_eq!(c.paid.load(Relaxed), 1);
        assert_eq!(c.released.load(Relaxed), 1);
        c.lock.with(&c, |_| ());
        assert_eq!(c.paid.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn h2_a_held_lock_pays_after_its_release_and_not_before() -> Result {
        let c = counter()?;
        c.lock.with(&c, |value| {
            // If `owe` waited for the lock, the test would hang.
            c.lock.owe(&c);
            c.lock.owe(&c);
            assert_eq!(c.paid.load(Relaxed), 0);
            *value = 10;
        });
        assert_eq!(c.paid.load(Relaxed), 1);
        assert_eq!(c.released.load(Relaxed), 11);
        Ok(())
    }

    #[test]
    fn h2_what_becomes_owed_while_paying_is_paid_too() -> Result {
        let c = counter()?;
        c.again.store(3, Relaxed);
        c.lock.owe(&c);
        assert_eq!(c.paid.load(Relaxed), 4);
        // One thread stops after `ROUNDS`, and the next holder continues.
        c.again.store(100, Relaxed);
        c.lock.owe(&c);
        assert_eq!(c.paid.load(Relaxed), 4 + ROUNDS);
        c.lock.with(&c, |_| ());
        assert_eq!(c.paid.load(Relaxed), 4 + 2 * ROUNDS);
        Ok(())
    }
}
