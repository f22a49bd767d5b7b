// SPDX-License-Identifier: GPL-2.0

//! The lock of the migration state, which defers resets to its holder (contract K2 to K4).
//!
//! A reset by vfio-pci-core runs with `memory_lock` held for writing. A page fault on a BAR of the
//! device waits for `memory_lock`, and the holder of the state lock may wait for such a page fault.
//! So a reset must not wait for the state lock. It sets `reset_pending` instead, and the holder of
//! the lock resets the state before it releases the lock. A spinlock covers both setting the flag
//! and releasing the lock, so that no reset is lost.

use super::migration::state::State;
use crate::ext::killable::lock_killable;
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

/// A copy of the state that migration files read without the state lock.
pub(crate) struct StateMirror(Atomic<u32>);

impl StateMirror {
    /// Returns the state after the last finished step.
    pub(crate) fn get(&self) -> State {
        State::try_from(self.0.load(Acquire)).unwrap_or(State::Error)
    }
}

/// The data under the lock: the migration state and the driver's part. A driver gets a `&mut` to
/// its part only, so that only the layer changes the state.
pub(super) struct Locked<S> {
    state: State,
    mirror: Arc<StateMirror>,
    data: S,
}

impl<S> Locked<S> {
    /// Returns the migration state.
    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn set_state(&mut self, state: State) {
        self.state = state;
        self.mirror.0.store(state.to_raw(), Release);
    }

    /// Returns the driver's data.
    pub(super) fn data_mut(&mut self) -> &mut S {
        &mut self.data
    }
}

/// Resets the driver's data `S` under a [`StateLock`].
///
/// It is a trait of its own, apart from [`Migration`](super::migration::Migration), so that the
/// lock can be tested without a device.
pub(super) trait ResetState<S> {
    /// Sets `data` to its value for a running device that was just reset.
    fn reset_state(&self, data: &mut S);
}

/// The lock of the migration state of a device.
///
/// Only the layer can lock it. A driver could otherwise lock it twice, or with an owner that
/// ignores the resets that come meanwhile.
#[pin_data]
pub(crate) struct StateLock<S> {
    #[pin]
    locked: Mutex<Locked<S>>,
    /// Whether the holder of `locked` must reset the state before it releases the lock.
    #[pin]
    reset_pending: SpinLock<bool>,
    mirror: Arc<StateMirror>,
}

impl<S: Send + Unpin> StateLock<S> {
    /// Makes the lock of a running device.
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

    /// Returns the copy of the state that is read without the lock.
    pub(crate) fn mirror(&self) -> Arc<StateMirror> {
        self.mirror.clone()
    }

    /// Takes the lock. Dropping the guard runs the resets that were requested while it was held, on
    /// `owner`.
    pub(super) fn lock<'a, R: ResetState<S>>(&'a self, owner: &'a R) -> Guard<'a, S, R> {
        Guard {
            lock: self,
            owner,
            guard: ManuallyDrop::new(self.locked.lock()),
        }
    }

    /// Like [`Self::lock`], but a fatal signal ends the wait: the holder may wait for several
    /// commands of the device.
    ///
    /// # Errors
    ///
    /// `EINTR` when a fatal signal is pending.
    pub(super) fn lock_killable<'a, R: ResetState<S>>(
        &'a self,
        owner: &'a R,
    ) -> Result<Guard<'a, S, R>> {
        Ok(Guard {
            lock: self,
            owner,
            guard: ManuallyDrop::new(lock_killable(&self.locked)?),
        })
    }

    /// Resets the state after a reset of the function, at once or by the holder of the lock. Does
    /// not wait for the lock. `ended` notes the end of the reset of the function and must not
    /// sleep. No thread can release the lock between `ended` and this request, so none can take it
    /// with a state that looks reset and is not.
    pub(super) fn request_reset<R: ResetState<S>>(&self, owner: &R, ended: impl FnOnce()) {
        let mut pending = self.reset_pending.lock();
        ended();
        *pending = true;
        let guard = self.locked.try_lock();
        drop(pending);
        if let Some(guard) = guard {
            self.release(owner, guard);
        }
    }

    /// Runs the resets that were requested on `owner`, and releases the lock.
    fn release<R: ResetState<S>>(&self, owner: &R, mut guard: MutexGuard<'_, Locked<S>>) {
        loop {
            let mut pending = self.reset_pending.lock();
            if !*pending {
                // Release the lock with the spinlock held: a reset that comes now waits for the
                // spinlock and then finds the lock free.
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

/// The guard of a [`StateLock`].
pub(super) struct Guard<'a, S: Send + Unpin, R: ResetState<S>> {
    lock: &'a StateLock<S>,
    owner: &'a R,
    guard: ManuallyDrop<MutexGuard<'a, Locked<S>>>,
}

impl<S: Send + Unpin, R: ResetState<S>> Guard<'_, S, R> {
    /// Returns the migration state.
    pub(super) fn state(&self) -> State {
        self.guard.state()
    }

    /// Sets the migration state.
    pub(super) fn set_state(&mut self, state: State) {
        self.guard.set_state(state);
    }

    /// Returns state and data, for the steps of a transition.
    pub(super) fn locked(&mut self) -> &mut Locked<S> {
        &mut self.guard
    }
}

impl<S: Send + Unpin, R: ResetState<S>> Deref for Guard<'_, S, R> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.guard.data
    }
}

impl<S: Send + Unpin, R: ResetState<S>> DerefMut for Guard<'_, S, R> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.guard.data
    }
}

impl<S: Send + Unpin, R: ResetState<S>> Drop for Guard<'_, S, R> {
    fn drop(&mut self) {
        // SAFETY: `guard` is not used again, because this is the destructor of its owner.
        let guard = unsafe { ManuallyDrop::take(&mut self.guard) };
        self.lock.release(self.owner, guard);
    }
}

#[kunit_tests(vfio_state_lock)]
mod tests {
    use super::*;
    use kernel::sync::atomic::Relaxed;

    #[test]
    fn reset_of_a_free_lock_runs_at_once() -> Result {
        let resets = Resets::new();
        let lock = KBox::pin_init(StateLock::new(7u32), GFP_KERNEL)?;
        lock.lock(&resets).set_state(State::Stop);
        lock.request_reset(&resets, || ());
        assert_eq!(resets.count(), 1);
        assert_eq!(lock.lock(&resets).state(), State::Running);
        assert_eq!(*lock.lock(&resets), 0);
        Ok(())
    }

    #[test]
    fn reset_of_a_held_lock_runs_on_release() -> Result {
        let resets = Resets::new();
        let lock = KBox::pin_init(StateLock::new(7u32), GFP_KERNEL)?;
        let mut guard = lock.lock(&resets);
        guard.set_state(State::StopCopy);
        lock.request_reset(&resets, || ());
        lock.request_reset(&resets, || ());
        assert_eq!(resets.count(), 0);
        assert_eq!(guard.state(), State::StopCopy);
        drop(guard);
        assert_eq!(resets.count(), 1);
        assert_eq!(lock.lock(&resets).state(), State::Running);
        Ok(())
    }

    /// The holder of the lock can release it only before the reset has ended, or after that with
    /// the request pending.
    #[test]
    fn the_end_of_a_reset_and_its_request_are_one_step() -> Result {
        let resets = Resets::new();
        let lock = KBox::pin_init(StateLock::new(7u32), GFP_KERNEL)?;
        let guard = lock.lock(&resets);
        let mut free = true;
        lock.request_reset(&resets, || free = lock.reset_pending.try_lock().is_some());
        assert!(!free);
        drop(guard);
        assert_eq!(resets.count(), 1);
        Ok(())
    }

    #[test]
    fn nothing_to_do_without_a_reset() -> Result {
        let resets = Resets::new();
        let lock = KBox::pin_init(StateLock::new(7u32), GFP_KERNEL)?;
        *lock.lock(&resets) += 1;
        assert_eq!(*lock.lock(&resets), 8);
        assert_eq!(resets.count(), 0);
        Ok(())
    }

    #[test]
    fn a_killable_lock_defers_resets_as_well() -> Result {
        let resets = Resets::new();
        let lock = KBox::pin_init(StateLock::new(7u32), GFP_KERNEL)?;
        let guard = lock.lock_killable(&resets)?;
        lock.request_reset(&resets, || ());
        assert_eq!(resets.count(), 0);
        drop(guard);
        assert_eq!(resets.count(), 1);
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
