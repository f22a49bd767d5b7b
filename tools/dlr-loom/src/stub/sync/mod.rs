// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `kernel::sync`.

pub(crate) mod atomic;

use std::ops::Deref;

use loom::sync::{
    self as loom_sync,
    atomic::{AtomicBool, Ordering},
};

use super::error::Result;

/// `kernel::sync::Arc`.
pub(crate) struct Arc<T>(std::sync::Arc<T>);

impl<T> Arc<T> {
    pub(crate) fn new(value: T, _: ()) -> Result<Self> {
        Ok(Self(std::sync::Arc::new(value)))
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

pub(crate) use Mutex as SpinLock;

/// A mutex or spinlock. An attempt reads the owner first, as `mutex_trylock()` does, and that
/// read may be old: it orders nothing.
///
/// loom's own mutex keeps a thread that is about to try while another one holds it, so an
/// attempt would never fail; here only the owner takes it.
pub(crate) struct Mutex<T> {
    owned: AtomicBool,
    value: loom_sync::Mutex<T>,
    /// Threads that have found it owned and sleep. loom switches threads at its own types
    /// only, so between that and this list there is no switch.
    sleepers: Sleepers,
}

pub(super) type Sleepers = std::sync::Mutex<Vec<loom::thread::Thread>>;

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            owned: AtomicBool::new(false),
            value: loom_sync::Mutex::new(value),
            sleepers: Sleepers::default(),
        }
    }

    pub(crate) fn lock(&self) -> lock::mutex::MutexGuard<'_, T> {
        loop {
            if let Some(guard) = self.own() {
                return guard;
            }
            self.sleepers.lock().unwrap().push(loom::thread::current());
            loom::thread::park();
        }
    }

    pub(crate) fn try_lock(&self) -> Option<lock::mutex::MutexGuard<'_, T>> {
        if self.owned.load(Ordering::Relaxed) {
            return None;
        }
        self.own()
    }

    fn own(&self) -> Option<lock::mutex::MutexGuard<'_, T>> {
        self.owned
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        let value = Some(self.value.lock().unwrap());
        Some(lock::mutex::MutexGuard {
            owned: &self.owned,
            sleepers: &self.sleepers,
            value,
        })
    }
}

pub(crate) mod lock {
    pub(crate) mod mutex {
        use std::ops::{Deref, DerefMut};

        use loom::sync::{
            atomic::{AtomicBool, Ordering},
            MutexGuard as LoomGuard,
        };

        pub(crate) struct MutexGuard<'a, T> {
            pub(in super::super) owned: &'a AtomicBool,
            pub(in super::super) sleepers: &'a super::super::Sleepers,
            /// `None` only in `drop`.
            pub(in super::super) value: Option<LoomGuard<'a, T>>,
        }

        impl<T> Deref for MutexGuard<'_, T> {
            type Target = T;

            fn deref(&self) -> &T {
                self.value.as_ref().unwrap()
            }
        }

        impl<T> DerefMut for MutexGuard<'_, T> {
            fn deref_mut(&mut self) -> &mut T {
                self.value.as_mut().unwrap()
            }
        }

        impl<T> Drop for MutexGuard<'_, T> {
            fn drop(&mut self) {
                self.value = None;
                self.owned.store(false, Ordering::Release);
                for sleeper in self.sleepers.lock().unwrap().drain(..) {
                    sleeper.unpark();
                }
            }
        }
    }
}

pub(crate) mod barrier {
    pub(crate) use crate::stub::sync::atomic::Full;

    /// `smp_mb()`.
    pub(crate) fn smp_mb(_: Full) {
        loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
    }
}
