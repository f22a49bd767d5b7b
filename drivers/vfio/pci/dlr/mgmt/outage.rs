// SPDX-License-Identifier: GPL-2.0

//! Outages of a bound management function (reset, suspend, PCI errors), and the end of its DMA.
//!
//! The functions of this file run in callbacks of the PCI core, with the device lock held. Each
//! waits for the device for one [`Budget`] at most, except for the FLR in [`stop`], during which
//! the PCI core waits up to a minute for the function to come back. An outage ends logs, sessions
//! and status pages: their users get errors at once and can start again after the outage.

use super::{
    channel::Channel,
    hardware::{
        self,
        Registers, //
    },
    queue::Queue,
    service::Service, //
};
use crate::kext::{
    budget::Budget,
    dma,
    patience::Patience,
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

/// Stops all activity of the device: resets it by `DLR_CONTROL_RESET`, within `ms` milliseconds, or
/// else by an FLR if [`policy::last_resort`] allows one. The caller, probe or [`shut_down`], makes
/// sure that no other thread accesses the hardware.
///
/// # Errors
///
/// The error of [`hardware::reset`] or of the FLR. Until bus mastering is off, the device may still
/// access memory.
pub(super) fn stop(pdev: &pci::Device<Core<'_>>, hw: &Registers, ms: u32) -> Result {
    let Err(error) = hardware::reset(hw, ms) else {
        return Ok(());
    };
    // `hardware::reset` returns EIO if the registers read as all ones.
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

/// Ends the service and frees all DMA memory; calls by remaining handles fail with `ENOTCONN`.
/// Called by unbind, and by a probe that fails after [`Queue::new`].
pub(super) fn shut_down(queue: &Queue, pdev: &pci::Device<Core<'_>>) {
    // From here on every call fails with ENOTCONN, and every sleeping caller wakes up.
    queue.go_down(ENOTCONN);
    // This waits for the threads that access the hardware: an FLR disables memory decoding, and an
    // access would then be an SError on some machines.
    queue.hw.revoke_after(|hw| {
        let ms = Budget::new().at_most(hardware::reset_ms(&hw.data().limits));
        if let Err(error) = stop(pdev, hw, ms) {
            dev_warn!(pdev, "did not stop cleanly ({error:?})\n");
        }
        // From here on the device cannot reach memory, whether it has followed the reset or not:
        // rings and status pages are freed when this closure returns.
        dma::clear_master(pdev);
    });
    queue.free_slots();
    for channel in &queue.channels {
        free_log(channel);
        channel.set_client(None);
    }
}

/// Forgets the ring of a log that the device does not write any more.
fn free_log(channel: &Channel) {
    let mut log = channel.log.lock();
    log.active = false;
    // The memory of the ring was freed with the lease.
    log.ring = None;
}

impl Service {
    /// Begins an outage, and resets the device if it is `touchable`, that is, if it can be
    /// accessed. Does nothing in an outage, or if the queue is down for good.
    pub(super) fn interrupt(&self, pdev: &pci::Device<Core<'_>>, touchable: bool) {
        if self.queue.is_halted() {
            return;
        }
        let Some(hw) = self.queue.halt() else {
            return;
        };
        self.queue.stats.outages.count();
        for channel in &self.queue.channels {
            channel.log.lock().active = false;
        }
        self.queue.tell_ended();
        if touchable {
            // An error is only logged: the reset that follows, or `clear_master`, stops the device.
            let ms = Budget::new().at_most(hardware::reset_ms(self.limits()));
            if let Err(error) = hardware::reset(&hw, ms) {
                dev_warn!(pdev, "reset failed ({error:?})\n");
            }
        }
    }

    /// Ends an outage. The device must be accessible. Does nothing without an outage, or if the
    /// queue is down for good.
    ///
    /// # Errors
    ///
    /// `ENODEV` if another device came back; the queue is then down for good. On any other error
    /// the device has not followed, and the next commands try again.
    pub(super) fn restore(&self, pdev: &pci::Device<Core<'_>>) -> Result {
        if !self.queue.is_halted() {
            return Ok(());
        }
        let result = self.bring_back(pdev);
        if let Err(error) = result {
            dev_err!(pdev, "restore failed ({error:?})\n");
            if error == ENODEV {
                dma::clear_master(pdev);
                self.queue.go_down(ENOTCONN);
            }
        }
        result
    }

    fn bring_back(&self, pdev: &pci::Device<Core<'_>>) -> Result {
        let budget = Budget::new();
        // Before the first way out: the next call checks what this function does not come to.
        self.queue.lose_trust();
        {
            let hw = self.queue.hw.enter_in_pause().ok_or(ENOTCONN)?;
            if hardware::answers(&hw) && !self.is_same(&hw) {
                return Err(ENODEV);
            }
            // If the device does not answer, this reset fails, and so does `revive`, after which
            // the next commands try again.
            //
            // The ring of a log that has ended stays allocated: a LOG_START that waits for the end
            // of the outage may name it. The LOG_STOP of the owner frees it.
            let ms = budget.at_most(hardware::reset_ms(self.limits()));
            let _ = hardware::reset(&hw, ms);
        }
        pdev.set_master();
        self.queue.revive(&budget)?;
        // A signal to the task that wrote to sysfs must not fail the restore.
        self.verify(Patience::Within(&budget)).map(drop)
    }

    /// Ends the service after a PCI error from which the device does not return.
    pub(super) fn lose(&self) {
        self.queue.go_down(ENOTCONN);
        // The function stays bound, but no thread may access the hardware any more.
        let _ = self.queue.hw.pause();
    }

    /// Stops the device before the machine is switched off or runs another kernel: after this call
    /// the device does not access memory. The function stays bound, and its memory stays allocated.
    pub(super) fn quiesce(&self, pdev: &pci::Device<Core<'_>>) {
        self.queue.go_down(ENOTCONN);
        if let Some(hw) = self.queue.hw.pause() {
            let ms = Budget::new().at_most(hardware::reset_ms(self.limits()));
            if let Err(error) = hardware::reset(&hw, ms) {
                dev_warn!(pdev, "did not stop cleanly ({error:?})\n");
            }
        }
        dma::clear_master(pdev);
    }
}
