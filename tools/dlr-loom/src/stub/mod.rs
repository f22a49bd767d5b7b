// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the layer's files use of the kernel crate and of the rest of the layer, on loom's types.
//!
//! Barriers and orders are those of `tools/memory-model`: a full atomic operation is one with a
//! full barrier on both sides, a full barrier is a fence that is sequentially consistent.

pub(crate) mod completion;
mod error;
#[macro_use]
mod init;
pub(crate) mod sync;

pub(crate) use self::{
    error::{Error, Result, EINVAL, GFP_KERNEL},
    init::{pin_init, Maker, PinInit},
};

pub(crate) mod prelude {
    pub(crate) use super::{pin_init, Error, PinInit, Result, EINVAL, GFP_KERNEL};
    pub(crate) use std::prelude::v1::*;
}

/// Numbers of the uAPI that `state.rs` names.
#[allow(non_upper_case_globals)]
pub(crate) mod bindings {
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_ERROR: u32 = 0;
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_STOP: u32 = 1;
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING: u32 = 2;
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_STOP_COPY: u32 = 3;
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_RESUMING: u32 = 4;
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING_P2P: u32 = 5;
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY: u32 = 6;
    pub(crate) const vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY_P2P: u32 = 7;
    pub(crate) const VFIO_MIGRATION_STOP_COPY: u32 = 1;
    pub(crate) const VFIO_MIGRATION_P2P: u32 = 2;
    pub(crate) const VFIO_MIGRATION_PRE_COPY: u32 = 4;
}

macro_rules! new_mutex {
    ($value:expr, $name:literal) => {
        $crate::stub::sync::Mutex::new($value)
    };
}
pub(crate) use new_mutex;
pub(crate) use new_mutex as new_spinlock;

pub(crate) mod time {
    pub(crate) type Jiffies = u64;
    pub(crate) struct Delta;

    impl Delta {
        pub(crate) const fn from_millis(_: i64) -> Self {
            Self
        }
    }

    pub(crate) mod delay {
        pub(crate) fn fsleep(_: super::Delta) {
            loom::thread::yield_now();
        }
    }
}

pub(crate) mod killable {
    use super::{
        sync::{lock::mutex::MutexGuard, Mutex},
        Result,
    };

    pub(crate) fn lock_killable<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
        Ok(mutex.lock())
    }
}
