// SPDX-License-Identifier: GPL-2.0

//! Compares a device that came back from an outage with the one that was bound. The drivers of the
//! data functions have told VFIO what their functions can do.
//!
//! The callback that ends an outage checks the device. If the device does not answer within the
//! callback's budget, the calls that come later check it before they use it.

use super::{
    hardware::{
        self,
        Limits, //
    },
    service::{
        ask,
        Service, //
    },
};
use crate::{
    ext::{
        budget::Budget,
        cmdq::buffer::Buffer,
        patience::Patience,
        pci_driver::policy,
        trust::Pass, //
    },
    proto::{
        admin::Command,
        identify,
        FnInfo, //
    },
};
use kernel::{
    device::Core,
    pci,
    prelude::*, //
};

impl Service {
    /// Makes sure that the device is the one that was bound, before a call of a data function uses
    /// it. Waits for the device only after an outage. Returns the pass for the call's commands.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` if another device came back: the queue is then down for good. On any other error
    /// the device does not answer, and the next call tries again.
    pub(super) fn ready(&self, patience: Patience<'_>) -> Result<Pass> {
        let result = self.verify(patience);
        if result.err() == Some(ENODEV) {
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
    pub(super) fn verify(&self, patience: Patience<'_>) -> Result<Pass> {
        let doubt = match self.queue.pass() {
            Ok(pass) => return Ok(pass),
            Err(doubt) => doubt,
        };
        // The commands complete a recovery of the queue, and then the registers can be read.
        let functions = self.check_functions(patience);
        let registers = match self.queue.enter() {
            Ok(hw) if hardware::answers(&hw) => Some(self.is_same(&hw)),
            _ => None,
        };
        policy::after_outage(registers, functions)?;
        self.queue.regain_trust(doubt);
        // If the next outage has come meanwhile, the queue does not accept this pass.
        Ok(Pass::Checked(doubt))
    }

    /// Ends an outage, see [`Queue::restore`](crate::ext::cmdq::queue::Queue::restore).
    pub(super) fn restore(&self, pdev: &pci::Device<Core<'_>>) -> Result {
        let verify = |budget: &Budget| {
            // A signal to the task that wrote to sysfs must not fail the restore.
            self.verify(Patience::Within(budget)).map(drop)
        };
        self.queue.restore(pdev, |hw| self.is_same(hw), verify)
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
