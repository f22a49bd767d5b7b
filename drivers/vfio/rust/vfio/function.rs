// SPDX-License-Identifier: GPL-2.0

//! The PCI function of a VFIO device, as far as its driver may use it.
//!
//! VFIO gives the function to a user: its DMA goes through the user's IOMMU domain, the user owns
//! its interrupt vectors, and vfio-pci-core has requested and mapped its BARs. With a
//! `pci::Device<Bound>` safe code could map DMA memory for the function, allocate its vectors and
//! request its BARs. So the callbacks get a [`PciFunction`] instead.

use crate::{
    bindings,
    ext::{
        self,
        pm::Awake, //
    },
};
use core::ops::Deref;
use kernel::{
    device::Bound,
    pci,
    prelude::*, //
};

/// The PCI function of a VFIO device, during one callback.
///
/// Dereferences to a `pci::Device` without `Bound`, for messages and lookups.
#[derive(Clone, Copy)]
pub(crate) struct PciFunction<'a>(&'a pci::Device<Bound>);

/// The number and the PF of a VF.
#[derive(Clone, Copy)]
pub(crate) struct VirtualFunction<'a> {
    /// The number of the VF, from 0 (`pci_iov_vf_id()`).
    pub(crate) number: u32,
    /// The PF of the VF.
    pub(crate) physical: &'a pci::Device,
}

impl<'a> PciFunction<'a> {
    /// Wraps a function that is bound to a VFIO driver.
    pub(super) fn new(pdev: &'a pci::Device<Bound>) -> Self {
        Self(pdev)
    }

    /// Wraps a function that exists for a test.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn of_test(function: &'a ext::testing::FakeFunction) -> Self {
        Self(function.bound())
    }

    /// Returns the name of the function (domain:bus:device.function).
    pub(crate) fn name(&self) -> &'a CStr {
        self.0.as_ref().name()
    }

    /// Resumes the function and keeps it in D0 while the result exists. Sleeps. The caller must not
    /// hold `memory_lock`.
    ///
    /// # Errors
    ///
    /// Those of `pm_runtime_resume_and_get()`.
    pub(crate) fn awake(&self) -> Result<Awake<'a>> {
        Awake::new(self.0.as_ref())
    }

    /// Reads a dword of the physical configuration space, not of the one that vfio-pci-core
    /// virtualises for the user. Resumes the function during the access, because in D3cold it would
    /// read as all ones. Sleeps; the caller must not hold `memory_lock`.
    ///
    /// # Errors
    ///
    /// Those of [`Self::awake`]; `EINVAL` for an unaligned or too large offset, `EIO` when the PCI
    /// core knows that the device is gone. A device that does not answer reads as all ones, which
    /// may also be a value.
    pub(crate) fn config_read32(&self, offset: u16) -> Result<u32> {
        let _awake = self.awake()?;
        ext::pci::read_config_dword(self.0, offset)
    }

    /// Returns the PF and the number of a VF, or `None` for a function that is not a VF.
    pub(crate) fn virtual_function(&self) -> Option<VirtualFunction<'a>> {
        let physical = ext::pci::physfn(self.0)?;
        // SAFETY: The device is valid.
        let number = unsafe { bindings::pci_iov_vf_id(ext::pci::as_raw(self.0)) };
        Some(VirtualFunction {
            number: u32::try_from(number).ok()?,
            physical,
        })
    }
}

impl Deref for PciFunction<'_> {
    type Target = pci::Device;

    fn deref(&self) -> &pci::Device {
        self.0
    }
}

/// Fails the build if a [`PciFunction`] converts to a device for which DMA memory could be mapped.
const _: () = {
    use kernel::device::Device;
    crate::ext::assert_not_impl!(PciFunction<'static>: AsRef<Device<Bound>>);
    crate::ext::assert_not_impl!(PciFunction<'static>: AsRef<pci::Device<Bound>>);
    crate::ext::assert_not_impl!(PciFunction<'static>: Deref<Target = pci::Device<Bound>>);
};

#[kunit_tests(vfio_function)]
mod tests {
    use super::*;
    use crate::ext::testing::FakeFunction;

    /// All ones is a value, because a register may hold it. Each access has a runtime PM reference.
    #[test]
    fn s8_configuration_space_may_read_as_all_ones() -> Result {
        let mut function = FakeFunction::new()?;
        function.set_config(0x40, &[0x1234_5678, u32::MAX])?;
        let pdev = PciFunction::of_test(&function);
        assert_eq!(pdev.config_read32(0x40), Ok(0x1234_5678));
        assert_eq!(pdev.config_read32(0x44), Ok(u32::MAX));
        assert_eq!(pdev.config_read32(0x42), Err(EINVAL));
        assert_eq!(pdev.config_read32(0x1000), Err(EINVAL));
        assert_eq!(function.unguarded_reads(), 0);
        Ok(())
    }

    /// Once the PCI core knows that the function is gone, reads fail and do not reach the bus.
    #[test]
    fn configuration_space_of_a_lost_function_cannot_be_read() -> Result {
        let mut function = FakeFunction::new()?;
        function.disconnect();
        assert_eq!(
            PciFunction::of_test(&function).config_read32(0x40),
            Err(EIO)
        );
        Ok(())
    }
}
