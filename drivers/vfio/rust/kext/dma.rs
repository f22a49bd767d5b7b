// SPDX-License-Identifier: GPL-2.0

//! Starting and stopping the DMA of a PCI function.

use super::pci::as_raw;
use kernel::{
    bindings,
    device::Core,
    dma::{
        Device as _,
        DmaMask, //
    },
    error::to_result,
    pci,
    prelude::*, //
};

/// Says which addresses the function can reach. In probe, before anything is allocated.
///
/// # Errors
///
/// `EIO` when the platform cannot serve this mask.
pub(crate) fn set_mask(pdev: &pci::Device<Core<'_>>, mask: DmaMask) -> Result {
    // SAFETY: `Core` proves that we are in a bus callback, which are serialised. DMA memory of a function
    // is allocated by its driver only, and the drivers of this crate do so after this call.
    unsafe { pdev.dma_set_mask_and_coherent(mask) }
}

/// Takes the function's right to start DMA and interrupts away.
pub(crate) fn clear_master(pdev: &pci::Device<Core<'_>>) {
    // SAFETY: `pdev` is a valid device.
    unsafe { bindings::pci_clear_master(as_raw(pdev)) };
}

/// Resets the function, by FLR where it has it, and restores its configuration space. After that it
/// remembers nothing and does no DMA.
///
/// # Errors
///
/// `ENOTTY` when it cannot be reset alone, or what the reset failed with.
pub(crate) fn reset(pdev: &pci::Device<Core<'_>>) -> Result {
    // SAFETY: `pdev` is a valid device, and bus callbacks run with its device lock held.
    to_result(unsafe { bindings::pci_reset_function_locked(as_raw(pdev)) })
}
