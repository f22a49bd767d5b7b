// SPDX-License-Identifier: GPL-2.0

//! Trust in a device after an outage, that is, a reset or a suspend while it stays bound. The
//! device that comes back may be another one, or have other firmware. The driver compares it with
//! the one that it has bound, in the callback that ends the outage or before a later call uses the
//! device.

use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// The outages from which the device has come back, and the last after which it was found to be the
/// same.
pub(crate) struct Trust {
    returns: Atomic<u32>,
    checked: Atomic<u32>,
}

impl Trust {
    /// Trusts the device that was bound.
    pub(crate) fn new() -> Self {
        Self {
            returns: Atomic::new(0),
            checked: Atomic::new(0),
        }
    }

    /// Notes that the device comes back from an outage, before a thread may use it.
    pub(crate) fn lose(&self) {
        // ORDERING: The caller tells threads that they may use the device only after this, under a
        // lock.
        self.returns.fetch_add(1, Relaxed);
    }

    /// Returns the outage after which the device was not checked, if there is one.
    pub(crate) fn doubt(&self) -> Option<u32> {
        let returns = self.returns.load(Relaxed);
        (returns != self.checked.load(Relaxed)).then_some(returns)
    }

    /// Notes that a check that began with this `doubt` has found the same device.
    pub(crate) fn regain(&self, doubt: u32) {
        self.checked.store(doubt, Relaxed);
    }
}

#[kunit_tests(kext_trust)]
mod tests {
    use super::*;

    #[test]
    fn v4_each_return_is_checked() {
        let trust = Trust::new();
        assert_eq!(trust.doubt(), None);
        trust.lose();
        // A check that fails changes nothing.
        assert_eq!(trust.doubt(), Some(1));
        // The device came back once more during the check.
        trust.lose();
        trust.regain(1);
        assert_eq!(trust.doubt(), Some(2));
        trust.regain(2);
        assert_eq!(trust.doubt(), None);
    }
}
