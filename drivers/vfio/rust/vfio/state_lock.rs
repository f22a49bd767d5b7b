// SPDX-License-Identifier: GPL-2.0

//! The lock of the migration state, with resets deferred to its holder (contract K2 to K4).
//!
//! A reset runs with `memory_lock` held for writing. Whoever holds the state lock may be waiting for
//! memory that a page fault brings in, and a page fault on the device's BAR waits for `memory_lock`. So
//! a reset must not wait for the state lock: it leaves a note, and whoever releases the lock does the
//! reset first. The note is written and the lock released under one spinlock, so that none is lost.

use super::migration::State;
use core::{
    mem::ManuallyDrop,
    ops::{
        Deref,
        DerefMut, //
    },
};
use kernel::{
    new_mutex, new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        lock::mutex::MutexGuard,
        Arc,
        Mutex,
        SpinLock, //
    },
};

/// The state, readable without the lock, for who may only look and not hold a device: migration files.
pub(crate) struct StateMirror(Atomic<u32>);

impl StateMirror {
    /// The state, as of the last step.
    pub(crate) fn get(&self) -> State {
        State::try_from(self.0.load(Acquire)).unwrap_or(State::Error)
    }
}

/// What the lock protects: the state of the state machine and the vendor's part.
pub(crate) struct Locked<S> {
    state: State,
    mirror: Arc<StateMirror>,
    data: S,
}

impl<S> Locked<S> {
    /// Where the device is.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(super) fn set_state(&mut self, state: State) {
        self.state = state;
        self.mirror.0.store(state.to_raw(), Release);
    }

    pub(super) fn data_mut(&mut self) -> &mut S {
        &mut self.data
    }
}

impl<S> Deref for Locked<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.data
    }
}

impl<S> DerefMut for Locked<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.data
    }
}

/// Does what a reset means for the vendor's data `S`.
///
/// A second trait next to [`Migration`](super::migration::Migration) so that the lock can be tested
/// without a device.
pub(crate) trait ResetState<S> {
    /// Brings `data` back to what it is in a freshly reset, running device.
    fn reset_state(&self, data: &mut S);
}

/// See the module's page.
#[pin_data]
pub(crate) struct StateLock<S> {
    #[pin]
    locked: Mutex<Locked<S>>,
    /// Whether a reset waits for the holder of `locked`. Taken inside `locked`.
    #[pin]
    reset_pending: SpinLock<bool>,
    mirror: Arc<StateMirror>,
}

impl<S: Send + Unpin> StateLock<S> {
    /// A lock of a running device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(data: S) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let state = State::Running;
            let mirror = Arc::new(StateMirror(Atomic::new(state.to_raw())), GFP_KERNEL)?;
            let locked = Locked {
                state,
                mirror: mirror.clone(),
                data,
            };
            Ok(try_pin_init!(Self {
                locked <- new_mutex!(locked, "vfio_state"),
                reset_pending <- new_spinlock!(false, "vfio_reset_pending"),
                mirror,
            }))
        })
    }

    pub(crate) fn mirror(&self) -> Arc<StateMirror> {
        self.mirror.clone()
    }

    /// Takes the lock. Releasing the guard runs the resets that came meanwhile, on `owner`.
    pub(crate) fn lock<'a, R: ResetState<S>>(&'a self, owner: &'a R) -> Guard<'a, S, R> {
        Guard {
            lock: self,
            owner,
            guard: ManuallyDrop::new(self.locked.lock()),
        }
    }

    /// The function was reset: resets the state now, or leaves it to the holder of the lock. Never
    /// waits for the lock.
    pub(super) fn request_reset<R: ResetState<S>>(&self, owner: &R) {
        let mut pending = self.reset_pending.lock();
        *pending = true;
        let guard = self.locked.try_lock();
        drop(pending);
        if let Some(guard) = guard {
            self.release(owner, guard);
        }
    }

    fn release<R: ResetState<S>>(&self, owner: &R, mut guard: MutexGuard<'_, Locked<S>>) {
        loop {
            let mut pending = self.reset_pending.lock();
            if !*pending {
                // Inside the spinlock: a reset that comes now either sees the lock free or is seen by
                // the next pass of this loop.
                drop(guard);
                return;
            }
            *pending = false;
            drop(pending);
            owner.reset_state(&mut guard.data);
            guard.set_state(State::Running);
        }
    }
}

/// Holds a [`StateLock`].
pub(crate) struct Guard<'a, S: Send + Unpin, R: ResetState<S>> {
    lock: &'a StateLock<S>,
    owner: &'a R,
    guard: ManuallyDrop<MutexGuard<'a, Locked<S>>>,
}

impl<S: Send + Unpin, R: ResetState<S>> Deref for Guard<'_, S, R> {
    type Target = Locked<S>;

    fn deref(&self) -> &Locked<S> {
        &self.guard
    }
}

impl<S: Send + Unpin, R: ResetState<S>> DerefMut for Guard<'_, S, R> {
    fn deref_mut(&mut self) -> &mut Locked<S> {
        &mut self.guard
    }
}

impl<S: Send + Unpin, R: ResetState<S>> Drop for Guard<'_, S, R> {
    fn drop(&mut self) {
        // SAFETY: `guard` is not used again: this is the destructor of the value that owns it.
        let guard = unsafe { ManuallyDrop::take(&mut self.guard) };
        self.lock.release(self.owner, guard);
    }
}

#[kunit_tests(dlr_vfio_state_lock)]
mod tests {
    use super::*;
    use kernel::sync::atomic::Relaxed;

    #[test]
    fn reset_of_a_free_lock_runs_at_once() -> Result {
        let resets = Resets::new();
        let lock = KBox::pin_init(StateLock::new(7u32), GFP_KERNEL)?;
        lock.lock(&resets).set_state(State::Stop);
        lock.request_reset(&resets);
        assert_eq!(resets.count(), 1);
        assert_eq!(lock.lock(&resets).state(), State::Running);
        assert_eq!(**lock.lock(&resets), 0);
        Ok(())
    }

    #[test]
    fn reset_of_a_held_lock_runs_on_release() -> Result {
        let resets = Resets::new();
        let lock = KBox::pin_init(StateLock::new(7u32), GFP_KERNEL)?;
        let mut guard = lock.lock(&resets);
        guard.set_state(State::StopCopy);
        lock.request_reset(&resets);
        lock.request_reset(&resets);
        assert_eq!(resets.count(), 0);
        assert_eq!(guard.state(), State::StopCopy);
        drop(guard);
        assert_eq!(resets.count(), 1);
        assert_eq!(lock.lock(&resets).state(), State::Running);
        Ok(())
    }

    #[test]
    fn nothing_to_do_without_a_reset() -> Result {
        let resets = Resets::new();
        let lock = KBox::pin_init(StateLock::new(7u32), GFP_KERNEL)?;
        **lock.lock(&resets) += 1;
        assert_eq!(**lock.lock(&resets), 8);
        assert_eq!(resets.count(), 0);
        Ok(())
    }

    struct Resets(Atomic<u32>);

    impl Resets {
        fn new() -> Self {
            Self(Atomic::new(0))
        }

        fn count(&self) -> u32 {
            self.0.load(Relaxed)
        }
    }

    impl ResetState<u32> for Resets {
        fn reset_state(&self, data: &mut u32) {
            *data = 0;
            self.0.fetch_add(1, Relaxed);
        }
    }
}
