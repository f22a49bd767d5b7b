// SPDX-License-Identifier: GPL-2.0

//! The recovery of a function from an error of its PCI channel.
//!
//! After an error that lost transactions the PCI core resets the bus. A driver that, like
//! vfio-pci-core, can go on without a reset gets no callback for that reset, and until then the
//! user can reset the function, begin a session and start a log, which the reset of the bus takes
//! away. So what the function holds counts as lost from the error until the first reset of the
//! function that begins after the end of the recovery.

use crate::ext::pci_driver::ChannelState;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// The recovery of one function. The PCI core calls all error handlers of a function with its
/// device lock held.
pub(super) struct Recovery {
    running: Atomic<bool>,
}

impl Recovery {
    /// Makes the state of a function without an error.
    pub(super) const fn new() -> Self {
        Self {
            running: Atomic::new(false),
        }
    }

    /// Notes an error. Returns whether what the function holds is lost.
    pub(super) fn error(&self, state: ChannelState) -> bool {
        match state {
            ChannelState::Normal => return false,
            ChannelState::Frozen => self.running.store(true, Relaxed),
            // The PCI core has given up and resets nothing any more.
            ChannelState::PermanentFailure => self.end(),
        }
        true
    }

    /// Notes the end of the recovery.
    pub(super) fn end(&self) {
        self.running.store(false, Relaxed);
    }

    /// Returns whether the reset of the bus may still come.
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Relaxed)
    }
}

#[kunit_tests(vfio_recovery)]
mod tests {
    use super::*;

    #[test]
    fn s17_a_reset_of_the_bus_may_come_until_the_recovery_has_ended() {
        let recovery = Recovery::new();
        assert!(!recovery.error(ChannelState::Normal));
        assert!(!recovery.is_running());
        assert!(recovery.error(ChannelState::Frozen));
        assert!(recovery.is_running());
        // Another error of the same function changes nothing.
        assert!(!recovery.error(ChannelState::Normal));
        assert!(recovery.is_running());
        recovery.end();
        assert!(!recovery.is_running());
        assert!(recovery.error(ChannelState::Frozen));
        assert!(recovery.error(ChannelState::PermanentFailure));
        assert!(!recovery.is_running());
    }
}
