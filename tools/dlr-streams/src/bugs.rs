// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The switch of the bugs in the copy `bugs`. The copy `real` has none.

use std::cell::Cell;

thread_local! {
    static ON: Cell<&'static str> = const { Cell::new("") };
}

/// Whether the bug `name` is on.
#[allow(dead_code)]
pub(crate) fn is(name: &str) -> bool {
    ON.get() == name
}

/// Turns the bug `name` on, and any other off.
#[allow(dead_code)]
pub(crate) fn set(name: &'static str) {
    ON.set(name);
}
