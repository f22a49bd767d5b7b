// SPDX-License-Identifier: GPL-2.0

//! Locking a mutex with a wait that signals interrupt.
//!
//! `kernel::sync::Mutex` can only be locked uninterruptibly. The holder of some locks copies to or
//! from user memory, and a page fault may then keep it asleep for as long as a user wants
//! (userfaultfd, FUSE). A thread that waits for such a lock must be killable.
//!
//! C header: [`include/linux/mutex.h`](srctree/include/linux/mutex.h)

use crate::bindings;
use kernel::{
    bindings as kbindings,
    prelude::*,
    sync::{
        lock::mutex::MutexGuard,
        Mutex, //
    },
};

/// Locks `mutex`; a fatal signal ends the wait.
///
/// # Errors
///
/// `EINTR` when a fatal signal is pending.
pub(crate) fn lock_killable<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    // SAFETY: `raw` gives the initialised C mutex.
    guard(mutex, unsafe { bindings::mutex_lock_killable(raw(mutex)) }).ok_or(EINTR)
}

/// Locks `mutex`; any signal ends the wait.
///
/// # Errors
///
/// `ERESTARTSYS` when a signal is pending: the system call is restarted after its handler.
pub(crate) fn lock_interruptible<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    // SAFETY: As in `lock_killable`.
    guard(mutex, unsafe {
        bindings::mutex_lock_interruptible(raw(mutex))
    })
    .ok_or(ERESTARTSYS)
}

/// Returns the C mutex.
fn raw<T>(mutex: &Mutex<T>) -> *mut kbindings::mutex {
    // `kernel::sync::lock::Lock` is `repr(C)` and begins with an `Opaque` of the C lock.
    core::ptr::from_ref(mutex)
        .cast_mut()
        .cast::<kbindings::mutex>()
}

/// Returns a guard if `ret` says that C has locked the mutex.
fn guard<T>(mutex: &Mutex<T>, ret: c_int) -> Option<MutexGuard<'_, T>> {
    // SAFETY: C has locked the mutex for this thread, and only this guard unlocks it.
    (ret == 0).then(|| unsafe { MutexGuard::new(mutex, ()) })
}

#[kunit_tests(ext_killable)]
mod tests {
    use super::*;
    use kernel::new_mutex;

    #[test]
    fn a_taken_mutex_is_released_with_its_guard() -> Result {
        let mutex = KBox::pin_init(new_mutex!(1u32, "vfio_kunit"), GFP_KERNEL)?;
        let mut guard = lock_killable(&mutex)?;
        *guard += 1;
        assert!(mutex.try_lock().is_none());
        drop(guard);
        assert_eq!(*lock_interruptible(&mutex)?, 2);
        assert!(mutex.try_lock().is_some());
        Ok(())
    }
}
