// SPDX-License-Identifier: GPL-2.0

//! A lock for a `static`, usable without `unsafe`.
//!
//! `kernel::sync::global_lock!` has an `unsafe` initialiser, whose caller promises to call it in
//! time. [`Global`] is initialised by a safe call; a use before that returns an error.

use core::{
    cell::UnsafeCell,
    mem::MaybeUninit, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Release, //
        },
        lock::mutex::MutexGuard,
        LockClassKey,
        Mutex, //
    },
};

const EMPTY: u32 = 0;
const BUSY: u32 = 1;
const READY: u32 = 2;

/// A mutex for a `static`. A `static` is never dropped, so its user must release what it holds
/// before the module is unloaded.
///
/// # Invariants
///
/// `lock` is initialised and stays so from when `stage` is `READY`.
pub(crate) struct Global<T> {
    stage: Atomic<u32>,
    lock: UnsafeCell<MaybeUninit<Mutex<T>>>,
}

// SAFETY: The mutex gives one thread at a time access to `T`; `stage` lets exactly one thread
// initialise.
unsafe impl<T: Send> Sync for Global<T> {}

impl<T: Send> Global<T> {
    /// Creates a mutex that is not initialised.
    pub(crate) const fn new() -> Self {
        Self {
            stage: Atomic::new(EMPTY),
            lock: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Initialises the mutex. The name and the key (`kernel::static_lock_class!()`) are for
    /// lockdep.
    ///
    /// # Errors
    ///
    /// `EBUSY` on a second call.
    pub(crate) fn init(
        &'static self,
        value: T,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> Result {
        if self.stage.cmpxchg(EMPTY, BUSY, Full).is_err() {
            return Err(EBUSY);
        }
        let slot = self.lock.get().cast::<Mutex<T>>();
        // SAFETY: `cmpxchg` lets only one thread get here, `slot` is valid for writes, and a
        // `static` never moves.
        unsafe { pin_init::raw_init(slot, Mutex::new(value, name, key)) };
        // INVARIANT: `lock` was just initialised.
        self.stage.store(READY, Release);
        Ok(())
    }

    /// Locks the mutex.
    ///
    /// # Errors
    ///
    /// `ENXIO` before [`Self::init`].
    pub(crate) fn lock(&'static self) -> Result<MutexGuard<'static, T>> {
        if self.stage.load(Acquire) != READY {
            return Err(ENXIO);
        }
        // SAFETY: By the type invariant the mutex is initialised, and it is only used shared from
        // then on.
        let lock: &'static Mutex<T> = unsafe { (*self.lock.get()).assume_init_ref() };
        Ok(lock.lock())
    }
}

#[kunit_tests(ext_global)]
mod tests {
    use super::*;

    #[test]
    fn usable_after_init_only() -> Result {
        static VALUE: Global<u32> = Global::new();
        if VALUE.lock().is_ok() {
            // The suite runs a second time.
            return Ok(());
        }
        VALUE.init(5, c"vfio_kunit", kernel::static_lock_class!())?;
        *VALUE.lock()? += 1;
        assert_eq!(*VALUE.lock()?, 6);
        assert!(VALUE
            .init(7, c"vfio_kunit", kernel::static_lock_class!())
            .is_err());
        Ok(())
    }
}
