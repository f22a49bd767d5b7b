// SPDX-License-Identifier: GPL-2.0

//! A value that a call looks up on first use, for example the handle of a device that may be gone.

use core::cell::OnceCell;
use kernel::prelude::*;

/// A value that is looked up on first use.
pub(crate) struct Lookup<'a, D> {
    find: &'a dyn Fn() -> Result<D>,
    found: OnceCell<D>,
}

impl<'a, D> Lookup<'a, D> {
    /// Creates a lookup. It calls `find` on first use, and not again after a success.
    pub(crate) fn new(find: &'a dyn Fn() -> Result<D>) -> Self {
        Self {
            find,
            found: OnceCell::new(),
        }
    }

    /// Returns the value.
    ///
    /// # Errors
    ///
    /// The errors of `find`.
    pub(crate) fn get(&self) -> Result<&D> {
        if let Some(value) = self.found.get() {
            return Ok(value);
        }
        let value = (self.find)()?;
        Ok(self.found.get_or_init(|| value))
    }
}
