// SPDX-License-Identifier: GPL-2.0

//! `struct vfio_device_ops` of a driver: creation, open and close of the device. The callbacks for
//! regions are in `region_ops`. All others, such as those for iommufd, are functions of
//! vfio-pci-core, which the core requires of each variant driver (contract P4 to P8).
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h)

use super::{
    function::PciFunction,
    hooks::{
        LoggingOps,
        MigrationOps, //
    },
    link::Link,
    migration::state::ResetCause,
    pci::{Device, Operations},
    recovery::Recovery,
    region_ops::{
        trap,
        RegionOps, //
    },
};
use crate::{
    bindings,
    ext::gfp::USER, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::{
        ManuallyDrop,
        MaybeUninit, //
    },
    ptr::NonNull, //
};
use kernel::{
    device::Bound,
    error::{
        from_result,
        to_result, //
    },
    pci,
    prelude::*, //
};

pub(super) struct DeviceOps<T>(PhantomData<T>);

impl<T: Operations> DeviceOps<T> {
    pub(super) const OPS: bindings::vfio_device_ops = bindings::vfio_device_ops {
        name: kernel::str::as_char_ptr_in_const_context(T::NAME).cast_mut(),
        init: Some(Self::init),
        release: Some(bindings::vfio_pci_core_release_dev),
        open_device: Some(Self::open_device),
        close_device: Some(Self::close_device),
        ioctl: Some(RegionOps::<T>::ioctl),
        get_region_info_caps: Some(RegionOps::<T>::region_info),
        device_feature: Some(bindings::vfio_pci_core_ioctl_feature),
        read: Some(RegionOps::<T>::read),
        write: Some(RegionOps::<T>::write),
        mmap: Some(RegionOps::<T>::mmap),
        request: Some(bindings::vfio_pci_core_request),
        match_: Some(bindings::vfio_pci_core_match),
        match_token_uuid: Some(bindings::vfio_pci_core_match_token_uuid),
        bind_iommufd: Some(bindings::vfio_iommufd_physical_bind),
        unbind_iommufd: Some(bindings::vfio_iommufd_physical_unbind),
        attach_ioas: Some(bindings::vfio_iommufd_physical_attach_ioas),
        detach_ioas: Some(bindings::vfio_iommufd_physical_detach_ioas),
        ..pin_init::zeroed()
    };

    /// `vfio_device_ops.init`: called by `_vfio_alloc_device()` on zeroed memory, in probe.
    ///
    /// # Safety
    ///
    /// VFIO calls it, on a device of `T`.
    unsafe extern "C" fn init(vdev: *mut bindings::vfio_device) -> c_int {
        from_result(|| {
            // SAFETY: VFIO passes the new device.
            to_result(unsafe { bindings::vfio_pci_core_init_dev(vdev) })?;
            // SAFETY: The device is new; its core part is initialised, the Rust fields are not.
            if let Err(error) = unsafe { Self::init_ours(vdev) } {
                // VFIO does not call `release` when `init` fails.
                //
                // SAFETY: Undoes `vfio_pci_core_init_dev()`.
                unsafe { bindings::vfio_pci_core_release_dev(vdev) };
                return Err(error);
            }
            Ok(0)
        })
    }

    /// Initialises the Rust fields of the device, and the fields that tell VFIO what it supports.
    ///
    /// # Safety
    ///
    /// `vdev` is a new `Device<T>` of which only the core part is initialised. Probe of the device
    /// runs.
    unsafe fn init_ours(vdev: *mut bindings::vfio_device) -> Result {
        let this = vdev.cast::<Device<T>>();
        let core = vdev.cast::<bindings::vfio_pci_core_device>();
        // SAFETY: `vfio_pci_core_init_dev()` set `pdev`, and probe runs, so it counts as bound.
        let pdev = PciFunction::new(unsafe { &*(*core).pdev.cast::<pci::Device<Bound>>() });
        let vdev_ptr = NonNull::new(vdev).ok_or(EINVAL)?;
        // SAFETY: `Device::end` cuts the link before the device is freed. If this function fails,
        // it drops the link before a file can get it.
        let link = unsafe { Link::new(vdev_ptr)? };
        // SAFETY: `data` is valid for writes and not initialised; the allocation never moves.
        unsafe { pin_init::raw_try_init((&raw mut (*this).data).cast::<T>(), T::new(pdev))? };
        // SAFETY: The fields are valid for writes and not initialised. Nothing below can fail.
        unsafe {
            (&raw mut (*this).link).write(ManuallyDrop::new(link));
            (&raw mut (*this).recovery).write(Recovery::new());
            (&raw mut (*this).open).write(UnsafeCell::new(MaybeUninit::uninit()));
        }
        // SAFETY: `data` is initialised, and the last field is valid for writes.
        let capabilities = unsafe {
            let capabilities = (*this).data.capabilities();
            (&raw mut (*this).trapped).write((*this).data.trapped_bars());
            capabilities
        };
        if let (Some(flags), Some(ops)) = (capabilities.migration, T::MIGRATION.as_ref()) {
            // SAFETY: The device is not registered yet, so these fields may be set.
            unsafe {
                (*vdev).migration_flags = flags.to_raw();
                (*vdev).mig_ops = ops.vtable;
            }
        }
        if let (true, Some(ops)) = (capabilities.dma_logging, T::DMA_LOGGING.as_ref()) {
            // SAFETY: The device is not registered yet, so this field may be set.
            unsafe { (*vdev).log_ops = ops.vtable };
        }
        #[cfg(CONFIG_VFIO_PCI_DMABUF)]
        // SAFETY: The device is not registered yet, and the core only reads the table, which is
        // static.
        unsafe {
            (*core).pci_ops = const { &RegionOps::<T>::PCI_OPS };
        }
        Ok(())
    }

    /// `vfio_device_ops.open_device`.
    ///
    /// # Safety
    ///
    /// VFIO calls it, on a device of `T`.
    unsafe extern "C" fn open_device(vdev: *mut bindings::vfio_device) -> c_int {
        from_result(|| {
            // SAFETY: VFIO passes an initialised device of `T`.
            let device = unsafe { Device::<T>::from_raw(vdev) };
            // This resets the function if it can be reset, which calls `reset_done` (contract S13).
            //
            // SAFETY: `core` is the core of an initialised device, and VFIO holds the lock of its
            // set.
            to_result(unsafe { bindings::vfio_pci_core_enable(device.core()) })?;
            if let Err(error) = Self::open_ours(device) {
                // SAFETY: Undoes the enable above.
                unsafe { bindings::vfio_pci_core_disable(device.core()) };
                return Err(error);
            }
            // `vfio_pci_core_finish_enable()` determines which BARs can be mapped, so trap BARs
            // after it.
            //
            // SAFETY: The device is enabled, and no user can reach it before this returns.
            unsafe {
                bindings::vfio_pci_core_finish_enable(device.core());
                trap(device.core(), device.trapped);
            }
            Ok(0)
        })
    }

    /// Resets the migration state and makes the open data.
    fn open_ours(device: &Device<T>) -> Result {
        if let Some(ops) = Self::migration(device) {
            // SAFETY: `vfio_pci_core_enable()` has written the field, and no other call does.
            let reset = unsafe { bindings::vfio_pci_core_device::reset_works_raw(device.core()) };
            (ops.reset)(&device.data, ResetCause::Open { reset });
        }
        // SAFETY: Opening a device keeps it bound.
        let pdev = unsafe { device.function() };
        // Allocate before `T::open`: if the allocation failed after it, `close` would not be
        // called.
        let place = KBox::new_uninit(USER)?;
        let open = place.write_pin_init(T::open(device.data(), pdev))?;
        // INVARIANT: The device is being opened.
        //
        // SAFETY: VFIO serialises open and close, and calls nothing else before open has returned.
        unsafe { (*device.open.get()).write(open) };
        Ok(())
    }

    /// `vfio_device_ops.close_device`.
    ///
    /// # Safety
    ///
    /// VFIO calls it, on a device of `T`.
    unsafe extern "C" fn close_device(vdev: *mut bindings::vfio_device) {
        // SAFETY: VFIO passes an initialised, open device of `T`.
        let device = unsafe { Device::<T>::from_raw(vdev) };
        T::closing(device.data());
        if let Some(ops) = Self::dma_logging(device) {
            // SAFETY: The device is still open.
            unsafe { (ops.close)(vdev) };
        }
        if let Some(ops) = Self::migration(device) {
            (ops.reset)(&device.data, ResetCause::Close);
        }
        // INVARIANT: The device is being closed, and this moves the value out of `open`.
        //
        // SAFETY: `open_device` succeeded, so `open` is initialised; no other callback of an open
        // device can run.
        let open = unsafe { (*device.open.get()).assume_init_read() };
        // SAFETY: Unbinding waits for this close.
        T::close(device.data(), unsafe { device.function() }, open.as_ref());
        drop(open);
        // SAFETY: Undoes the enable in `open_device`.
        unsafe { bindings::vfio_pci_core_close_device(vdev) };
    }

    /// Returns the migration callbacks if the device offers migration.
    pub(super) fn migration(device: &Device<T>) -> Option<MigrationOps<T>> {
        // SAFETY: The field is only written in `init`.
        let offered = unsafe { !(*device.core()).vdev.mig_ops.is_null() };
        if offered {
            T::MIGRATION
        } else {
            None
        }
    }

    /// Returns the logging callbacks if the device offers DMA logging.
    pub(super) fn dma_logging(device: &Device<T>) -> Option<LoggingOps<T>> {
        // SAFETY: The field is only written in `init`.
        let offered = unsafe { !(*device.core()).vdev.log_ops.is_null() };
        if offered {
            T::DMA_LOGGING
        } else {
            None
        }
    }
}

#[kunit_tests(vfio_ops)]
mod tests {
    use super::{
        super::id::{
            IdTable,
            NO_DEVICES, //
        },
        *,
    };
    use kernel::{
        bindings as kbindings,
        sync::{
            atomic::{
                Atomic,
                Relaxed, //
            },
            Arc, //
        }, //
    };

    /// A size that cannot be allocated.
    struct Huge(#[expect(dead_code)] [u8; 1 << 30]);

    /// A driver that counts its opens.
    struct Opened(Arc<Atomic<u32>>);

    impl Operations for Opened {
        type OpenData = Huge;
        const ID_TABLE: IdTable = NO_DEVICES;
        const NAME: &'static CStr = c"vfio-kunit";

        fn new(_pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {
            Err::<Self, _>(ENODEV)
        }

        fn open(this: Pin<&Self>, _pdev: PciFunction<'_>) -> impl PinInit<Huge, Error> {
            this.0.fetch_add(1, Relaxed);
            // SAFETY: The closure initialises nothing and returns an error.
            unsafe { pin_init::pin_init_from_closure(|_| Err(EIO)) }
        }
    }

    /// If the memory for the open data cannot be allocated, `open` is not called, because `close`
    /// would not follow.
    #[test]
    fn s8_an_open_without_memory_has_not_begun() -> Result {
        let flags = GFP_KERNEL | __GFP_ZERO;
        let mut pdev = KBox::<kbindings::pci_dev>::new_uninit(flags)?;
        let mut memory = KBox::<MaybeUninit<Device<Opened>>>::new_uninit(flags)?;
        let device = memory.as_mut_ptr().cast::<Device<Opened>>();
        let opens = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        // SAFETY: The core device is never accessed through the link.
        let link = unsafe { Link::new(NonNull::new(device.cast()).ok_or(EINVAL)?)? };
        // SAFETY: The fields are valid for writes and dropped once. The core device is all zeros
        // except `pdev`, and no other field of it is used.
        let opened = unsafe {
            (*device.cast::<bindings::vfio_pci_core_device>()).pdev = pdev.as_mut_ptr().cast();
            (&raw mut (*device).link).write(ManuallyDrop::new(link));
            (&raw mut (*device).data).write(ManuallyDrop::new(Opened(opens.clone())));
            let opened = DeviceOps::open_ours(&*device);
            Device::<Opened>::end(device.cast());
            opened
        };
        assert_eq!(opened, Err(ENOMEM));
        assert_eq!(opens.load(Relaxed), 0);
        Ok(())
    }
}
