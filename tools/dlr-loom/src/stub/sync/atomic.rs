// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `kernel::sync::atomic`.

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
