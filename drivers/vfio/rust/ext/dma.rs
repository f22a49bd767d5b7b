// SPDX-License-Identifier: GPL-2.0

//! The DMA mask, bus mastering and reset of a PCI function.

use super::pci::as_raw;
use kernel::{
    bindings,
    device::Core,
    dma::{
        Device as _,
        DmaMask, //
    },
    pci,
    prelude::*, //
};

/// A function at the beginning of its probe. The driver trades it for the function itself by
/// [`Self::set_mask`], once. So the DMA mask cannot change when DMA memory, interrupt vectors or
/// other users of the function may exist.
pub(crate) struct Unallocated<'a>(&'a pci::Device<Core<'a>>);

impl<'a> Unallocated<'a> {
    /// # Safety
    ///
    /// A driver's probe of `pdev` begins, and nothing else gives `pdev` to this driver before
    /// [`Self::set_mask`] does.
    pub(super) unsafe fn new(pdev: &'a pci::Device<Core<'a>>) -> Self {
        Self(pdev)
    }

    /// Sets the streaming and the coherent DMA mask, and hands the function out.
    ///
    /// # Errors
    ///
    /// `EIO` when the platform cannot serve this mask.
    pub(crate) fn set_mask(self, mask: DmaMask) -> Result<&'a pci::Device<Core<'a>>> {
        // SAFETY: By the requirements of `new` no code has the device with which it could allocate
        // DMA memory, and none gets it before this returns.
        unsafe { self.0.dma_set_mask_and_coherent(mask)? };
        Ok(self.0)
    }
}

super::assert_not_impl!(Unallocated<'static>: Clone);
super::assert_not_impl!(Unallocated<'static>: AsRef<pci::Device<Core<'static>>>);
super::assert_not_impl!(Unallocated<'static>: core::ops::Deref);

/// Clears Bus Master Enable: the function starts no DMA and sends no MSI any more.
pub(crate) fn clear_master(pdev: &pci::Device<Core<'_>>) {
    // SAFETY: `pdev` is a valid device.
    unsafe { bindings::pci_clear_master(as_raw(pdev)) };
}

/// Resets the function, by FLR if it supports that, and restores its configuration space.
///
/// # Errors
///
/// `ENOTTY` when it cannot be reset alone, or the error with which the reset failed.
pub(crate) fn reset(pdev: &pci::Device<Core<'_>>) -> Result {
    // SAFETY: `pdev` is a valid device, and bus callbacks run with its device lock held.
    unsafe { super::pci::reset_locked(as_raw(pdev)) }
}
