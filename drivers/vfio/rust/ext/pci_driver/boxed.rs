// SPDX-License-Identifier: GPL-2.0

//! The C callbacks of a [`Driver`].

use super::{
    driver::Driver,
    recovery::{
        ChannelState,
        Verdict, //
    },
    registration::{
        drvdata,
        RawDriver, //
    }, //
};
use crate::ext::dma::Unallocated;
use core::marker::PhantomData;
use kernel::{
    bindings,
    container_of,
    device::{
        Core,
        CoreInternal, //
    },
    error::from_result,
    pci,
    prelude::*, //
};

/// The [`RawDriver`] of `T`.
pub(crate) struct Boxed<T>(PhantomData<T>);

// SAFETY: The callbacks below are those of a PCI driver, and what `probe` leaves in drvdata is the
// `Pin<KBox<T>>` of `set_drvdata`.
unsafe impl<T: Driver> RawDriver for Boxed<T> {
    type DriverData<'bound> = T;

    fn ids() -> *const bindings::pci_device_id {
        T::ID_TABLE.as_ptr()
    }

    const OPS: bindings::pci_driver = bindings::pci_driver {
        probe: Some(Self::probe),
        remove: Some(Self::remove),
        shutdown: Some(Self::shutdown),
        sriov_configure: Some(Self::sriov_configure),
        err_handler: const { &Self::ERR_HANDLERS },
        driver: bindings::device_driver {
            pm: const { &Self::PM_OPS },
            ..pin_init::zeroed()
        },
        ..pin_init::zeroed()
    };
}

impl<T: Driver> Boxed<T> {
    const ERR_HANDLERS: bindings::pci_error_handlers = bindings::pci_error_handlers {
        error_detected: Some(Self::error_detected),
        mmio_enabled: Some(Self::mmio_enabled),
        slot_reset: Some(Self::slot_reset),
        resume: Some(Self::recovered),
        reset_prepare: Some(Self::reset_prepare),
        reset_done: Some(Self::reset_done),
        ..pin_init::zeroed()
    };

    /// The callbacks of `SYSTEM_SLEEP_PM_OPS()` (`include/linux/pm.h`).
    const PM_OPS: bindings::dev_pm_ops = bindings::dev_pm_ops {
        suspend: Some(Self::suspend),
        resume: Some(Self::resume),
        freeze: Some(Self::suspend),
        thaw: Some(Self::resume),
        poweroff: Some(Self::suspend),
        restore: Some(Self::resume),
        ..pin_init::zeroed()
    };

    /// Runs `f` on the data of a bound device, or returns `absent` while drvdata is NULL.
    ///
    /// # Safety
    ///
    /// `pdev` is a valid device whose driver is this one, and its device lock is held until this
    /// returns.
    unsafe fn with<R>(
        pdev: *mut bindings::pci_dev,
        absent: R,
        f: impl FnOnce(Pin<&T>, &pci::Device<Core<'_>>) -> R,
    ) -> R {
        // SAFETY: By the requirements of this function.
        if unsafe { drvdata(pdev) }.is_none() {
            return absent;
        }
        // SAFETY: `pci::Device` is a transparent wrapper of `pci_dev`. By the requirements of this
        // function the device lock is held, and a device with data of this driver is bound.
        let dev = unsafe { &*pdev.cast::<pci::Device<CoreInternal<'_>>>() };
        // SAFETY: Drvdata is not NULL, so `probe` has stored a `T` in it. `post_unbind`, which also
        // runs with the device lock held, has not taken it.
        let data = unsafe { dev.as_ref().drvdata_borrow::<T>() };
        f(data, dev)
    }

    /// `pci_driver.probe`.
    ///
    /// # Safety
    ///
    /// The PCI core calls it with the device lock held, for a device that has no driver data.
    unsafe extern "C" fn probe(
        pdev: *mut bindings::pci_dev,
        _id: *const bindings::pci_device_id,
    ) -> c_int {
        // SAFETY: `pci::Device` is a transparent wrapper of `pci_dev`; the device is valid and
        // locked by the requirements of this function, and counts as bound while `probe` runs.
        let dev = unsafe { &*pdev.cast::<pci::Device<CoreInternal<'_>>>() };
        from_result(|| {
            // SAFETY: The probe of `dev` begins here.
            let new = unsafe { Unallocated::new(dev) };
            dev.as_ref().set_drvdata(T::probe(new))?;
            Ok(0)
        })
    }

    /// `pci_driver.remove`.
    ///
    /// # Safety
    ///
    /// The PCI core calls it with the device lock held, for a device that `probe` has bound.
    unsafe extern "C" fn remove(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the requirements of this function.
        unsafe { Self::with(pdev, (), T::unbind) }
    }

    /// `pci_driver.shutdown`.
    ///
    /// # Safety
    ///
    /// `pci_device_shutdown()` calls it for a device bound to this driver, and `device_shutdown()`
    /// holds the device lock meanwhile.
    unsafe extern "C" fn shutdown(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the requirements of this function.
        unsafe { Self::with(pdev, (), T::shutdown) }
    }

    /// `pci_driver.sriov_configure`.
    ///
    /// # Safety
    ///
    /// `sriov_numvfs_store()` calls it with the device lock held, for a device bound to this
    /// driver.
    unsafe extern "C" fn sriov_configure(pdev: *mut bindings::pci_dev, count: c_int) -> c_int {
        from_result(|| {
            let count = u16::try_from(count)?;
            // SAFETY: By the requirements of this function.
            let made = unsafe {
                Self::with(pdev, Err(ENODEV), |this, dev| {
                    T::sriov_configure(this, dev, count)
                })
            }?;
            Ok(c_int::from(made))
        })
    }

    /// `dev_pm_ops.suspend`, `.freeze` and `.poweroff`.
    ///
    /// # Safety
    ///
    /// The PCI core's `dev_pm_ops` call it for a device bound to this driver;
    /// `drivers/base/power/main.c` holds the device lock meanwhile.
    unsafe extern "C" fn suspend(dev: *mut bindings::device) -> c_int {
        // SAFETY: The PCI bus calls its drivers only with devices that are part of a `pci_dev`.
        let pdev = unsafe { container_of!(dev, bindings::pci_dev, dev) };
        // SAFETY: By the requirements of this function.
        let result = unsafe { Self::with(pdev, Ok(()), T::suspend) };
        from_result(|| result.map(|()| 0))
    }

    /// `dev_pm_ops.resume`, `.thaw` and `.restore`.
    ///
    /// # Safety
    ///
    /// As [`Self::suspend`].
    unsafe extern "C" fn resume(dev: *mut bindings::device) -> c_int {
        // SAFETY: The PCI bus calls its drivers only with devices that are part of a `pci_dev`.
        let pdev = unsafe { container_of!(dev, bindings::pci_dev, dev) };
        // SAFETY: By the requirements of this function.
        let result = unsafe { Self::with(pdev, Ok(()), T::resume) };
        from_result(|| result.map(|()| 0))
    }

    /// `pci_error_handlers.error_detected`.
    ///
    /// # Safety
    ///
    /// `drivers/pci/pcie/err.c` calls it with the device lock held, for a device bound to this
    /// driver.
    unsafe extern "C" fn error_detected(
        pdev: *mut bindings::pci_dev,
        state: bindings::pci_channel_state_t,
    ) -> bindings::pci_ers_result_t {
        let state = ChannelState::from_raw(state);
        // SAFETY: By the requirements of this function.
        let verdict = unsafe {
            Self::with(pdev, Verdict::Disconnect, |this, dev| {
                T::error_detected(this, dev, state)
            })
        };
        verdict.into_raw()
    }

    /// `pci_error_handlers.mmio_enabled`.
    ///
    /// # Safety
    ///
    /// As [`Self::error_detected`].
    unsafe extern "C" fn mmio_enabled(pdev: *mut bindings::pci_dev) -> bindings::pci_ers_result_t {
        // SAFETY: By the requirements of this function.
        unsafe { Self::with(pdev, Verdict::Disconnect, T::mmio_enabled) }.into_raw()
    }

    /// `pci_error_handlers.slot_reset`.
    ///
    /// # Safety
    ///
    /// As [`Self::error_detected`].
    unsafe extern "C" fn slot_reset(pdev: *mut bindings::pci_dev) -> bindings::pci_ers_result_t {
        // SAFETY: By the requirements of this function.
        unsafe { Self::with(pdev, Verdict::Disconnect, T::slot_reset) }.into_raw()
    }

    /// `pci_error_handlers.resume`.
    ///
    /// # Safety
    ///
    /// As [`Self::error_detected`].
    unsafe extern "C" fn recovered(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the requirements of this function.
        unsafe { Self::with(pdev, (), T::recovered) }
    }

    /// `pci_error_handlers.reset_prepare`.
    ///
    /// # Safety
    ///
    /// `pci_dev_save_and_disable()` calls it with the device lock held, for a device whose driver
    /// is this one.
    unsafe extern "C" fn reset_prepare(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the requirements of this function.
        unsafe { Self::with(pdev, (), T::reset_prepare) }
    }

    /// `pci_error_handlers.reset_done`.
    ///
    /// # Safety
    ///
    /// `pci_dev_restore()` calls it with the device lock held, for a device whose driver is this
    /// one.
    unsafe extern "C" fn reset_done(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the requirements of this function.
        unsafe { Self::with(pdev, (), T::reset_done) }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests_of_sriov;
