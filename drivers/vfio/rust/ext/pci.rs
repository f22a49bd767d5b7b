// SPDX-License-Identifier: GPL-2.0

//! Ids, capabilities and configuration space of PCI functions, and enabling of their memory space.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)

use crate::bindings as bindings_of_layer;
use kernel::{
    bindings,
    device,
    devres,
    error::to_result,
    pci,
    prelude::*,
    sync::aref::ARef, //
};

/// A reference to the enable count of a function, put when dropped.
struct Enabled(ARef<pci::Device>);

impl Drop for Enabled {
    fn drop(&mut self) {
        // SAFETY: The device is valid, because we hold a reference. This gives back the count that
        // `pci_enable_device_mem()` took in `enable_mem`.
        unsafe { bindings::pci_disable_device(as_raw(&self.0)) };
    }
}

/// Enables the function's memory space until the driver is unbound. Call it first in probe: devres
/// disables the function after it has released what is registered later, such as the mapping of a
/// BAR.
///
/// # Errors
///
/// Those of `pci_enable_device_mem()`; `ENOMEM`.
pub(crate) fn enable_mem(pdev: &pci::Device<device::Core<'_>>) -> Result {
    pdev.enable_device_mem()?;
    let normal: &pci::Device = pdev;
    // If `register` fails, it drops `Enabled`, which disables the function.
    let enabled = Enabled(normal.into());
    devres::register::<Enabled, Error>(pdev.as_ref(), Ok(enabled), GFP_KERNEL)
}

/// Saves configuration space for [`restore_state`].
///
/// # Errors
///
/// `ENOMEM` for a capability that the PCI core has no room for.
pub(crate) fn save_state(pdev: &pci::Device<device::Core<'_>>) -> Result {
    // SAFETY: `pdev` is a valid device with its device lock held.
    to_result(unsafe { bindings::pci_save_state(as_raw(pdev)) })
}

/// Restores configuration space as last saved by [`save_state`] or the PCI core, and the MSI-X
/// table.
pub(crate) fn restore_state(pdev: &pci::Device<device::Core<'_>>) {
    // SAFETY: `pdev` is a valid device with its device lock held.
    unsafe { bindings::pci_restore_state(as_raw(pdev)) };
}

/// Returns the C device.
pub(crate) fn as_raw<C: device::DeviceContext>(pdev: &pci::Device<C>) -> *mut bindings::pci_dev {
    // `pci::Device` is `repr(transparent)` over `Opaque<bindings::pci_dev>`.
    core::ptr::from_ref(pdev)
        .cast_mut()
        .cast::<bindings::pci_dev>()
}

/// Makes the id of a device whose vendor `pci::Vendor` does not list.
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

/// Returns the offset of the first extended capability `id` in configuration space.
pub(crate) fn find_ext_capability<C: device::DeviceContext>(
    pdev: &pci::Device<C>,
    id: u16,
) -> Option<u16> {
    // SAFETY: `pdev` is a valid device; the function has no other precondition.
    let offset = unsafe { bindings::pci_find_ext_capability(as_raw(pdev), c_int::from(id)) };
    (offset != 0).then_some(offset)
}

/// Returns the offset of the designated vendor-specific extended capability `id` of `vendor` (PCIe
/// 6.0, section 7.9.6).
pub(crate) fn find_dvsec<C: device::DeviceContext>(
    pdev: &pci::Device<C>,
    vendor: u16,
    id: u16,
) -> Option<u16> {
    // SAFETY: `pdev` is a valid device; the function has no other precondition.
    let offset = unsafe { bindings::pci_find_dvsec_capability(as_raw(pdev), vendor, id) };
    (offset != 0).then_some(offset)
}

/// Returns the PF of a VF, or `None` for a function that is not a VF.
pub(crate) fn physfn(pdev: &pci::Device<device::Bound>) -> Option<&pci::Device> {
    // SAFETY: `pdev` is a valid device. The PCI core holds a reference to the PF for as long as the
    // VF exists (`pci_iov_add_virtfn()`), and so for the lifetime of `pdev`; `pci::Device` is
    // transparent.
    unsafe {
        bindings_of_layer::pci_vf_physfn(as_raw(pdev))
            .cast::<pci::Device>()
            .as_ref()
    }
}

/// Resets a function in a callback that has its device lock, and restores its configuration space.
///
/// This takes the locks of `pci_reset_function()`, as vfio-pci-core does at a close: those of the
/// configuration space of the function and of the bridge above it, whose configuration some methods
/// of reset change. A thread that resets a function below that bridge takes the lock of the bridge
/// first and may wait for the device lock that the caller holds, so the lock of the bridge is only
/// tried. If it is not free, the function is reset nevertheless, because its next driver must not
/// find it as the last user left it. That is no worse than VFIO_DEVICE_RESET, for which
/// `pci_try_reset_function()` does not lock the bridge at all, and an FLR does not need that lock.
///
/// # Errors
///
/// `ENOTTY` when it cannot be reset alone, or the error with which the reset failed.
///
/// # Safety
///
/// `pdev` is a valid device, and the caller holds its device lock.
pub(crate) unsafe fn reset_locked(pdev: *mut bindings::pci_dev) -> Result {
    // SAFETY: `pdev` is valid, and holds a reference to the bridge above it.
    let bridge = unsafe { bindings_of_layer::pci_upstream_bridge(pdev) };
    // SAFETY: The bridge is valid, see above.
    let is_locked = !bridge.is_null() && unsafe { bindings::pci_dev_trylock(bridge) } != 0;
    // SAFETY: `pdev` is valid with its device lock held, and the lock of its configuration space is
    // given back below.
    let result = unsafe {
        bindings::pci_cfg_access_lock(pdev);
        let result = to_result(bindings::pci_reset_function_locked(pdev));
        bindings::pci_cfg_access_unlock(pdev);
        result
    };
    if is_locked {
        // SAFETY: `pci_dev_trylock()` has taken the locks that this gives back.
        unsafe { bindings::pci_dev_unlock(bridge) };
    }
    result
}

/// Returns whether `a` and `b` are the same function.
pub(crate) fn is_same<A: device::DeviceContext, B: device::DeviceContext>(
    a: &pci::Device<A>,
    b: &pci::Device<B>,
) -> bool {
    core::ptr::eq(as_raw(a), as_raw(b))
}

/// Reads a dword of configuration space that may legally be all ones. All ones is also what a
/// function reads as that does not answer; the caller cannot tell the two apart. Returns `None`
/// when the access itself fails.
pub(crate) fn read_config_any<C: device::DeviceContext>(
    pdev: &pci::Device<C>,
    offset: u16,
) -> Option<u32> {
    let mut value = 0u32;
    // SAFETY: `pdev` is a valid device and `value` a place for the answer.
    let ret =
        unsafe { bindings::pci_read_config_dword(as_raw(pdev), c_int::from(offset), &mut value) };
    (ret == 0).then_some(value)
}

/// Reads a dword of configuration space, as seen by the host.
///
/// # Errors
///
/// `EINVAL` for an unaligned or too large offset, `EIO` when the PCI core knows that the device is
/// gone. A device that does not answer reads as all ones; the caller must know whether that is also
/// a value.
pub(crate) fn read_config_dword<C: device::DeviceContext>(
    pdev: &pci::Device<C>,
    offset: u16,
) -> Result<u32> {
    let mut value = 0u32;
    // SAFETY: `pdev` is a valid device and `value` a place for the answer.
    let ret =
        unsafe { bindings::pci_read_config_dword(as_raw(pdev), c_int::from(offset), &mut value) };
    match ret {
        0 => Ok(value),
        // Errors are positive PCIBIOS codes.
        r if r == bindings::PCIBIOS_BAD_REGISTER_NUMBER as c_int => Err(EINVAL),
        _ => Err(EIO),
    }
}
