// SPDX-License-Identifier: GPL-2.0

//! The PCI driver that an [`Adapter`] registers (contract P1 to P3, P9 to P11, P13).
//!
//! `kernel::pci::Adapter` cannot be used: it puts its own data into drvdata, where vfio-pci-core must find
//! its device.

use super::{
    device::Device,
    ops::DeviceOps,
    pci::{
        Adapter,
        ChannelState,
        Operations, //
    },
};
use crate::bindings;
use core::{
    alloc::Layout,
    mem::offset_of,
    ptr, //
};
use kernel::{
    bindings as kbindings,
    driver,
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    prelude::*,
    types::Opaque, //
};

// SAFETY: `DriverType` is a C driver with its `device_driver` at the offset given. `probe` leaves drvdata NULL
// when it fails and `remove` when it returns, so `post_unbind` never takes anything for a `DriverData`.
unsafe impl<T: Operations> driver::DriverLayout for Adapter<T> {
    type DriverType = kbindings::pci_driver;
    type DriverData<'bound> = ();
    const DEVICE_DRIVER_OFFSET: usize = offset_of!(Self::DriverType, driver);
}

// SAFETY: `unregister` undoes `register`.
unsafe impl<T: Operations> driver::RegistrationOps for Adapter<T> {
    unsafe fn register(
        reg: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        let driver = reg.get();
        let err_handlers: &'static kbindings::pci_error_handlers = const { &Self::ERR_HANDLERS };
        // SAFETY: The driver is not registered yet, so this is the only access to it.
        unsafe {
            (*driver).name = name.as_char_ptr();
            (*driver).id_table = T::ID_TABLE.as_ptr();
            (*driver).probe = Some(Self::probe);
            (*driver).remove = Some(Self::remove);
            (*driver).err_handler = err_handlers;
            // Else the PCI core takes the DMA ownership that VFIO users need (contract P2).
            (*driver).driver_managed_dma = true;
        }
        // SAFETY: The driver is complete, and lives until it is unregistered.
        to_result(unsafe {
            kbindings::__pci_register_driver(driver, module.as_ptr(), name.as_char_ptr())
        })
    }

    unsafe fn unregister(reg: &Opaque<Self::DriverType>) {
        // SAFETY: Registered by `register`.
        unsafe { kbindings::pci_unregister_driver(reg.get()) }
    }
}

impl<T: Operations> Adapter<T> {
    const ERR_HANDLERS: kbindings::pci_error_handlers = kbindings::pci_error_handlers {
        error_detected: Some(Self::error_detected),
        reset_prepare: Some(Self::reset_prepare),
        reset_done: Some(Self::reset_done),
        ..pin_init::zeroed()
    };

    /// The device of a PCI function that this driver is bound to. `None` between probe and remove of the
    /// device only.
    ///
    /// # Safety
    ///
    /// `pdev` is bound to this driver, and stays so for `'a`.
    unsafe fn device<'a>(pdev: *mut kbindings::pci_dev) -> Option<&'a Device<T>> {
        // SAFETY: `pdev` is valid.
        let drvdata = unsafe { kbindings::dev_get_drvdata(&raw const (*pdev).dev) };
        if drvdata.is_null() {
            return None;
        }
        // SAFETY: `probe` stored the device, whose reference it keeps until `remove`.
        Some(unsafe { Device::from_raw(drvdata.cast()) })
    }

    extern "C" fn probe(
        pdev: *mut kbindings::pci_dev,
        _id: *const kbindings::pci_device_id,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The PCI core passes a valid device.
            let dev = unsafe { &raw mut (*pdev).dev };
            let ops: &'static bindings::vfio_device_ops = const { &DeviceOps::<T>::OPS };
            let size = Layout::new::<Device<T>>().pad_to_align().size();
            // SAFETY: `Device<T>` has the `vfio_device` at offset 0, and `ops` are those of `T`.
            let vdev = from_err_ptr(unsafe { bindings::_vfio_alloc_device(size, dev, ops) })?;
            // Before registering: from there on anybody may look (contract P9, P11).
            //
            // SAFETY: `dev` is valid, and this driver is the one that owns its drvdata.
            unsafe { kbindings::dev_set_drvdata(dev, vdev.cast()) };
            // SAFETY: `vdev` is initialised, and starts with its core device.
            let ret = unsafe { bindings::vfio_pci_core_register_device(vdev.cast()) };
            to_result(ret).inspect_err(|_| {
                // SAFETY: As above; we own the one reference to `vdev`.
                unsafe {
                    kbindings::dev_set_drvdata(dev, ptr::null_mut());
                    bindings::vfio_put_device(vdev);
                }
            })?;
            Ok(0)
        })
    }

    extern "C" fn remove(pdev: *mut kbindings::pci_dev) {
        // SAFETY: The PCI core calls this for a device that `probe` bound.
        let Some(device) = (unsafe { Self::device(pdev) }) else {
            return;
        };
        // SAFETY: `probe` registered it. Waits for the users (contract K9).
        unsafe { bindings::vfio_pci_core_unregister_device(device.core()) };
        // SAFETY: Remove runs, so the function is still bound.
        let bound = unsafe { device.pdev() };
        // SAFETY: `device` is valid, and nobody changes these any more.
        let core = unsafe { &*device.core() };
        let reset = core.needs_reset && core.reset_works();
        // The last close resets the function, but only tries its lock, which this unbind has held while it
        // waited for that close. The next driver must not find a function that a user has stopped.
        //
        // SAFETY: `pdev` is valid, and remove runs with its device lock held.
        if reset && unsafe { kbindings::pci_reset_function_locked(pdev) } != 0 {
            dev_warn!(bound, "cannot be reset\n");
        }
        T::unbind(device.data(), bound);
        // SAFETY: `pdev` is valid. The reference is the one that `probe` kept, and `device` is not used any
        // more.
        unsafe {
            kbindings::dev_set_drvdata(&raw mut (*pdev).dev, ptr::null_mut());
            bindings::vfio_put_device(device.core().cast());
        }
    }

    /// `pci_error_handlers.error_detected`.
    ///
    /// # Safety
    ///
    /// The PCI core calls it with the device lock held, for a device bound to this driver.
    unsafe extern "C" fn error_detected(
        pdev: *mut kbindings::pci_dev,
        state: kbindings::pci_channel_state_t,
    ) -> kbindings::pci_ers_result_t {
        // SAFETY: The PCI core calls this with the device lock held, for a device bound to this driver.
        if let Some(device) = unsafe { Self::device(pdev) } {
            device.data.error_detected(match state {
                kbindings::pci_channel_io_normal => ChannelState::Normal,
                kbindings::pci_channel_io_frozen => ChannelState::Frozen,
                _ => ChannelState::PermanentFailure,
            });
        }
        // SAFETY: As above; drvdata is the core device.
        unsafe { bindings::vfio_pci_core_aer_err_detected(pdev, state) }
    }

    /// `pci_error_handlers.reset_prepare`.
    ///
    /// # Safety
    ///
    /// The PCI core calls it with the device lock held, for a device bound to this driver.
    unsafe extern "C" fn reset_prepare(pdev: *mut kbindings::pci_dev) {
        // SAFETY: The PCI core calls this with the device lock held, for a device bound to this driver.
        if let Some(device) = unsafe { Self::device(pdev) } {
            device.data.reset_prepare();
        }
    }

    /// `pci_error_handlers.reset_done`.
    ///
    /// # Safety
    ///
    /// The PCI core calls it with the device lock held, for a device bound to this driver.
    unsafe extern "C" fn reset_done(pdev: *mut kbindings::pci_dev) {
        // SAFETY: The PCI core calls this with the device lock held, for a device bound to this driver.
        if let Some(device) = unsafe { Self::device(pdev) } {
            device.data.reset_done();
            if let Some(ops) = DeviceOps::migration(device) {
                (ops.vtable.reset_done)(&device.data);
            }
        }
    }
}
