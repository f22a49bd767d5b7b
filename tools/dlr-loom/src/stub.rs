// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the layer's files use of the kernel crate and of the rest of the layer, on loom's types.
//!
//! Barriers and orders are those of `tools/memory-model`: a full atomic operation is one with a
//! full barrier on both sides, a full barrier is a fence that is sequentially consistent.

use std::ops::{Deref, DerefMut};

pub(crate) mod prelude {
    pub(crate) use super::{pin_init, Error, PinInit, Result, EINVAL, GFP_KERNEL};
    pub(crate) use std::prelude::v1::*;
}

/// An errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Error(i32);
pub(crate) type Result<T = (), E = Error> = std::result::Result<T, E>;
pub(crate) const EINVAL: Error = Error(22);
pub(crate) const GFP_KERNEL: () = ();

/// Numbers of the uAPI that `state.rs` names.
#[allow(non_upper_case_globals)]
pub(crate) mod bindings {
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_ERROR: u32 = 0;
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_STOP: u32 = 1;
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING: u32 = 2;
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_STOP_COPY: u32 = 3;
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_RESUMING: u32 = 4;
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING_P2P: u32 = 5;
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY: u32 = 6;
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY_P2P: u32 = 7;
    pub(crate) const VFIO_MIGRATION_STOP_COPY: u32 = 1;
    pub(crate) const VFIO_MIGRATION_P2P: u32 = 2;
    pub(crate) const VFIO_MIGRATION_PRE_COPY: u32 = 4;
}

/// An initialiser. Nothing here is pinned: a value is made and moved to its place.
pub(crate) trait PinInit<T, E = std::convert::Infallible>: Sized {
    fn make(self) -> Result<T, E>;
}

/// The initialiser that a closure makes.
pub(crate) struct Maker<F>(pub(crate) F);

impl<T, E, F: FnOnce() -> Result<T, E>> PinInit<T, E> for Maker<F> {
    fn make(self) -> Result<T, E> {
        (self.0)()
    }
}

pub(crate) mod pin_init {
    use super::{Maker, PinInit, Result};

    pub(crate) fn pin_init_scope<T, E, I: PinInit<T, E>>(
        f: impl FnOnce() -> Result<I, E>,
    ) -> impl PinInit<T, E> {
        Maker(|| f()?.make())
    }
}

macro_rules! pin_init {
    ($($value:tt)*) => { $crate::stub::Maker(move || Ok($($value)*)) };
}
macro_rules! try_pin_init {
    ($($value:tt)*) => { $crate::stub::Maker(move || Ok($($value)*)) };
}

macro_rules! new_mutex {
    ($value:expr, $name:literal) => {
        $crate::stub::sync::Mutex::new($value)
    };
}
pub(crate) use new_mutex;
pub(crate) use new_mutex as new_spinlock;

pub(crate) mod time {
    pub(crate) type Jiffies = u64;
    pub(crate) struct Delta;

    impl Delta {
        pub(crate) const fn from_millis(_: i64) -> Self {
            Self
        }
    }

    pub(crate) mod delay {
        pub(crate) fn fsleep(_: super::Delta) {
            loom::thread::yield_now();
        }
    }
}

pub(crate) mod killable {
    use super::{
        sync::{lock::mutex::MutexGuard, Mutex},
        Result,
    };

    pub(crate) fn lock_killable<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
        Ok(mutex.lock())
    }
}

pub(crate) mod completion {
    use loom::sync::{Condvar, Mutex};

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Wait {
        Done,
        TimedOut,
    }

    /// Counts as `struct completion` does.
    pub(crate) struct Completion {
        state: Mutex<State>,
        more: Condvar,
    }

    struct State {
        done: u32,
        /// Whether the check has ended all threads that complete this: a wait with a timeout then
        /// ends with [`Wait::TimedOut`].
        over: bool,
    }

    impl Completion {
        pub(crate) fn new() -> Self {
            Self {
                state: Mutex::new(State {
                    done: 0,
                    over: false,
                }),
                more: Condvar::new(),
            }
        }

        pub(crate) fn complete(&self) {
            let mut state = self.state.lock().unwrap();
            state.done = state.done.saturating_add(1);
            self.more.notify_one();
        }

        pub(crate) fn complete_all(&self) {
            self.state.lock().unwrap().done = u32::MAX;
            self.more.notify_all();
        }

        /// Lets waits with a timeout end.
        pub(crate) fn end(&self) {
            self.state.lock().unwrap().over = true;
            self.more.notify_all();
        }

        pub(crate) fn wait(&self) {
            let mut state = self.state.lock().unwrap();
            while state.done == 0 {
                state = self.more.wait(state).unwrap();
            }
            state.take();
        }

        pub(crate) fn wait_killable_timeout(&self, _: u64) -> Wait {
            let mut state = self.state.lock().unwrap();
            while state.done == 0 {
                if state.over {
                    return Wait::TimedOut;
                }
                state = self.more.wait(state).unwrap();
            }
            state.take();
            Wait::Done
        }
    }

    impl State {
        fn take(&mut self) {
            if self.done != u32::MAX {
                self.done -= 1;
            }
        }
    }
}

pub(crate) mod sync {
    use super::{Deref, Result};
    use loom::sync::{
        self as loom_sync,
        atomic::{AtomicBool, Ordering},
    };

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

    pub(in crate::stub) type Sleepers = std::sync::Mutex<Vec<loom::thread::Thread>>;

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
            use super::super::super::{Deref, DerefMut};
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
        pub(crate) use super::atomic::Full;

        /// `smp_mb()`.
        pub(crate) fn smp_mb(_: Full) {
            loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
        }
    }

    pub(crate) mod atomic {
        use loom::sync::atomic::{fence, AtomicBool, AtomicI64, AtomicU32, Ordering};

        /// An order: that of loom's operation, and whether full barriers surround it.
        pub(crate) trait Order {
            const ORDER: Ordering;
            const FULL: bool = false;
        }

        macro_rules! orders {
            ($($name:ident $full:literal $operation:ident;)*) => {$(
                #[derive(Clone, Copy)]
                pub(crate) struct $name;

                impl Order for $name {
                    const ORDER: Ordering = Ordering::$operation;
                    const FULL: bool = $full;
                }
            )*};
        }
        orders! {
            Relaxed false Relaxed;
            Acquire false Acquire;
            Release false Release;
            Full true AcqRel;
        }

        fn surrounded<O: Order, R>(operation: impl FnOnce() -> R) -> R {
            if O::FULL {
                fence(Ordering::SeqCst);
            }
            let result = operation();
            if O::FULL {
                fence(Ordering::SeqCst);
            }
            result
        }

        /// A type that has an atomic one.
        pub(crate) trait Value: Copy {
            type Cell;
            fn cell(self) -> Self::Cell;
            fn load(cell: &Self::Cell, order: Ordering) -> Self;
            fn store(cell: &Self::Cell, value: Self, order: Ordering);
            fn swap(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
        }

        macro_rules! values {
            ($($value:ty: $cell:ty;)*) => {$(
                impl Value for $value {
                    type Cell = $cell;

                    fn cell(self) -> $cell {
                        <$cell>::new(self)
                    }

                    fn load(cell: &$cell, order: Ordering) -> Self {
                        cell.load(order)
                    }

                    fn store(cell: &$cell, value: Self, order: Ordering) {
                        cell.store(value, order);
                    }

                    fn swap(cell: &$cell, value: Self, order: Ordering) -> Self {
                        cell.swap(value, order)
                    }
                }
            )*};
        }
        values! {
            bool: AtomicBool;
            u32: AtomicU32;
            i64: AtomicI64;
        }

        /// `kernel::sync::atomic::Atomic`.
        pub(crate) struct Atomic<T: Value>(T::Cell);

        impl<T: Value> Atomic<T> {
            pub(crate) fn new(value: T) -> Self {
                Self(value.cell())
            }

            pub(crate) fn load<O: Order>(&self, _: O) -> T {
                T::load(&self.0, O::ORDER)
            }

            pub(crate) fn store<O: Order>(&self, value: T, _: O) {
                T::store(&self.0, value, O::ORDER);
            }

            pub(crate) fn xchg<O: Order>(&self, value: T, _: O) -> T {
                surrounded::<O, _>(|| T::swap(&self.0, value, O::ORDER))
            }
        }

        impl Atomic<i64> {
            pub(crate) fn fetch_add<O: Order>(&self, value: i64, _: O) -> i64 {
                surrounded::<O, _>(|| self.0.fetch_add(value, O::ORDER))
            }

            pub(crate) fn fetch_sub<O: Order>(&self, value: i64, _: O) -> i64 {
                surrounded::<O, _>(|| self.0.fetch_sub(value, O::ORDER))
            }
        }
    }
}
