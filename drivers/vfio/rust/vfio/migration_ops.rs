// SPDX-License-Identifier: GPL-2.0

//! The migration callbacks of VFIO: from a request of the user to the steps of the vendor.

use super::{
    device::{
        Device,
        OpenDevice, //
    },
    migration::{
        Failure,
        Migration,
        ResetCause,
        State,
        Step, //
    },
    pci::Operations,
    state_lock::ResetState,
    transition::{
        next_state,
        transition, //
    },
};
use crate::{
    bindings,
    kext::trace, //
};
use core::{
    marker::PhantomData,
    ptr, //
};
use kernel::{
    bindings as kbindings,
    error::from_result,
    prelude::*, //
};

/// Everything that the layer calls of a migratable device.
pub(super) struct Callbacks<T: Operations> {
    pub(super) vtable: &'static bindings::vfio_migration_ops,
    /// The function was reset. May run in any context that may sleep.
    pub(super) reset_done: fn(&T),
    /// Open or close: waits for the state lock.
    pub(super) reset: fn(&T, ResetCause),
}

impl<T: Migration> Callbacks<T> {
    pub(super) const fn new() -> Self {
        Self {
            vtable: const { &Vtable::<T>::OPS },
            reset_done: |data| data.state_lock().request_reset(data),
            reset: |data, cause| {
                let mut locked = data.state_lock().lock(data);
                data.reset(locked.data_mut(), cause);
                locked.set_state(State::Running);
            },
        }
    }
}

impl<T: Migration> ResetState<T::State> for T {
    fn reset_state(&self, data: &mut T::State) {
        self.reset(data, ResetCause::FunctionReset);
    }
}

struct Vtable<T>(PhantomData<T>);

impl<T: Migration> Vtable<T> {
    const OPS: bindings::vfio_migration_ops = bindings::vfio_migration_ops {
        migration_set_state: Some(Self::set_state),
        migration_get_state: Some(Self::get_state),
        migration_get_data_size: Some(Self::data_size),
    };

    /// `vfio_migration_ops.migration_set_state`.
    ///
    /// # Safety
    ///
    /// VFIO calls it, on a registered device of `T`.
    unsafe extern "C" fn set_state(
        vdev: *mut bindings::vfio_device,
        target: bindings::vfio_device_mig_state,
    ) -> *mut kbindings::file {
        // SAFETY: VFIO calls this from an ioctl of an open device of `T`.
        let dev = unsafe { OpenDevice::new(Device::<T>::from_raw(vdev)) };
        let data = dev.data().get_ref();
        let mut locked = data.state_lock().lock(data);
        let next = |from, to| {
            // SAFETY: `vdev` is valid.
            unsafe { next_state(vdev, from, to) }
        };
        let run = |state: &mut T::State, step: Step| {
            let result = T::step(&dev, state, step);
            let errno = match &result {
                Ok(_) => 0,
                Err(Failure::Stay(error) | Failure::Broken(error)) => error.to_errno(),
            };
            trace::migration_step(dev.name(), step.from.to_raw(), step.to.to_raw(), errno);
            result
        };
        match transition(&mut locked, target, next, run) {
            Ok(Some(file)) => file.into_raw(),
            Ok(None) => ptr::null_mut(),
            Err(error) => error.to_ptr(),
        }
    }

    /// `vfio_migration_ops.migration_get_state`.
    ///
    /// # Safety
    ///
    /// VFIO calls it, on a registered device of `T`.
    unsafe extern "C" fn get_state(
        vdev: *mut bindings::vfio_device,
        state: *mut bindings::vfio_device_mig_state,
    ) -> c_int {
        // SAFETY: VFIO passes a device of `T` that is at least registered (contract F10).
        let device = unsafe { Device::<T>::from_raw(vdev) };
        let current = device.data.state_lock().lock(&device.data).state();
        // SAFETY: `state` points to the caller's variable.
        unsafe { *state = current.to_raw() };
        0
    }

    /// `vfio_migration_ops.migration_get_data_size`.
    ///
    /// # Safety
    ///
    /// VFIO calls it, on a registered device of `T`.
    unsafe extern "C" fn data_size(vdev: *mut bindings::vfio_device, size: *mut c_ulong) -> c_int {
        from_result(|| {
            // SAFETY: VFIO calls this from an ioctl of an open device of `T`.
            let dev = unsafe { OpenDevice::new(Device::<T>::from_raw(vdev)) };
            let bytes = T::data_size(&dev)?;
            // SAFETY: `size` points to the caller's variable.
            unsafe { *size = bytes as c_ulong };
            Ok(0)
        })
    }
}
