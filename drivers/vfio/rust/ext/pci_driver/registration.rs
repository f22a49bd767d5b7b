// SPDX-License-Identifier: GPL-2.0

//! Registration of a `struct pci_driver` with the PCI core. There are two kinds of driver:
//! [`Driver`](super::Driver), which keeps its data in drvdata, and the VFIO driver, whose drvdata
//! belongs to vfio-pci-core.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)

use core::{
    ffi::c_void,
    marker::PhantomData,
    mem::offset_of,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    driver,
    error::to_result,
    pci,
    prelude::*,
    types::Opaque, //
};

/// The C callbacks of a PCI driver.
///
/// # Safety
///
/// * [`Self::OPS`] are functions that the PCI core may call as those of any driver.
/// * Drvdata of a bound device is NULL or what `DriverLayout` promises about `DriverData`; it is
///   NULL when `remove` has returned, unless it is the `Pin<KBox<DriverData>>` of `set_drvdata`.
pub(crate) unsafe trait RawDriver: 'static {
    /// The type that `kernel::driver::Registration` takes out of drvdata and drops after `remove`.
    type DriverData<'bound>;

    /// Returns the table of ids to bind to.
    fn ids() -> *const bindings::pci_device_id;

    /// The callbacks: `probe`, `remove`, `shutdown`, `sriov_configure`, `err_handler`, `driver.pm`
    /// and `driver_managed_dma` are used, all other members are ignored.
    const OPS: bindings::pci_driver;
}

/// Registers `D` with the PCI core, as `kernel::driver::Registration<Registered<D>>`.
pub(crate) struct Registered<D>(PhantomData<D>);

// SAFETY: `pci_driver` is a C struct with its `device_driver` at the offset given; drvdata is as
// `RawDriver` demands.
unsafe impl<D: RawDriver> driver::DriverLayout for Registered<D> {
    type DriverType = bindings::pci_driver;
    type DriverData<'bound> = D::DriverData<'bound>;
    const DEVICE_DRIVER_OFFSET: usize = offset_of!(Self::DriverType, driver);
}

// SAFETY: `unregister` undoes `register`.
unsafe impl<D: RawDriver> driver::RegistrationOps for Registered<D> {
    unsafe fn register(
        reg: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        let driver = reg.get();
        let ops = D::OPS;
        // SAFETY: The driver is not registered yet, so this is the only access to it.
        unsafe {
            (*driver).name = name.as_char_ptr();
            (*driver).id_table = D::ids();
            (*driver).probe = ops.probe;
            (*driver).remove = ops.remove;
            (*driver).shutdown = ops.shutdown;
            (*driver).sriov_configure = ops.sriov_configure;
            (*driver).err_handler = ops.err_handler;
            (*driver).driver.pm = ops.driver.pm;
            (*driver).driver_managed_dma = ops.driver_managed_dma;
        }
        // SAFETY: The driver is complete, and lives until it is unregistered.
        to_result(unsafe {
            bindings::__pci_register_driver(driver, module.as_ptr(), name.as_char_ptr())
        })
    }

    unsafe fn unregister(reg: &Opaque<Self::DriverType>) {
        // SAFETY: The driver is registered, by the requirements of this function.
        unsafe { bindings::pci_unregister_driver(reg.get()) }
    }
}

/// Returns drvdata of a PCI function. Returns `None` while it is NULL: before `probe` has stored
/// it, and after it was taken at unbind. Callbacks may come in both cases, such as `reset_prepare`
/// for an FLR in `probe`.
///
/// # Safety
///
/// `pdev` is a valid device, and its device lock is held.
pub(crate) unsafe fn drvdata(pdev: *mut bindings::pci_dev) -> Option<NonNull<c_void>> {
    // SAFETY: `pdev` is valid by the requirements of this function.
    NonNull::new(unsafe { bindings::dev_get_drvdata(&raw const (*pdev).dev) })
}
