// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Initialisers. Nothing here is pinned: a value is made and moved to its place.

use super::error::Result;

/// `PinInit`.
pub(crate) trait PinInit<T>: Sized {
    fn make(self) -> Result<T>;
}

/// The initialiser that a closure makes.
pub(crate) struct Maker<F>(pub(crate) F);

impl<T, F: FnOnce() -> Result<T>> PinInit<T> for Maker<F> {
    fn make(self) -> Result<T> {
        (self.0)()
    }
}

/// `Init`, of an initialiser that cannot fail.
pub(crate) trait Init<T> {
    fn make(self) -> T;
}

impl<T, F: FnOnce() -> T> Init<T> for F {
    fn make(self) -> T {
        self()
    }
}

/// The crate `pin_init`.
pub(crate) mod pin_init {
    use super::Init;

    /// Types for which zeroes are a value.
    pub(crate) trait Zeroable {
        const ZERO: Self;
    }

    impl<const N: usize> Zeroable for [u16; N] {
        const ZERO: Self = [0; N];
    }

    impl<const N: usize> Zeroable for [u64; N] {
        const ZERO: Self = [0; N];
    }

    pub(crate) fn init_zeroed<T: Zeroable>() -> impl Init<T> {
        || T::ZERO
    }

    pub(crate) fn init_array_from_fn<T, const N: usize>(
        make: impl FnMut(usize) -> T,
    ) -> impl Init<[T; N]> {
        || std::array::from_fn(make)
    }
}

/// `pin_init!` of a struct: `field: value` and `field <- initialiser`.
macro_rules! pin_init {
    (@fields [$($done:tt)*]) => { Self { $($done)* } };
    (@fields [$($done:tt)*] $field:ident <- $init:expr, $($rest:tt)*) => {
        pin_init!(@fields
            [$($done)* $field: $crate::stub::init::PinInit::make($init)?,] $($rest)*)
    };
    (@fields [$($done:tt)*] $field:ident: $value:expr, $($rest:tt)*) => {
        pin_init!(@fields [$($done)* $field: $value,] $($rest)*)
    };
    (@fields [$($done:tt)*] $field:ident, $($rest:tt)*) => {
        pin_init!(@fields [$($done)* $field,] $($rest)*)
    };
    (Self { $($fields:tt)* }) => {
        $crate::stub::init::Maker(move || Ok(pin_init!(@fields [] $($fields)*)))
    };
}
