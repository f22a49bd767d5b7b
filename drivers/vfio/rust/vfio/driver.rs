// SPDX-License-Identifier: GPL-2.0

//! The PCI driver of an [`Operations`]: probe, remove, and the error handlers of the PCI core.
//! Probe sets drvdata before it registers the device (contract P9).
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h), `struct pci_driver`
//!
//! [`pci_driver::Driver`](crate::ext::pci_driver::Driver) cannot be used: it stores its own data
//! in drvdata, where vfio-pci-core expects its device.

use super::{
    ops::DeviceOps,
    pci::{Device, Operations},
};
use crate::{
    bindings,
    ext::{
        self,
        pci_driver::{
            drvdata,
            ChannelState,
            RawDriver, //
        }, //
    },
};
use core::{
    alloc::Layout,
    marker::PhantomData,
    ptr, //
};
use kernel::{
    bindings as kbindings,
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    prelude::*, //
};

/// The [`RawDriver`] of `T`.
pub(crate) struct Driver<T>(PhantomData<T>);

// SAFETY: The callbacks below are those of a PCI driver. Drvdata is NULL when `probe` has failed
// and when `remove` has returned, so that the PCI core never takes a `DriverData` out of it.
unsafe impl<T: Operations> RawDriver for Driver<T> {
    type DriverData<'bound> = ();

    fn ids() -> *const kbindings::pci_device_id {
        T::ID_TABLE.as_ptr()
    }

    const OPS: kbindings::pci_driver = kbindings::pci_driver {
        probe: Some(Self::probe),
        remove: Some(Self::remove),
        err_handler: const { &Self::ERR_HANDLERS },
        // Otherwise the driver core claims the DMA ownership of the group for the kernel, and VFIO
        // users could not get it (contract P2).
        driver_managed_dma: true,
        ..pin_init::zeroed()
    };
}

impl<T: Operations> Driver<T> {
    const ERR_HANDLERS: kbindings::pci_error_handlers = kbindings::pci_error_handlers {
        error_detected: Some(Self::error_detected),
        slot_reset: Some(Self::slot_reset),
        resume: Some(Self::resume),
        reset_prepare: Some(Self::reset_prepare),
        reset_done: Some(Self::reset_done),
        ..pin_init::zeroed()
    };

    /// Returns the device of a PCI function that is bound to this driver. Returns `None` before
    /// `probe` has stored it and after `remove` has cleared it.
    ///
    /// # Safety
    ///
    /// `pdev` is bound to this driver and stays so for `'a`, with its device lock held.
    unsafe fn device<'a>(pdev: *mut kbindings::pci_dev) -> Option<&'a Device<T>> {
        // SAFETY: By the requirements of this function.
        let drvdata = unsafe { drvdata(pdev)? };
        // SAFETY: `probe` stored the device, whose reference it keeps until `remove`.
        Some(unsafe { Device::from_raw(drvdata.as_ptr().cast()) })
    }

    /// Ends the session and the log of a device that has lost its state. Does not sleep.
    fn lose(device: &Device<T>) {
        if let Some(ops) = DeviceOps::migration(device) {
            (ops.lost)(&device.data);
        }
        if let Some(ops) = DeviceOps::dma_logging(device) {
            (ops.lost)(&device.data);
        }
    }

    /// `pci_driver.probe`.
    ///
    /// # Safety
    ///
    /// The PCI core calls it with the device lock held, for a device that has no driver data.
    unsafe extern "C" fn probe(
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
            // Set drvdata before registering: from then on `vfio_pci_core_aer_err_detected()` and
            // runtime PM use it (contract P9, P11).
            //
            // SAFETY: `dev` is valid, and drvdata belongs to this driver during probe.
            unsafe { kbindings::dev_set_drvdata(dev, vdev.cast()) };
            // SAFETY: `vdev` is initialised, and starts with its core device.
            let ret = unsafe { bindings::vfio_pci_core_register_device(vdev.cast()) };
            to_result(ret).inspect_err(|_| {
                // SAFETY: `vdev` is initialised and not registered, and the reference is ours.
                unsafe { Self::let_go(pdev, vdev) };
            })?;
            Ok(0)
        })
    }

    /// `pci_driver.remove`.
    ///
    /// # Safety
    ///
    /// The PCI core calls it with the device lock held, for a device that `probe` has bound.
    unsafe extern "C" fn remove(pdev: *mut kbindings::pci_dev) {
        // SAFETY: By the requirements of this function.
        let Some(device) = (unsafe { Self::device(pdev) }) else {
            return;
        };
        let core = device.core();
        // SAFETY: `probe` registered the device. This waits until its users have closed it
        // (contract K9).
        unsafe { bindings::vfio_pci_core_unregister_device(core) };
        // SAFETY: `core` is valid. Raw, because a reference would claim that no other thread writes
        // the device: the last close of another device of the set may write `needs_reset` under
        // `dev_set->lock`, hence the volatile read; with the old value the function is only reset
        // once more. `reset_works` is written only by opens, and none can come any more.
        let reset = unsafe {
            (&raw const (*core).needs_reset).read_volatile()
                && bindings::vfio_pci_core_device::reset_works_raw(core)
        };
        // The last close gets no device lock by `pci_dev_trylock()`, because unbind holds it. So
        // reset the function here: the next driver must not find it as the user left it.
        //
        // SAFETY: `pdev` is valid, and remove runs with its device lock held.
        if reset && unsafe { ext::pci::reset_locked(pdev) }.is_err() {
            // SAFETY: Remove runs, so the function is still bound.
            dev_warn!(unsafe { device.function() }, "cannot be reset\n");
        }
        // SAFETY: The device is unregistered. The reference is the one that `probe` kept.
        unsafe { Self::let_go(pdev, core.cast()) };
    }

    /// Has the driver release what belongs to other devices, drops its data, and puts the device.
    ///
    /// # Safety
    ///
    /// Probe or remove of `pdev` runs. `vdev` is its device, not registered, whose reference the
    /// caller passes on.
    unsafe fn let_go(pdev: *mut kbindings::pci_dev, vdev: *mut bindings::vfio_device) {
        // SAFETY: `vdev` is initialised, and `end` comes last.
        let device = unsafe { Device::<T>::from_raw(vdev) };
        // SAFETY: By our requirements.
        T::unbind(device.data(), unsafe { device.function() });
        // SAFETY: As above. Without drvdata no bus callback finds the device.
        unsafe {
            kbindings::dev_set_drvdata(&raw mut (*pdev).dev, ptr::null_mut());
            Device::<T>::end(vdev);
            bindings::vfio_put_device(vdev);
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
        // SAFETY: By the requirements of this function.
        let Some(device) = (unsafe { Self::device(pdev) }) else {
            // Without a device the driver has no vote.
            return kbindings::pci_ers_result_PCI_ERS_RESULT_NONE;
        };
        if device.recovery.error(ChannelState::from_raw(state)) {
            Self::lose(device);
        }
        // SAFETY: By the requirements of this function; drvdata is not NULL and so is the core
        // device.
        unsafe { bindings::vfio_pci_core_aer_err_detected(pdev, state) }
    }

    /// `pci_error_handlers.slot_reset`: the bus was reset, also if this function has had no error
    /// that needs it. Has no vote, as vfio-pci-core has none.
    ///
    /// # Safety
    ///
    /// As [`Self::error_detected`].
    unsafe extern "C" fn slot_reset(pdev: *mut kbindings::pci_dev) -> kbindings::pci_ers_result_t {
        // SAFETY: By the requirements of this function.
        if let Some(device) = unsafe { Self::device(pdev) } {
            Self::lose(device);
        }
        kbindings::pci_ers_result_PCI_ERS_RESULT_NONE
    }

    /// `pci_error_handlers.resume`: the recovery has ended.
    ///
    /// # Safety
    ///
    /// As [`Self::error_detected`].
    unsafe extern "C" fn resume(pdev: *mut kbindings::pci_dev) {
        // SAFETY: By the requirements of this function.
        if let Some(device) = unsafe { Self::device(pdev) } {
            device.recovery.end();
        }
    }

    /// `pci_error_handlers.reset_prepare`.
    ///
    /// # Safety
    ///
    /// The PCI core calls it with the device lock held, for a device bound to this driver.
    unsafe extern "C" fn reset_prepare(pdev: *mut kbindings::pci_dev) {
        // SAFETY: By the requirements of this function.
        if let Some(device) = unsafe { Self::device(pdev) } {
            device.data.reset_prepare();
            if let Some(ops) = DeviceOps::migration(device) {
                (ops.before_reset)(&device.data);
            }
        }
    }

    /// `pci_error_handlers.reset_done`.
    ///
    /// # Safety
    ///
    /// The PCI core calls it with the device lock held, for a device bound to this driver.
    unsafe extern "C" fn reset_done(pdev: *mut kbindings::pci_dev) {
        // SAFETY: By the requirements of this function.
        if let Some(device) = unsafe { Self::device(pdev) } {
            device.data.reset_done();
            if let Some(ops) = DeviceOps::migration(device) {
                (ops.reset_done)(&device.data);
            }
            if let Some(ops) = DeviceOps::dma_logging(device) {
                (ops.reset_done)(&device.data);
            }
            if device.recovery.is_running() {
                Self::lose(device);
            }
        }
    }
}

/// Registers the driver of `T` with the PCI core, as `kernel::driver::Registration<Adapter<T>>`.
///
/// # Examples
///
/// From `samples/vfio/main.rs`:
///
/// ```ignore
/// #[pin_data]
/// struct Samples {
///     #[pin]
///     _bochs: Registration<vfio::Adapter<bochs::Bochs>>,
/// }
///
/// impl kernel::InPlaceModule for Samples {
///     fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
///         try_pin_init!(Self {
///             _bochs <- Registration::new(c"bochs_vfio_pci", module),
///         })
///     }
/// }
/// ```
pub(crate) type Adapter<T> = crate::ext::pci_driver::Registered<Driver<T>>;

#[kunit_tests(vfio_driver)]
mod tests {
    use super::{
        super::{
            id::{
                IdTable,
                NO_DEVICES, //
            },
            PciFunction, //
        },
        *,
    };

    /// A driver without devices.
    struct Unasked;

    impl Operations for Unasked {
        type OpenData = ();
        const ID_TABLE: IdTable = NO_DEVICES;
        const NAME: &'static CStr = c"vfio-kunit";

        fn new(_pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {
            Err::<Self, _>(ENODEV)
        }

        fn open(_this: Pin<&Self>, _pdev: PciFunction<'_>) -> impl PinInit<(), Error> {
            Ok::<_, Error>(())
        }
    }

    /// Bus callbacks may come while there is no device, and must not call vfio-pci-core, which
    /// would dereference it.
    #[test]
    fn s8_a_function_without_a_device_has_nothing_to_say() -> Result {
        let pdev = KBox::<kbindings::pci_dev>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        // SAFETY: All zeros is valid for this C struct, which is plain data and raw pointers.
        let mut pdev = unsafe { pdev.assume_init() };
        let pdev = &raw mut *pdev;
        for state in [
            kbindings::pci_channel_io_normal,
            kbindings::pci_channel_io_frozen,
            kbindings::pci_channel_io_perm_failure,
        ] {
            // SAFETY: Drvdata is NULL, so only drvdata is read.
            let vote = unsafe { Driver::<Unasked>::error_detected(pdev, state) };
            assert_eq!(vote, kbindings::pci_ers_result_PCI_ERS_RESULT_NONE);
        }
        // SAFETY: Drvdata is NULL, so only drvdata is read.
        unsafe {
            let vote = Driver::<Unasked>::slot_reset(pdev);
            assert_eq!(vote, kbindings::pci_ers_result_PCI_ERS_RESULT_NONE);
            Driver::<Unasked>::resume(pdev);
            Driver::<Unasked>::reset_prepare(pdev);
            Driver::<Unasked>::reset_done(pdev);
            Driver::<Unasked>::remove(pdev);
        }
        Ok(())
    }
}
