// SPDX-License-Identifier: GPL-2.0

//! Ioctls, mappings and descriptions of regions, as passed to the hooks of
//! [`Operations`](super::pci::Operations).

use super::region::{
    VFIO_PCI_OFFSET_MASK,
    VFIO_PCI_OFFSET_SHIFT, //
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    error::to_result,
    prelude::*,
    uaccess::UserPtr, //
};

/// An ioctl of a user that the VFIO core passes to the driver: any but `VFIO_DEVICE_FEATURE` and
/// `VFIO_DEVICE_GET_REGION_INFO`.
pub(crate) struct Ioctl<'a> {
    /// The device. VFIO calls this hook in several threads at once, so this is not a reference.
    vdev: *mut bindings::vfio_device,
    command: c_uint,
    argument: c_ulong,
    /// Whether the device has a trapped BAR.
    trapped: bool,
    _call: PhantomData<&'a ()>,
}

/// `VFIO_DEVICE_IOEVENTFD`: `_IO(VFIO_TYPE, VFIO_BASE + 16)`.
const IOEVENTFD: c_uint = kernel::ioctl::_IO(b';' as u32, 100 + 16);

impl<'a> Ioctl<'a> {
    /// # Safety
    ///
    /// VFIO passed the arguments to an ioctl that returns after `'a`.
    pub(super) unsafe fn new(
        vdev: *mut bindings::vfio_device,
        command: c_uint,
        argument: c_ulong,
        trapped: bool,
    ) -> Self {
        Self {
            vdev,
            command,
            argument,
            trapped,
            _call: PhantomData,
        }
    }

    /// Returns the command.
    pub(crate) fn command(&self) -> u32 {
        self.command
    }

    /// Returns the argument as a user pointer. Some commands have none.
    pub(crate) fn argument(&self) -> UserPtr {
        UserPtr::from_addr(self.argument)
    }

    /// Passes the ioctl to vfio-pci-core, except `VFIO_DEVICE_IOEVENTFD` for a device with a
    /// trapped BAR: an ioeventfd would make the core write to a BAR without
    /// [`Operations::write`](super::pci::Operations::write).
    ///
    /// # Errors
    ///
    /// Those of the core; `ENOTTY` for `VFIO_DEVICE_IOEVENTFD` with a trapped BAR.
    pub(crate) fn forward(self) -> Result<c_long> {
        if is_refused(self.command, self.trapped) {
            return Err(ENOTTY);
        }
        // SAFETY: The arguments are those that VFIO passed, and by the requirements of `new` its
        // call still runs.
        let result =
            unsafe { bindings::vfio_pci_core_ioctl(self.vdev, self.command, self.argument) };
        if result < 0 {
            // CAST: An errno fits.
            return Err(Error::from_errno(result as c_int));
        }
        Ok(result)
    }
}

/// Returns whether `command` is one that a device with a trapped BAR does not offer.
fn is_refused(command: c_uint, trapped: bool) -> bool {
    trapped && command == IOEVENTFD
}

/// A mapping of a region by a user. The layer refuses trapped BARs with `EINVAL` before it calls
/// the hook.
pub(crate) struct Mmap<'a> {
    pub(super) vdev: *mut bindings::vfio_device,
    pub(super) area: &'a mut kernel::bindings::vm_area_struct,
}

impl Mmap<'_> {
    fn place(&self) -> u64 {
        (self.area.vm_pgoff as u64) << kernel::page::PAGE_SHIFT
    }

    /// Returns the index of the region.
    pub(crate) fn region(&self) -> u32 {
        // CAST: 24 bits are left.
        (self.place() >> VFIO_PCI_OFFSET_SHIFT) as u32
    }

    /// Returns the offset in the region.
    pub(crate) fn offset(&self) -> u64 {
        self.place() & VFIO_PCI_OFFSET_MASK as u64
    }

    /// Passes the mapping to vfio-pci-core.
    ///
    /// # Errors
    ///
    /// Those of the core.
    pub(crate) fn forward(self) -> Result {
        // SAFETY: The arguments are those that VFIO passed.
        to_result(unsafe { bindings::vfio_pci_core_mmap(self.vdev, self.area) })
    }
}

/// A request of a user for the description of a region (`VFIO_DEVICE_GET_REGION_INFO`).
pub(crate) struct RegionInfo<'a> {
    pub(super) vdev: *mut bindings::vfio_device,
    pub(super) info: &'a mut bindings::vfio_region_info,
    pub(super) caps: *mut bindings::vfio_info_cap,
}

/// The description of a region.
pub(crate) struct Described<'a>(&'a mut bindings::vfio_region_info);

impl<'a> RegionInfo<'a> {
    /// Returns the index of the region.
    pub(crate) fn region(&self) -> u32 {
        self.info.index
    }

    /// Lets vfio-pci-core describe the region.
    ///
    /// # Errors
    ///
    /// Those of the core.
    pub(crate) fn forward(self) -> Result<Described<'a>> {
        // SAFETY: The arguments are those that VFIO passed.
        to_result(unsafe {
            bindings::vfio_pci_ioctl_get_region_info(self.vdev, self.info, self.caps)
        })?;
        Ok(Described(self.info))
    }
}

impl Described<'_> {
    /// Returns the size in bytes that the user is told.
    pub(crate) fn size(&self) -> u64 {
        self.0.size
    }

    /// Sets the size in bytes that the user is told. The hooks for reads, writes and mappings must
    /// refuse accesses beyond it.
    pub(crate) fn set_size(&mut self, size: u64) {
        self.0.size = size;
    }
}

// With a second one a hook could have the core carry out a call twice.
crate::ext::assert_not_impl!(Ioctl<'static>: Clone);
crate::ext::assert_not_impl!(Mmap<'static>: Clone);
crate::ext::assert_not_impl!(RegionInfo<'static>: Clone);

#[kunit_tests(vfio_call)]
mod tests {
    use super::*;

    /// An ioeventfd would make the core write to a BAR without the hook for writes.
    #[test]
    fn a_trapped_bar_takes_ioeventfds_away() {
        assert_eq!(IOEVENTFD, 0x3b74);
        assert!(is_refused(IOEVENTFD, true));
        assert!(!is_refused(IOEVENTFD, false));
        assert!(!is_refused(IOEVENTFD - 1, true));
    }
}
