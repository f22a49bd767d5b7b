// SPDX-License-Identifier: GPL-2.0

//! The VFIO device with the vendor's part in it, and the view of it that callbacks get.

use super::{
    migration::Migration,
    migration_file::{
        self,
        MigrationFile,
        Resume,
        Save, //
    },
    pci::Operations, //
};
use crate::bindings;
use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    device::Bound,
    new_spinlock,
    pci,
    prelude::*,
    sync::{
        Arc,
        SpinLock, //
    },
    types::Opaque, //
};

/// The allocation that VFIO makes for a device: the C part first, then ours.
///
/// # Invariants
///
/// * Allocated by `_vfio_alloc_device()`, never moved, initialised by `init` and dropped by `release`.
/// * `open` is initialised exactly from a successful `open_device` to the end of `close_device`.
#[repr(C)]
pub(super) struct Device<T: Operations> {
    core: Opaque<bindings::vfio_pci_core_device>,
    pub(super) link: Arc<Link>,
    pub(super) open: UnsafeCell<MaybeUninit<Pin<KBox<T::OpenData>>>>,
    pub(super) data: T,
}

// SAFETY: The C part does its own locking, `T` and `T::OpenData` are `Send + Sync`, and `open` changes only in
// `open_device` and `close_device`, which VFIO orders against everything else that uses it.
unsafe impl<T: Operations> Sync for Device<T> {}

impl<T: Operations> Device<T> {
    /// # Safety
    ///
    /// `vdev` is a device of the driver `T`, initialised and not released before `'a` ends.
    pub(super) unsafe fn from_raw<'a>(vdev: *mut bindings::vfio_device) -> &'a Self {
        // SAFETY: `core` is at offset 0 and starts with the `vfio_device`; the rest is the caller's promise.
        unsafe { &*vdev.cast::<Self>() }
    }

    pub(super) fn core(&self) -> *mut bindings::vfio_pci_core_device {
        self.core.get()
    }

    /// The registration data.
    pub(super) fn data(&self) -> Pin<&T> {
        // SAFETY: By the type invariant a `Device` never moves.
        unsafe { Pin::new_unchecked(&self.data) }
    }

    /// The PCI function.
    ///
    /// # Safety
    ///
    /// The function is bound to this driver for as long as the reference is used.
    pub(super) unsafe fn pdev(&self) -> &pci::Device<Bound> {
        // SAFETY: `vfio_pci_core_init_dev()` set `pdev`, and VFIO holds a reference to the device;
        // `pci::Device` is transparent over `pci_dev`. The caller vouches for `Bound`.
        unsafe { &*(*self.core()).pdev.cast::<pci::Device<Bound>>() }
    }

    /// Name of the function (domain:bus:device.function), for tracing.
    pub(super) fn name(&self) -> &CStr {
        // SAFETY: The device is valid as long as `self`, and it is not renamed while bound.
        unsafe {
            let dev = &raw mut (*(*self.core()).pdev).dev;
            CStr::from_char_ptr(kernel::bindings::dev_name(dev))
        }
    }
}

/// View of an open device, for the time of one callback.
pub(crate) struct OpenDevice<'a, T: Operations> {
    device: &'a Device<T>,
}

impl<'a, T: Operations> OpenDevice<'a, T> {
    /// # Safety
    ///
    /// The device is open, and stays so for `'a`.
    pub(super) unsafe fn new(device: &'a Device<T>) -> Self {
        Self { device }
    }

    /// The registration data.
    pub(crate) fn data(&self) -> Pin<&'a T> {
        self.device.data()
    }

    /// What [`Operations::open`] made.
    pub(crate) fn open_data(&self) -> Pin<&'a T::OpenData> {
        // SAFETY: The device is open, so by the invariant of `Device` this is initialised, and it does
        // not change before the device is closed.
        unsafe { (*self.device.open.get()).assume_init_ref() }.as_ref()
    }

    /// The PCI function.
    pub(crate) fn pdev(&self) -> &'a pci::Device<Bound> {
        // SAFETY: Unbinding waits for users to close the device.
        unsafe { self.device.pdev() }
    }

    /// Name of the function (domain:bus:device.function), for tracing.
    pub(crate) fn name(&self) -> &'a CStr {
        self.device.name()
    }
}

impl<T: Migration> OpenDevice<'_, T> {
    /// Makes the file that the user reads the device state of `session` from.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENFILE`.
    pub(crate) fn save_file<S: Save>(&self, session: Arc<S>) -> Result<MigrationFile> {
        migration_file::save(
            session,
            self.device.link.clone(),
            self.device.data.state_lock().mirror(),
        )
    }

    /// Makes the file that the user writes the device state for `session` to.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENFILE`.
    pub(crate) fn resume_file<R: Resume>(&self, session: Arc<R>) -> Result<MigrationFile> {
        migration_file::resume(session)
    }
}

/// What a migration file may still ask the device when the device may be gone.
#[pin_data]
pub(super) struct Link {
    #[pin]
    vdev: SpinLock<Option<VdevPtr>>,
}

struct VdevPtr(NonNull<bindings::vfio_device>);

// SAFETY: The pointer is only followed under the lock of `Link`, which is cut before the device goes.
unsafe impl Send for VdevPtr {}

impl Link {
    /// A link to `vdev`.
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

    /// From now on the device is not touched through this link.
    pub(super) fn cut(&self) {
        *self.vdev.lock() = None;
    }

    /// Whether the user of the device asked for version 2 of the precopy ioctl (contract F8, D13).
    pub(super) fn precopy_info_v2(&self) -> bool {
        self.vdev.lock().as_ref().is_some_and(|vdev| {
            // SAFETY: The link is not cut, so the device is valid. The core writes the byte without a
            // lock, hence the volatile read.
            unsafe { (&raw const (*vdev.0.as_ptr()).precopy_info_v2).read_volatile() != 0 }
        })
    }
}
