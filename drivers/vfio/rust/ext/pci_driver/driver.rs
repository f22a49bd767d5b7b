// SPDX-License-Identifier: GPL-2.0

//! The trait of a PCI driver.

use super::recovery::{
    ChannelState,
    Verdict, //
};
use crate::ext::dma::Unallocated;
use kernel::{
    device::Core,
    pci,
    prelude::*, //
};

/// A PCI driver. `Self` is the data of one bound device. The PCI core calls all functions with the
/// device lock held; they may sleep.
pub(crate) trait Driver: Sized + Send + 'static {
    /// The ids of the devices to bind to.
    const ID_TABLE: pci::IdTable<()>;

    /// Binds to a device, which [`Unallocated::set_mask`] gives out.
    ///
    /// # Errors
    ///
    /// Any error leaves the device unbound.
    fn probe(new: Unallocated<'_>) -> impl PinInit<Self, Error>;

    /// Called when the device is being unbound. `Self` is dropped after this, and then devres
    /// releases its resources.
    fn unbind(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>);

    /// Called before power-off, reboot and kexec. The device must have stopped all DMA when this
    /// returns. It stays bound.
    fn shutdown(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>);

    /// Called before system sleep and hibernation, when user space is frozen. The device may lose
    /// its state until [`Self::resume`].
    ///
    /// # Errors
    ///
    /// Any error cancels the system sleep.
    fn suspend(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>) -> Result;

    /// Undoes [`Self::suspend`]. The PCI core has restored configuration space.
    ///
    /// # Errors
    ///
    /// Any error is logged and otherwise ignored.
    fn resume(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>) -> Result;

    /// Enables `count` VFs, or removes all of them if `count` is 0. Returns the number of VFs. The
    /// caller, a write to `sriov_numvfs` in sysfs, checks `count` against TotalVFs and goes either
    /// from 0 to a number or from a number to 0.
    ///
    /// # Errors
    ///
    /// The write to sysfs fails with the error.
    fn sriov_configure(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>, count: u16) -> Result<u16>;

    /// Called after an error on the PCI channel, which may be one of another device below the same
    /// port. In any state but [`ChannelState::Normal`] the driver must not access the device.
    fn error_detected(
        this: Pin<&Self>,
        pdev: &pci::Device<Core<'_>>,
        state: ChannelState,
    ) -> Verdict;

    /// Called after an error from which all drivers below the port can recover without a reset. The
    /// device can be accessed.
    fn mmio_enabled(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>) -> Verdict;

    /// Called after an error when the device has been reset. Its configuration space is as after
    /// power-on.
    fn slot_reset(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>) -> Verdict;

    /// Called when recovery is complete on all devices below the port
    /// (`pci_error_handlers.resume`).
    fn recovered(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>);

    /// Called before the device is reset, alone or with its bus. It can still be accessed.
    fn reset_prepare(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>);

    /// Called after a reset, also if it failed. The PCI core has restored configuration space.
    fn reset_done(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>);
}
