// SPDX-License-Identifier: GPL-2.0

//! Ids and extended capabilities of PCI functions.

use kernel::{
    bindings,
    device,
    pci,
    prelude::*, //
};

/// The C device.
pub(crate) fn as_raw<C: device::DeviceContext>(pdev: &pci::Device<C>) -> *mut bindings::pci_dev {
    // `pci::Device` is `repr(transparent)` over `Opaque<bindings::pci_dev>`.
    core::ptr::from_ref(pdev)
        .cast_mut()
        .cast::<bindings::pci_dev>()
}

/// An id of a vendor that `pci::Vendor` does not know.
pub(crate) const fn device_id(vendor: u16, device: u16) -> pci::DeviceId {
    let raw = bindings::pci_device_id {
        vendor: vendor as u32,
        device: device as u32,
        subvendor: !0,
        subdevice: !0,
        class: 0,
        class_mask: 0,
        driver_data: 0,
        override_only: 0,
    };
    // SAFETY: `pci::DeviceId` is `repr(transparent)` over `pci_device_id` and has no invariant.
    unsafe { core::mem::transmute::<bindings::pci_device_id, pci::DeviceId>(raw) }
}

/// Offset of the first extended capability `id` in configuration space.
pub(crate) fn find_ext_capability<C: device::DeviceContext>(
    pdev: &pci::Device<C>,
    id: u16,
) -> Option<u16> {
    // SAFETY: `pdev` is a valid device; the function has no other precondition.
    let offset = unsafe { bindings::pci_find_ext_capability(as_raw(pdev), c_int::from(id)) };
    (offset != 0).then_some(offset)
}

/// Offset of the designated vendor-specific capability `id` of `vendor` in configuration space.
pub(crate) fn find_dvsec<C: device::DeviceContext>(
    pdev: &pci::Device<C>,
    vendor: u16,
    id: u16,
) -> Option<u16> {
    // SAFETY: `pdev` is a valid device; the function has no other precondition.
    let offset = unsafe { bindings::pci_find_dvsec_capability(as_raw(pdev), vendor, id) };
    (offset != 0).then_some(offset)
}

/// Reads a dword of configuration space, as seen by the host.
///
/// # Errors
///
/// `EINVAL` for an unaligned or too large offset, `EIO` when the device does not answer.
pub(crate) fn read_config_dword<C: device::DeviceContext>(
    pdev: &pci::Device<C>,
    offset: u16,
) -> Result<u32> {
    let mut value = 0u32;
    // SAFETY: `pdev` is a valid device and `value` a place for the answer.
    let ret =
        unsafe { bindings::pci_read_config_dword(as_raw(pdev), c_int::from(offset), &mut value) };
    match ret {
        0 if value == u32::MAX => Err(EIO),
        0 => Ok(value),
        // A positive PCIBIOS code: bad register or device gone.
        r if r == bindings::PCIBIOS_BAD_REGISTER_NUMBER as c_int => Err(EINVAL),
        _ => Err(EIO),
    }
}
