// SPDX-License-Identifier: GPL-2.0

//! Lookup of the handle that one call of a user needs.

use core::cell::OnceCell;
use kernel::prelude::*;

/// Handle of a call, which is looked up on first use.
pub(super) struct Lookup<'a, D> {
    find: &'a dyn Fn() -> Result<D>,
    found: OnceCell<D>,
}

impl<'a, D> Lookup<'a, D> {
    /// Creates a lookup. It calls `find` on first use, and not again after a success.
    pub(super) fn new(find: &'a dyn Fn() -> Result<D>) -> Self {
        Self {
            find,
            found: OnceCell::new(),
        }
    }

    /// Returns the handle.
    ///
    /// # Errors
    ///
    /// The errors of `find`.
    pub(super) fn get(&self) -> Result<&D> {
        if let Some(function) = self.found.get() {
            return Ok(function);
        }
        let function = (self.find)()?;
        Ok(self.found.get_or_init(|| function))
    }
}
