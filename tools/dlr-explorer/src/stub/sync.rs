// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `kernel::sync`. `Arc` is the one of std, so that `Arc<dyn Trait>` can be made of it.

pub(crate) use std::sync::Arc;

use super::{alloc::Flags, error::Result, init::PinInit};

pub(crate) type ArcBorrow<'a, T> = &'a Arc<T>;

/// `Arc::new`.
pub(crate) fn new_arc<T>(value: T, _: Flags) -> Result<Arc<T>> {
    Ok(Arc::new(value))
}

/// `Arc::pin_init`.
pub(crate) fn pin_init_arc<T>(value: impl PinInit<T>, _: Flags) -> Result<Arc<T>> {
    Ok(Arc::new(value.make()?))
}

/// `kernel::sync::Mutex`.
pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

pub(crate) use Mutex as SpinLock;

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    /// One thread runs: what is locked stays locked, and the explorer would hang.
    pub(crate) fn lock(&self) -> lock::mutex::MutexGuard<'_, T> {
        self.try_lock().expect("a deadlock")
    }

    pub(crate) fn try_lock(&self) -> Option<lock::mutex::MutexGuard<'_, T>> {
        self.0.try_lock()
    }
}

macro_rules! new_mutex {
    ($value:expr, $name:literal) => {
        $crate::stub::init::Maker(move || Ok($crate::stub::sync::Mutex::new($value)))
    };
}
pub(crate) use new_mutex;

pub(crate) mod lock {
    pub(crate) mod mutex {
        pub(crate) use parking_lot::MutexGuard;
    }
}

/// `kernel::sync::barrier`.
pub(crate) mod barrier {
    pub(crate) use super::atomic::Full;
    pub(crate) struct Read;

    pub(crate) fn smp_mb(_: Full) {}
    pub(crate) fn dma_mb<T>(_: T) {}
}

/// `kernel::sync::atomic`.
pub(crate) mod atomic {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

    pub(crate) struct Relaxed;
    pub(crate) struct Acquire;
    pub(crate) struct Release;
    pub(crate) struct Full;

    /// A type that has an atomic one.
    pub(crate) trait Value: Copy {
        type Cell;
        fn cell(self) -> Self::Cell;
        fn load(cell: &Self::Cell) -> Self;
        fn swap(cell: &Self::Cell, value: Self) -> Self;
    }

    macro_rules! values {
        ($($value:ty: $cell:ty;)*) => {$(
            impl Value for $value {
                type Cell = $cell;

                fn cell(self) -> $cell {
                    <$cell>::new(self)
                }

                fn load(cell: &$cell) -> Self {
                    cell.load(SeqCst)
                }

                fn swap(cell: &$cell, value: Self) -> Self {
                    cell.swap(value, SeqCst)
                }
            }
        )*};
    }
    values! {
        bool: AtomicBool;
        u64: AtomicU64;
    }

    /// `Atomic`. Orders do not matter to one thread.
    pub(crate) struct Atomic<T: Value>(T::Cell);

    impl<T: Value> Atomic<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(value.cell())
        }

        pub(crate) fn load<O>(&self, _: O) -> T {
            T::load(&self.0)
        }

        pub(crate) fn store<O>(&self, value: T, _: O) {
            T::swap(&self.0, value);
        }

        pub(crate) fn xchg<O>(&self, value: T, _: O) -> T {
            T::swap(&self.0, value)
        }
    }

    impl Atomic<u64> {
        pub(crate) fn fetch_add<O>(&self, value: u64, _: O) -> u64 {
            self.0.fetch_add(value, SeqCst)
        }

        pub(crate) fn add<O>(&self, value: u64, _: O) {
            self.0.fetch_add(value, SeqCst);
        }
    }
}
