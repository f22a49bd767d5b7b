// SPDX-License-Identifier: GPL-2.0

//! What the callbacks of the PCI core do to the management function: outages (reset, suspend, PCI
//! errors), and the end of its DMA.
//!
//! The functions of this file run in these callbacks, with the device lock held. Each waits for the
//! device for one [`Budget`] at most, except for the FLR in [`Queue::stop`], during which the PCI
//! core waits up to a minute for the function to come back. An outage ends all that the device does
//! for its functions: their users get errors at once and can start again after the outage.

use super::{
    super::device::{
        with_margin,
        Access,
        Device,
        Hardware, //
    },
    Queue, //
};
use crate::ext::{
    budget::Budget,
    dma,
    pci_driver::policy::{
        self,
        LastResort, //
    },
    sriov, //
};
use kernel::{
    device::Core,
    pci,
    prelude::*, //
};

impl<D: Device> Queue<D> {
    /// Stops all activity of the device: resets it by [`Device::reset`], within `ms` milliseconds,
    /// or else by an FLR if [`policy::last_resort`] allows one. The caller, probe or
    /// [`Self::shut_down`], makes sure that no other thread accesses the hardware.
    ///
    /// # Errors
    ///
    /// The error of [`Device::reset`] or of the FLR. Until bus mastering is off, the device may
    /// still access memory.
    pub(crate) fn stop(pdev: &pci::Device<Core<'_>>, hw: &Hardware<D>, ms: u32) -> Result {
        let Err(error) = D::reset(hw, ms) else {
            return Ok(());
        };
        // `Device::reset` returns EIO if the registers read as all ones.
        let gone = error == EIO;
        match policy::last_resort(gone, sriov::count(pdev)) {
            LastResort::Nothing => Err(error),
            LastResort::Flr => {
                dev_warn!(pdev, "reset failed ({error:?}), trying an FLR\n");
                dma::clear_master(pdev);
                dma::reset(pdev)
            }
        }
    }

    /// Returns the time that a reset has, within `budget`, in milliseconds.
    fn reset_ms(&self, budget: &Budget) -> u32 {
        budget.at_most(with_margin(self.limits.timeout_ms))
    }

    /// Ends the queue and frees all DMA memory; calls by remaining handles fail with `ENOTCONN`.
    /// Called by unbind, and by a probe that fails after [`Self::new`].
    pub(crate) fn shut_down(&self, pdev: &pci::Device<Core<'_>>) {
        // From here on every call fails with ENOTCONN, and every sleeping caller wakes up.
        self.go_down(ENOTCONN);
        // This waits for the threads that access the hardware: an FLR disables memory decoding, and
        // an access would then be an SError on some machines.
        self.hw.revoke_after(|hw| {
            if let Err(error) = Self::stop(pdev, hw, self.reset_ms(&Budget::new())) {
                dev_warn!(pdev, "did not stop cleanly ({error:?})\n");
            }
            // From here on the device cannot reach memory, whether it has followed the reset or
            // not: all shared memory is freed when this closure returns.
            dma::clear_master(pdev);
        });
        self.free_slots();
        for channel in &self.channels {
            D::free(channel);
            channel.set_client(None);
        }
    }

    /// Begins an outage, and resets the device if it is `touchable`, that is, if it can be
    /// accessed. Does nothing in an outage, or if the queue is down for good.
    pub(crate) fn interrupt(&self, pdev: &pci::Device<Core<'_>>, touchable: bool) {
        if self.is_halted() {
            return;
        }
        let Some(hw) = self.halt() else {
            return;
        };
        self.stats.outages.count();
        for channel in &self.channels {
            D::halt(channel);
        }
        self.tell_ended();
        if touchable {
            // An error is only logged: the reset that follows, or `clear_master`, stops the device.
            if let Err(error) = D::reset(&hw, self.reset_ms(&Budget::new())) {
                dev_warn!(pdev, "reset failed ({error:?})\n");
            }
        }
    }

    /// Ends an outage. The device must be accessible. Does nothing without an outage, or if the
    /// queue is down for good. `is_same` returns whether the registers are those of the device that
    /// was bound, and `verify` compares the rest by commands, within a budget. If `verify` finds
    /// that it is the same device, it must call [`Self::regain_trust`]; until then prepared
    /// commands fail with `EIO`.
    ///
    /// # Errors
    ///
    /// `ENODEV` if another device came back; the queue is then down for good. On any other error
    /// the device has not followed, and the next commands try again.
    pub(crate) fn restore(
        &self,
        pdev: &pci::Device<Core<'_>>,
        is_same: impl FnOnce(&Hardware<D>) -> bool,
        verify: impl FnOnce(&Budget) -> Result,
    ) -> Result {
        if !self.is_halted() {
            return Ok(());
        }
        let budget = Budget::new();
        let result = self
            .come_back(pdev, is_same, &budget)
            .and_then(|()| verify(&budget));
        if let Err(error) = result {
            dev_err!(pdev, "restore failed ({error:?})\n");
            if error == ENODEV {
                dma::clear_master(pdev);
                self.go_down(ENOTCONN);
            }
        }
        result
    }

    /// Resets the device that has come back, unless it is another one, and revives the queue.
    ///
    /// # Errors
    ///
    /// `ENODEV` if `is_same` is false, and those of [`Self::revive`].
    fn come_back(
        &self,
        pdev: &pci::Device<Core<'_>>,
        is_same: impl FnOnce(&Hardware<D>) -> bool,
        budget: &Budget,
    ) -> Result {
        // First, so that on any early return the next call checks the device.
        self.lose_trust();
        {
            let hw = self.hw.enter_in_pause().ok_or(ENOTCONN)?;
            if D::answers(&hw) && !is_same(&hw) {
                return Err(ENODEV);
            }
            // If the device does not answer, this reset fails, and so does `revive`, after which
            // the next commands try again.
            let _ = D::reset(&hw, self.reset_ms(budget));
        }
        pdev.set_master();
        self.revive(budget)
    }

    /// Ends the queue after a PCI error from which the device does not return.
    pub(crate) fn lose(&self) {
        self.go_down(ENOTCONN);
        // The function stays bound, but no thread may access the hardware any more. In an outage
        // the cell is paused already.
        let _ = self.hw.pause();
    }

    /// Stops the device before the machine is switched off or runs another kernel: after this call
    /// the device does not access memory. The function stays bound, and its memory stays allocated.
    pub(crate) fn quiesce(&self, pdev: &pci::Device<Core<'_>>) {
        self.go_down(ENOTCONN);
        // In an outage, and after `lose`, the cell is paused already. Only callbacks of the bus
        // enter it then, and the caller is the one that runs.
        if let Some(hw) = self.hw.pause().or_else(|| self.hw.enter_in_pause()) {
            if let Err(error) = D::reset(&hw, self.reset_ms(&Budget::new())) {
                dev_warn!(pdev, "did not stop cleanly ({error:?})\n");
            }
        }
        dma::clear_master(pdev);
    }
}
