// SPDX-License-Identifier: GPL-2.0

//! The callbacks of `struct vfio_migration_ops`.
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h)

use super::{
    hooks::MigrationOps,
    migration::{
        state::{
            Flags,
            ResetCause,
            State,
            Transition, //
        },
        Migration, //
    },
    pci::{
        Device,
        OpenDevice, //
    },
    state_lock::ResetState,
    transition::{
        next_state,
        transition, //
    },
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr, //
};
use kernel::{
    bindings as kbindings,
    error::from_result,
    prelude::*, //
};

impl<T: Migration> MigrationOps<T> {
    /// Makes the table of the callbacks of `T`, whose devices have no optional state.
    pub(crate) const fn new() -> Self {
        Self {
            vtable: const { &Vtable::<T>::OPS },
            flags: Flags {
                p2p: false,
                pre_copy: false,
            },
            lost: T::lost,
            before_reset: T::before_reset,
            reset_done: |data| {
                data.state_lock().request_reset(data, || data.after_reset());
            },
            reset: |data, cause| {
                let mut locked = data.state_lock().lock(data);
                data.reset(&mut locked, cause);
                locked.set_state(State::Running);
            },
        }
    }

    /// Offers RUNNING_P2P as well, for devices that start no access to another device in that
    /// state.
    pub(crate) const fn with_p2p(self) -> Self {
        Self {
            flags: Flags {
                p2p: true,
                ..self.flags
            },
            ..self
        }
    }

    /// Offers PRE_COPY as well, for devices whose sessions can begin while they run: of an
    /// [`Engine`](super::migration::engine::Engine), `begin_save` succeeds without `stopped`. With
    /// [`Self::with_p2p`] it also offers PRE_COPY_P2P.
    pub(crate) const fn with_pre_copy(self) -> Self {
        Self {
            flags: Flags {
                pre_copy: true,
                ..self.flags
            },
            ..self
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
        // Killable, because another thread may hold the lock during a state change that waits for
        // several commands of the device.
        let mut locked = match data.state_lock().lock_killable(data) {
            Ok(locked) => locked,
            Err(error) => return error.to_ptr(),
        };
        let next = |from, to| {
            // SAFETY: `vdev` is valid.
            unsafe { next_state(vdev, from, to) }
        };
        let run = |state: &mut T::State, arc| match arc {
            Transition::Open(opening) => T::begin(&dev, state, opening).map(Some),
            Transition::Move(step) => T::step(&dev, state, step).map(|()| None),
        };
        let arrived = |state: &mut T::State| T::arrived(&dev, state);
        match transition(locked.locked(), target, next, run, arrived) {
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
        from_result(|| {
            // Killable, as in `set_state`.
            let locked = device.data.state_lock().lock_killable(&*device.data)?;
            // SAFETY: `state` points to the caller's variable.
            unsafe { *state = locked.state().to_raw() };
            Ok(0)
        })
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
