// SPDX-License-Identifier: GPL-2.0

//! PCI ids for drivers that bind only by `driver_override`: the PCI core matches such an id only if
//! the device's `driver_override` names the driver (contract P1).
//!
//! C header: [`include/linux/mod_devicetable.h`](srctree/include/linux/mod_devicetable.h),
//! `PCI_ID_F_VFIO_DRIVER_OVERRIDE`

use core::mem::offset_of;
use kernel::{
    bindings,
    device_id::{
        self,
        IdArray,
        RawDeviceId,
        RawDeviceIdIndex, //
    },
};

/// An id that the PCI core matches only for a device whose `driver_override` names the driver.
///
/// `modinfo` shows it as an alias `vfio_pci:`, by which management software finds the variant
/// driver of a device. Any vendor number may be used, unlike with `kernel::pci::DeviceId`.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct DeviceId(bindings::pci_device_id);

impl DeviceId {
    /// Matches any subsystem of `vendor:device`.
    pub(crate) const fn new(vendor: u32, device: u32) -> Self {
        let any = bindings::PCI_ANY_ID as u32;
        Self::with_subsystem(vendor, device, any, any)
    }

    /// Matches one subsystem of `vendor:device`. Management software prefers the alias with the
    /// fewest wildcards, so such an id wins over one that matches any subsystem.
    pub(crate) const fn with_subsystem(
        vendor: u32,
        device: u32,
        subvendor: u32,
        subdevice: u32,
    ) -> Self {
        Self(bindings::pci_device_id {
            vendor,
            device,
            subvendor,
            subdevice,
            class: 0,
            class_mask: 0,
            driver_data: 0,
            override_only: bindings::PCI_ID_F_VFIO_DRIVER_OVERRIDE,
        })
    }
}

// SAFETY: `DeviceId` is `repr(transparent)` over the C type and has no invariants.
unsafe impl RawDeviceId for DeviceId {
    type RawType = bindings::pci_device_id;
}

// SAFETY: This is where `pci_device_id` keeps its driver data.
unsafe impl RawDeviceIdIndex for DeviceId {
    const DRIVER_DATA_OFFSET: usize = offset_of!(bindings::pci_device_id, driver_data);
}

/// A table made by `kernel::module_device_table!("pci", vfio::DeviceId, NAME, (), [(id, ())])`.
///
/// The kernel crate's trait of tables is safe, and any type can implement it with any pointer,
/// although the PCI core relies on the terminator of the table. Only the kernel crate makes the
/// array that this has.
#[derive(Clone, Copy)]
pub(crate) struct IdTable(&'static dyn device_id::IdTable<DeviceId, ()>);

impl IdTable {
    /// Takes a table, which ends with the terminator.
    pub(crate) const fn new<const N: usize>(table: &'static IdArray<DeviceId, (), N>) -> Self {
        Self(table)
    }

    /// Returns the first id.
    pub(super) fn as_ptr(&self) -> *const bindings::pci_device_id {
        self.0.as_ptr()
    }
}

/// The table of drivers in tests, which no device matches.
#[cfg(CONFIG_KUNIT = "y")]
pub(super) const NO_DEVICES: IdTable = {
    static TABLE: IdArray<DeviceId, (), 1> = IdArray::new([(DeviceId::new(0, 0), &())]);
    IdTable::new(&TABLE)
};
