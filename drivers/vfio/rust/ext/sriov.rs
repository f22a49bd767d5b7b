// SPDX-License-Identifier: GPL-2.0

//! Virtual functions of a PF.
//!
//! C source: `drivers/pci/iov.c`. These functions are for bus callbacks of the PF: they run with
//! the PF's device lock held, which the PCI core holds when it changes the number of VFs. Without
//! `CONFIG_PCI_IOV`, and for a function that is not a PF, there are no VFs.

use super::pci::as_raw;
use crate::bindings;
use kernel::{
    bindings as kbindings,
    device::Core,
    error::to_result,
    pci,
    prelude::*, //
};

/// Returns the number of enabled VFs.
pub(crate) fn count(pf: &pci::Device<Core<'_>>) -> u16 {
    // SAFETY: `pf` is a valid device.
    let count = unsafe { bindings::pci_num_vf(as_raw(pf)) };
    // The capability's NumVFs has 16 bits (PCIe 6.0, section 9.3.3.7).
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// Enables `count` VFs. Their drivers are probed before this returns.
///
/// # Errors
///
/// `ENODEV` without `CONFIG_PCI_IOV`, `ENOSYS` when `pf` is not a PF, `EBUSY` when it already has
/// VFs, or the error of the PCI core when it lacks bus numbers or room in BARs.
pub(crate) fn enable(pf: &pci::Device<Core<'_>>, count: u16) -> Result {
    // SAFETY: `pf` is a valid device with its device lock held.
    to_result(unsafe { bindings::pci_enable_sriov(as_raw(pf), c_int::from(count)) })
}

/// Removes all VFs. Their drivers are unbound first; vfio-pci waits until its users have closed
/// them.
pub(crate) fn disable(pf: &pci::Device<Core<'_>>) {
    // SAFETY: `pf` is a valid device with its device lock held.
    unsafe { bindings::pci_disable_sriov(as_raw(pf)) };
}

/// Returns whether a driver is bound to one of the VFs. The answer may change as soon as this
/// returns.
pub(crate) fn any_bound(pf: &pci::Device<Core<'_>>) -> bool {
    let pf = as_raw(pf);
    // All VFs have the vendor id of their PF (PCIe 6.0, section 9.3.4.1.1), here in its C form; the
    // device id can be any.
    //
    // SAFETY: `pf` is valid, and its ids do not change.
    let vendor = unsafe { (*pf).vendor };
    let mut bound = false;
    let mut current: *mut kbindings::pci_dev = core::ptr::null_mut();
    loop {
        // SAFETY: `current` is NULL or a device whose reference we own and give away here. The
        // value returned is NULL or a device whose reference we own.
        current = unsafe { kbindings::pci_get_device(c_uint::from(vendor), !0, current) };
        if current.is_null() {
            return bound;
        }
        // SAFETY: We own a reference to `current`, so it is valid; a VF's PF does not change.
        if unsafe { bindings::pci_vf_physfn(current) } != pf {
            continue;
        }
        // SAFETY: We own a reference to `current`. The driver core may write this field at the same
        // time, hence the volatile read; the value is compared and not dereferenced.
        let driver = unsafe { (&raw const (*current).dev.driver).read_volatile() };
        // Go on to the end of the list, which puts the last reference.
        bound |= !driver.is_null();
    }
}
