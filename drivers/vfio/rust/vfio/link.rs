// SPDX-License-Identifier: GPL-2.0

//! The link from a migration file to its device, which the file may outlive.

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        Arc,
        SpinLock, //
    },
};

/// A pointer to the device that is cut when the device is unbound.
#[pin_data]
pub(super) struct Link {
    #[pin]
    vdev: SpinLock<Option<VdevPtr>>,
}

struct VdevPtr(NonNull<bindings::vfio_device>);

// SAFETY: The pointer is only dereferenced under the lock of `Link`, and `Link` is cut before the
// device is freed.
unsafe impl Send for VdevPtr {}

impl Link {
    /// Makes a link to `vdev`.
    ///
    /// # Safety
    ///
    /// [`Self::cut`] is called before `vdev` is freed.
    pub(super) unsafe fn new(vdev: NonNull<bindings::vfio_device>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                vdev <- new_spinlock!(Some(VdevPtr(vdev)), "vfio_link"),
            }),
            GFP_KERNEL,
        )
    }

    /// Cuts the link: the device is not accessed through it any more.
    pub(super) fn cut(&self) {
        *self.vdev.lock() = None;
    }

    /// Returns whether the link is cut.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) fn is_cut(&self) -> bool {
        self.vdev.lock().is_none()
    }

    /// Returns whether the user has enabled version 2 of `VFIO_MIG_GET_PRECOPY_INFO` for the device
    /// (contract F8, D13).
    pub(super) fn precopy_info_v2(&self) -> bool {
        self.vdev.lock().as_ref().is_some_and(|vdev| {
            // SAFETY: The link is not cut, so the device is valid. The core writes the byte without
            // a lock, hence the volatile read.
            unsafe { (&raw const (*vdev.0.as_ptr()).precopy_info_v2).read_volatile() != 0 }
        })
    }
}
