// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Initialisers.

use super::error::Result;

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
