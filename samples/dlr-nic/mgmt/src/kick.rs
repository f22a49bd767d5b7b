// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A flag that one thread sleeps on: "something that the status pages show has changed".

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Kick {
    raised: AtomicBool,
    state: Mutex<bool>,
    changed: Condvar,
}

impl Kick {
    /// Raises the flag. Cheap while it is up; takes no lock that is held for long.
    pub(crate) fn kick(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            let _closed = self.state.lock();
            self.changed.notify_all();
        }
    }

    /// Waits for the flag and takes it down. False when [`Self::close`] was called.
    pub(crate) fn wait(&self) -> bool {
        let mut closed = self.state.lock();
        while !*closed {
            if self.raised.swap(false, Ordering::AcqRel) {
                return true;
            }
            self.changed.wait(&mut closed);
        }
        false
    }

    /// Ends the waiting thread.
    pub(crate) fn close(&self) {
        *self.state.lock() = true;
        self.changed.notify_all();
    }
}
