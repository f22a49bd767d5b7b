// SPDX-License-Identifier: GPL-2.0

//! The allocation of a VFIO device, and the view of it that callbacks get.

use super::{
    bar::{
        self,
        Bar,
        BarSet, //
    },
    function::PciFunction,
    link::Link,
    recovery::Recovery, //
};
use crate::bindings;
use core::{
    cell::UnsafeCell,
    mem::{
        ManuallyDrop,
        MaybeUninit, //
    },
    ptr::NonNull, //
};
use kernel::{
    device::Bound,
    pci,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// A VFIO device: the C part first, then the fields of the layer and of the driver.
///
/// # Invariants
///
/// * Allocated by `_vfio_alloc_device()`, never moved, initialised by `init`.
/// * [`Self::end`] drops `link` and `data`, so that releasing the memory runs no code of the
///   driver: VFIO may release it after unbind. It reads the table of callbacks for that, which is
///   part of the driver's module.
/// * `open` is initialised from the end of a successful `open_device` to the start of the drop in
///   `close_device`, and not otherwise.
#[repr(C)]
pub(super) struct Device<T, O> {
    core: Opaque<bindings::vfio_pci_core_device>,
    pub(super) link: ManuallyDrop<Arc<Link>>,
    pub(super) recovery: Recovery,
    /// The trapped BARs, as fixed at registration. vfio-pci-core sets up its BARs once per open.
    pub(super) trapped: BarSet,
    pub(super) open: UnsafeCell<MaybeUninit<Pin<KBox<O>>>>,
    pub(super) data: ManuallyDrop<T>,
}

/// VFIO passes a pointer to the `vfio_device` to the callbacks of a driver. vfio-pci-core uses it
/// as a pointer to its device.
const _: () = assert!(core::mem::offset_of!(bindings::vfio_pci_core_device, vdev) == 0);

// SAFETY: The C part does its own locking, `T` and `O` are `Send + Sync`, and `open`
// changes only in `open_device` and `close_device`, which VFIO orders against everything else that
// uses it.
unsafe impl<T: Send + Sync, O: Send + Sync> Sync for Device<T, O> {}

impl<T, O> Device<T, O> {
    /// Fails the build unless `core` comes first, because each cast from `vfio_device` to `Device`
    /// relies on that.
    const CORE_IS_FIRST: () = assert!(core::mem::offset_of!(Self, core) == 0);

    /// # Safety
    ///
    /// `vdev` is an initialised device of the driver `T`, whose data is not dropped and whose
    /// memory is not released before `'a` ends.
    pub(super) unsafe fn from_raw<'a>(vdev: *mut bindings::vfio_device) -> &'a Self {
        const { Self::CORE_IS_FIRST };
        // SAFETY: `core` is at offset 0 and starts with the `vfio_device`; the rest holds by the
        // requirements of this function.
        unsafe { &*vdev.cast::<Self>() }
    }

    pub(super) fn core(&self) -> *mut bindings::vfio_pci_core_device {
        self.core.get()
    }

    /// Returns the registration data.
    pub(super) fn data(&self) -> Pin<&T> {
        // SAFETY: By the type invariant a `Device` never moves.
        unsafe { Pin::new_unchecked(&self.data) }
    }

    /// Returns the PCI function.
    ///
    /// # Safety
    ///
    /// The function is bound to this driver for as long as the result is used.
    pub(super) unsafe fn function(&self) -> PciFunction<'_> {
        // SAFETY: `vfio_pci_core_init_dev()` set `pdev`, and VFIO holds a reference to the device;
        // `pci::Device` is transparent over `pci_dev`. The device is bound by the requirements of
        // this function.
        PciFunction::new(unsafe { &*(*self.core()).pdev.cast::<pci::Device<Bound>>() })
    }

    /// Drops the fields of the layer and of the driver at unbind, while the function is still bound
    /// (contract K10). Migration files lose their link to the device.
    ///
    /// # Safety
    ///
    /// `vdev` is an initialised device of `T` that was unregistered or never registered, so that
    /// VFIO only calls `release` for it. This is called once, and no reference to `Self` is used
    /// after it.
    pub(super) unsafe fn end(vdev: *mut bindings::vfio_device) {
        let this = vdev.cast::<Self>();
        // SAFETY: By the requirements of this function. The memory stays until `release`.
        unsafe {
            (*this).link.cut();
            ManuallyDrop::drop(&mut (*this).data);
            ManuallyDrop::drop(&mut (*this).link);
        }
    }

    /// Returns the name (domain:bus:device.function) of the function, for tracing.
    pub(super) fn name(&self) -> &CStr {
        // SAFETY: The device is valid as long as `self`, and it is not renamed while bound.
        unsafe {
            let dev = &raw mut (*(*self.core()).pdev).dev;
            CStr::from_char_ptr(kernel::bindings::dev_name(dev))
        }
    }
}

/// A view of an open device that exists during one callback.
pub(crate) struct OpenDevice<'a, T, O> {
    device: &'a Device<T, O>,
}

impl<'a, T, O> OpenDevice<'a, T, O> {
    /// # Safety
    ///
    /// The device is open, and stays so for `'a`.
    pub(super) unsafe fn new(device: &'a Device<T, O>) -> Self {
        Self { device }
    }

    /// Returns the registration data.
    pub(crate) fn data(&self) -> Pin<&'a T> {
        self.device.data()
    }

    /// Returns the value that [`Operations::open`](super::pci::Operations::open) made.
    pub(crate) fn open_data(&self) -> Pin<&'a O> {
        // SAFETY: The device is open, so by the invariant of `Device` this is initialised, and it
        // does not change before the device is closed.
        unsafe { (*self.device.open.get()).assume_init_ref() }.as_ref()
    }

    /// Returns the PCI function.
    pub(crate) fn pdev(&self) -> PciFunction<'a> {
        // SAFETY: Unbinding waits until the users have closed the device.
        unsafe { self.device.function() }
    }

    /// Returns a view of the BAR `number`. Resumes the function and keeps it resumed while the view
    /// exists; the caller must not hold `memory_lock`.
    ///
    /// # Errors
    ///
    /// See [`Bar::new`].
    pub(crate) fn bar(&self, number: u32) -> Result<Bar<'a>> {
        // SAFETY: The device is open, and stays so for `'a`.
        unsafe { Bar::new(self.device.core(), self.pdev(), number) }
    }

    /// Returns the length in bytes of the BAR `number`. Does not access or resume the function.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a number above 5, `ENODEV` for a BAR that the function lacks.
    pub(crate) fn bar_len(&self, number: u32) -> Result<usize> {
        bar::len(self.pdev(), number)
    }

    /// Returns the trapped BARs.
    pub(super) fn trapped(&self) -> BarSet {
        self.device.trapped
    }

    /// Returns the link through which migration files reach the device.
    pub(super) fn link(&self) -> &'a Arc<Link> {
        &self.device.link
    }

    /// Returns the name (domain:bus:device.function) of the function, for tracing.
    pub(crate) fn name(&self) -> &'a CStr {
        self.device.name()
    }
}
