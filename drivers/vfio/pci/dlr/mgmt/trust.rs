// SPDX-License-Identifier: GPL-2.0

//! Trust in the device after an outage: it may be another one, or have other firmware. The drivers
//! of the data functions have told VFIO what their functions can do.
//!
//! The callback that ends an outage checks the device. If the device does not answer within the
//! callback's budget, the calls that come later check it before they use it.

use super::{
    budget::Patience,
    hardware::{
        self,
        Limits, //
    },
    memory::Buffer,
    policy,
    service::{
        ask,
        Service, //
    }, //
};
use crate::proto::{
    admin::Command,
    identify,
    FnInfo, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// The outages from which the device has come back, and the last after which it was found to be the
/// same.
pub(super) struct Trust {
    returns: Atomic<u32>,
    checked: Atomic<u32>,
}

impl Trust {
    /// Trusts the device that was bound.
    pub(super) fn new() -> Self {
        Self {
            returns: Atomic::new(0),
            checked: Atomic::new(0),
        }
    }

    /// Notes that the device comes back from an outage, before a thread may use it.
    pub(super) fn lose(&self) {
        // ORDERING: The state of the queue, which changes after this under its lock, tells threads
        // that they may use the device.
        self.returns.fetch_add(1, Relaxed);
    }

    /// Returns the outage after which the device was not checked, if there is one.
    pub(super) fn doubt(&self) -> Option<u32> {
        let returns = self.returns.load(Relaxed);
        (returns != self.checked.load(Relaxed)).then_some(returns)
    }

    /// Notes that a check that began with this `doubt` has found the same device.
    pub(super) fn regain(&self, doubt: u32) {
        self.checked.store(doubt, Relaxed);
    }
}

impl Service {
    /// Makes sure that the device is the one that was bound, before a call of a data function uses
    /// it. Waits for the device only after an outage.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` if another device came back: the queue is then down for good. On any other error
    /// the device does not answer, and the next call tries again.
    pub(super) fn ready(&self, patience: Patience<'_>) -> Result {
        let result = self.verify(patience);
        if result == Err(ENODEV) {
            self.queue.go_down(ENOTCONN);
            if let Some(hw) = self.queue.hw.enter() {
                dev_err!(hw.device(), "another device came back from an outage\n");
                // The device accesses no memory when this reset is complete.
                hardware::begin_reset(&hw);
            }
            return Err(ENOTCONN);
        }
        result
    }

    /// Compares the device with the one that was bound, unless that was done since the last outage.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the registers or a function differ. Otherwise the device does not answer.
    pub(super) fn verify(&self, patience: Patience<'_>) -> Result {
        let Some(doubt) = self.trust.doubt() else {
            return Ok(());
        };
        // The commands complete a recovery of the queue, and then the registers can be read.
        let functions = self.check_functions(patience);
        let registers = match self.queue.enter() {
            Ok(hw) if hardware::answers(&hw) => Some(self.is_same(&hw)),
            _ => None,
        };
        policy::after_outage(registers, functions)?;
        self.trust.regain(doubt);
        Ok(())
    }

    /// Returns whether the registers are those of the device that was bound.
    pub(super) fn is_same(&self, hw: &hardware::Registers) -> bool {
        matches!(Limits::read(hw), Ok(now) if now == *self.limits())
    }

    /// Identifies the functions of the device again.
    ///
    /// # Errors
    ///
    /// `ENODEV` if a function has other capabilities or limits than before.
    fn check_functions(&self, patience: Patience<'_>) -> Result {
        let buffer = {
            let hw = self.queue.enter()?;
            Buffer::new(&hw, identify::FN_SIZE)?
        };
        for (channel, known) in self.queue.channels.iter().zip(&self.functions) {
            let command = Command::identify_fn(channel.number);
            let info = ask(&self.queue, &buffer, command, patience)?;
            if FnInfo::decode(info).ok() != Some(*known) {
                return Err(ENODEV);
            }
        }
        Ok(())
    }
}

#[kunit_tests(dlr_mgmt_trust)]
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
