// SPDX-License-Identifier: GPL-2.0

//! An open device of any driver, with a vfio-pci-core device that is never registered.

use crate::{
    bindings,
    vfio::{
        link::Link,
        pci::{
            Device,
            Operations, //
        },
        recovery::Recovery,
        region_ops::trap, //
    },
};
use core::{
    cell::UnsafeCell,
    mem::{
        ManuallyDrop,
        MaybeUninit, //
    },
    ptr::NonNull, //
};
use kernel::{
    bindings as kbindings,
    prelude::*, //
};

/// Size in bytes of the BARs 0 to 2; the others do not exist.
pub(super) const BAR_SIZE: u64 = 0x1000;

/// An open device of `T`, for the callbacks that VFIO would call.
///
/// The `vfio_pci_core_device` and its `pci_dev` are all zeros but for the BARs. So the core may be
/// asked to describe or map a BAR and to refuse a call, but not to access the function.
pub(super) struct OpenedDevice<T: Operations> {
    device: NonNull<Device<T>>,
    _memory: KBox<MaybeUninit<Device<T>>>,
    _pdev: KBox<MaybeUninit<kbindings::pci_dev>>,
}

impl<T: Operations> OpenedDevice<T> {
    /// Opens a device with this registration data and open data.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(data: T, open: T::OpenData) -> Result<Self> {
        let gfp = GFP_KERNEL | __GFP_ZERO;
        let flags = data.capabilities().migration.unwrap_or_default();
        let mut pdev = KBox::<kbindings::pci_dev>::new_uninit(gfp)?;
        let mut memory = KBox::<Device<T>>::new_uninit(gfp)?;
        let open = KBox::pin(open, GFP_KERNEL)?;
        let device = NonNull::new(memory.as_mut_ptr()).ok_or(EINVAL)?;
        // SAFETY: `drop` cuts the link before the memory is freed.
        let link = unsafe { Link::new(device.cast())? };
        let core = device.as_ptr().cast::<bindings::vfio_pci_core_device>();
        // SAFETY: The memory of both is valid for writes, and all zeros is valid for the C structs,
        // which are plain data and raw pointers. The Rust fields are written before they are read.
        unsafe {
            for bar in &mut (*pdev.as_mut_ptr()).resource[..3] {
                bar.end = BAR_SIZE - 1;
                bar.flags = kbindings::IORESOURCE_MEM as usize;
            }
            (*core).pdev = pdev.as_mut_ptr().cast();
            (*core).bar_mmap_supported = [true, true, true, false, false, false];
            // No BAR has the table of the vectors.
            (*core).msix_bar = u8::MAX;
            (*core).vdev.migration_flags = flags.to_raw();
            let this = device.as_ptr();
            (&raw mut (*this).link).write(ManuallyDrop::new(link));
            (&raw mut (*this).recovery).write(Recovery::new());
            (&raw mut (*this).open).write(UnsafeCell::new(MaybeUninit::new(open)));
            (&raw mut (*this).data).write(ManuallyDrop::new(data));
            let trapped = (*this).data.trapped_bars();
            (&raw mut (*this).trapped).write(trapped);
            trap(core, trapped);
        }
        Ok(Self {
            device,
            _memory: memory,
            _pdev: pdev,
        })
    }

    /// Returns what VFIO passes to callbacks.
    pub(super) fn vdev(&self) -> *mut bindings::vfio_device {
        self.device.as_ptr().cast()
    }

    /// Returns the registration data.
    pub(super) fn data(&self) -> &T {
        // SAFETY: `new` initialised the device, and `drop` ends it.
        unsafe { &self.device.as_ref().data }
    }
}

impl<T: Operations> Drop for OpenedDevice<T> {
    fn drop(&mut self) {
        // SAFETY: No callback runs any more. The open data is dropped as by a close, the rest as by
        // an unbind, each once.
        unsafe {
            drop((*self.device.as_ref().open.get()).assume_init_read());
            Device::<T>::end(self.vdev());
        }
    }
}
