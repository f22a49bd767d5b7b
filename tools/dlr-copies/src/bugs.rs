// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The bugs of a copy, and their switch.

use std::cell::Cell;

/// A bug of one line.
#[derive(Debug)]
pub struct Bug {
    /// What it is.
    pub name: &'static str,
    /// The file in the copy.
    pub path: &'static str,
    /// A text that occurs once.
    pub find: &'static str,
    /// What stands there; `BUG` is true while the bug is on.
    pub with: &'static str,
}

thread_local! {
    static ON: Cell<&'static str> = const { Cell::new("") };
}

/// Whether the bug `name` is on in this thread.
pub fn is(name: &str) -> bool {
    ON.get() == name
}

/// Turns the bug `name` on in this thread, and any other off.
pub fn set(name: &'static str) {
    ON.set(name);
}
