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
    migration_file::MigrationFile,
    pci::Operations,
    state_lock::ResetState, //
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
    error::{
        from_result,
        to_result, //
    },
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
        let next = |from: State, to: State| {
            let mut hop = 0;
            // SAFETY: `vdev` is valid and `hop` a place for the answer.
            to_result(unsafe {
                bindings::vfio_mig_get_next_state(vdev, from.to_raw(), to.to_raw(), &mut hop)
            })?;
            State::try_from(hop)
        };
        match transition(&dev, target, next) {
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

/// Goes from the current state to `target`, hop by hop as `next` says. Stores the state after each hop
/// and stops at the first that fails (contract S2 to S6).
fn transition<T: Migration>(
    dev: &OpenDevice<'_, T>,
    target: u32,
    next: impl Fn(State, State) -> Result<State>,
) -> Result<Option<MigrationFile>> {
    let target = State::try_from(target)?;
    let data = dev.data().get_ref();
    let mut locked = data.state_lock().lock(data);
    if target == State::Error {
        return Err(EINVAL);
    }
    while locked.state() != target {
        let from = locked.state();
        if from == State::Error {
            // Asking the core for a way out of here is a WARN (contract S3).
            return Err(EIO);
        }
        let to = next(from, target)?;
        let step = Step { from, to };
        let result = T::step(dev, locked.data_mut(), step);
        let errno = match &result {
            Ok(_) => 0,
            Err(Failure::Stay(error) | Failure::Broken(error)) => error.to_errno(),
        };
        trace::migration_step(dev.name(), from.to_raw(), to.to_raw(), errno);
        let file = match result {
            Ok(file) => file,
            Err(Failure::Stay(error)) => return Err(error),
            Err(Failure::Broken(error)) => {
                locked.set_state(State::Error);
                return Err(error);
            }
        };
        locked.set_state(to);
        match (file, step.returns_file(), to == target) {
            (None, false, _) => (),
            (Some(file), true, true) => return Ok(Some(file)),
            // A file where there must be none, or none where there must be one, or one inside a path: the
            // user could never get it. Dropping it is all that can be done.
            _ => {
                dev_err!(
                    dev.pdev(),
                    "wrong use of the data file going from {} to {}\n",
                    from.name(),
                    to.name()
                );
                return Err(EIO);
            }
        }
    }
    Ok(None)
}
