// SPDX-License-Identifier: GPL-2.0

//! `struct vfio_device_ops` of a driver: life of the device, open and close, and reads of configuration
//! space. Everything else goes to vfio-pci-core (contract P4 to P8).

use super::{
    config_space::{
        next_piece,
        Piece, //
    },
    device::{
        Device,
        Link, //
    },
    migration::ResetCause,
    pci::Operations, //
};
use crate::{
    bindings,
    kext::user, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::{
        self,
        NonNull, //
    },
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

/// BARs may be exported as dma-bufs, so that a VMM can map them for peer-to-peer DMA (contract P12).
#[cfg(CONFIG_VFIO_PCI_DMABUF)]
static PCI_OPS: bindings::vfio_pci_device_ops = bindings::vfio_pci_device_ops {
    get_dmabuf_phys: Some(bindings::vfio_pci_core_get_dmabuf_phys),
};

pub(super) struct DeviceOps<T>(PhantomData<T>);

impl<T: Operations> DeviceOps<T> {
    pub(super) const OPS: bindings::vfio_device_ops = bindings::vfio_device_ops {
        name: kernel::str::as_char_ptr_in_const_context(T::NAME).cast_mut(),
        init: Some(Self::init),
        release: Some(Self::release),
        open_device: Some(Self::open_device),
        close_device: Some(Self::close_device),
        ioctl: Some(bindings::vfio_pci_core_ioctl),
        get_region_info_caps: Some(bindings::vfio_pci_ioctl_get_region_info),
        device_feature: Some(bindings::vfio_pci_core_ioctl_feature),
        read: Some(Self::read),
        write: Some(bindings::vfio_pci_core_write),
        mmap: Some(bindings::vfio_pci_core_mmap),
        request: Some(bindings::vfio_pci_core_request),
        match_: Some(bindings::vfio_pci_core_match),
        match_token_uuid: Some(bindings::vfio_pci_core_match_token_uuid),
        bind_iommufd: Some(bindings::vfio_iommufd_physical_bind),
        unbind_iommufd: Some(bindings::vfio_iommufd_physical_unbind),
        attach_ioas: Some(bindings::vfio_iommufd_physical_attach_ioas),
        detach_ioas: Some(bindings::vfio_iommufd_physical_detach_ioas),
        ..pin_init::zeroed()
    };

    /// Called by `_vfio_alloc_device()` on fresh memory, inside probe.
    ///
    /// # Safety
    ///
    /// VFIO calls it, on a device of `T`.
    unsafe extern "C" fn init(vdev: *mut bindings::vfio_device) -> c_int {
        from_result(|| {
            // SAFETY: VFIO passes the new device.
            to_result(unsafe { bindings::vfio_pci_core_init_dev(vdev) })?;
            // SAFETY: As above; the core part is initialised, ours is not.
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

    /// Initialises the Rust fields of the device, and what it tells VFIO about itself.
    ///
    /// # Safety
    ///
    /// `vdev` is a new `Device<T>` whose core part alone is initialised, inside probe.
    unsafe fn init_ours(vdev: *mut bindings::vfio_device) -> Result {
        let this = vdev.cast::<Device<T>>();
        let core = vdev.cast::<bindings::vfio_pci_core_device>();
        // SAFETY: `vfio_pci_core_init_dev()` set `pdev`, and probe runs, so it counts as bound.
        let pdev = unsafe { &*(*core).pdev.cast::<pci::Device<Bound>>() };
        let vdev_ptr = NonNull::new(vdev).ok_or(EINVAL)?;
        // SAFETY: `release` cuts the link before the device is freed; so does the error path below, by
        // dropping it before any file could get it.
        let link = unsafe { Link::new(vdev_ptr)? };
        // SAFETY: `data` is valid for writes and not initialised; the allocation never moves.
        unsafe { pin_init::raw_try_init(&raw mut (*this).data, T::new(pdev))? };
        // SAFETY: The fields are valid for writes and not initialised. Nothing below can fail.
        unsafe {
            (&raw mut (*this).link).write(link);
            (&raw mut (*this).open).write(UnsafeCell::new(MaybeUninit::uninit()));
        }
        // SAFETY: All fields are initialised now.
        let capabilities = unsafe { (*this).data.capabilities() };
        if let (Some(flags), Some(ops)) = (capabilities.migration, T::MIGRATION.as_ref()) {
            // SAFETY: The device is not registered yet, so this is where these fields may be set.
            unsafe {
                (*vdev).migration_flags = flags.to_raw();
                (*vdev).mig_ops = ops.vtable.vtable;
            }
        }
        if let (true, Some(ops)) = (capabilities.dma_logging, T::DMA_LOGGING.as_ref()) {
            // SAFETY: As above.
            unsafe { (*vdev).log_ops = ops.vtable };
        }
        #[cfg(CONFIG_VFIO_PCI_DMABUF)]
        // SAFETY: As above; the core only reads the table, which is static.
        unsafe {
            (*core).pci_ops = &PCI_OPS;
        }
        Ok(())
    }

    /// Called when the last reference goes, possibly after unbind (contract K10). VFIO frees the memory.
    ///
    /// # Safety
    ///
    /// VFIO calls it, on a device of `T`.
    unsafe extern "C" fn release(vdev: *mut bindings::vfio_device) {
        let this = vdev.cast::<Device<T>>();
        // SAFETY: `init` succeeded, and nobody else has the device any more. `open` holds nothing, since the
        // device is closed.
        unsafe {
            (*this).link.cut();
            ptr::drop_in_place(&raw mut (*this).data);
            ptr::drop_in_place(&raw mut (*this).link);
            bindings::vfio_pci_core_release_dev(vdev);
        }
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
            // Resets the function, so `reset_done` runs in here (contract S13).
            //
            // SAFETY: `core` is the core of an initialised device, and VFIO holds the lock of its set.
            to_result(unsafe { bindings::vfio_pci_core_enable(device.core()) })?;
            if let Err(error) = Self::open_ours(device) {
                // SAFETY: Undoes the enable above.
                unsafe { bindings::vfio_pci_core_disable(device.core()) };
                return Err(error);
            }
            // SAFETY: The device is enabled.
            unsafe { bindings::vfio_pci_core_finish_enable(device.core()) };
            Ok(0)
        })
    }

    fn open_ours(device: &Device<T>) -> Result {
        if let Some(ops) = Self::migration(device) {
            (ops.vtable.reset)(&device.data, ResetCause::Open);
        }
        // SAFETY: Opening a device keeps it bound.
        let pdev = unsafe { device.pdev() };
        let open = KBox::pin_init(T::open(device.data(), pdev), GFP_KERNEL)?;
        // INVARIANT: The device is being opened.
        //
        // SAFETY: VFIO calls open and close one at a time, and nothing else before open has returned.
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
        if let Some(ops) = Self::dma_logging(device) {
            // SAFETY: The device is still open.
            unsafe { (ops.close)(device) };
        }
        if let Some(ops) = Self::migration(device) {
            (ops.vtable.reset)(&device.data, ResetCause::Close);
        }
        // INVARIANT: The device is being closed, and `open` is moved out of.
        //
        // SAFETY: `open_device` succeeded, so it is initialised; no other call of an open device can run.
        let open = unsafe { (*device.open.get()).assume_init_read() };
        // SAFETY: Unbinding waits for this close.
        T::close(device.data(), unsafe { device.pdev() }, open.as_ref());
        drop(open);
        // SAFETY: Pairs with the enable in `open_device`.
        unsafe { bindings::vfio_pci_core_close_device(vdev) };
    }

    /// The migration callbacks, if this device offers migration.
    pub(super) fn migration(device: &Device<T>) -> Option<super::migration::Ops<T>> {
        // SAFETY: Written in `init` only.
        let offered = unsafe { !(*device.core()).vdev.mig_ops.is_null() };
        if offered {
            T::MIGRATION
        } else {
            None
        }
    }

    /// The logging callbacks, if this device offers logging.
    fn dma_logging(device: &Device<T>) -> Option<super::dma_logging::Ops<T>> {
        // SAFETY: Written in `init` only.
        let offered = unsafe { !(*device.core()).vdev.log_ops.is_null() };
        if offered {
            T::DMA_LOGGING
        } else {
            None
        }
    }

    /// Reads a region. In configuration space the hidden parts read as zeros: their bytes are never
    /// copied out, not even for a moment.
    ///
    /// # Safety
    ///
    /// VFIO calls it, on a device of `T`.
    unsafe extern "C" fn read(
        vdev: *mut bindings::vfio_device,
        buf: *mut c_char,
        count: usize,
        ppos: *mut kernel::bindings::loff_t,
    ) -> isize {
        // SAFETY: VFIO passes an initialised device of `T`.
        let device = unsafe { Device::<T>::from_raw(vdev) };
        let hidden = device.data.hidden_config();
        // SAFETY: `ppos` points to the caller's variable.
        let region = unsafe { *ppos } >> VFIO_PCI_OFFSET_SHIFT;
        if hidden.is_empty() || region != i64::from(bindings::VFIO_PCI_CONFIG_REGION_INDEX) {
            // SAFETY: The arguments are those that VFIO passed.
            return unsafe { bindings::vfio_pci_core_read(vdev, buf, count, ppos) };
        }
        let mut done = 0;
        loop {
            // SAFETY: As above.
            let pos = unsafe { *ppos } & VFIO_PCI_OFFSET_MASK;
            let Some(piece) = next_piece(hidden, pos.unsigned_abs(), count - done) else {
                return done as isize;
            };
            let at = buf.wrapping_add(done);
            let (wanted, got) = match piece {
                Piece::Visible(len) => {
                    // SAFETY: A part of the buffer and of the range that VFIO passed.
                    (len, unsafe {
                        bindings::vfio_pci_core_read(vdev, at, len, ppos)
                    })
                }
                Piece::Hidden(len) => match user::clear(at.cast(), len) {
                    Ok(()) => {
                        // SAFETY: As above.
                        unsafe { *ppos += len as i64 };
                        (len, len as isize)
                    }
                    Err(error) => (len, error.to_errno() as isize),
                },
            };
            match usize::try_from(got) {
                Ok(got) if got == wanted => done += got,
                // A short read ends it; so does an error, which counts only when nothing was read.
                Ok(got) => return (done + got) as isize,
                Err(_) if done > 0 => return done as isize,
                Err(_) => return got,
            }
        }
    }
}

/// `VFIO_PCI_OFFSET_SHIFT` and its mask: the file offset holds the region above the offset in it.
const VFIO_PCI_OFFSET_SHIFT: u32 = 40;
const VFIO_PCI_OFFSET_MASK: i64 = (1 << VFIO_PCI_OFFSET_SHIFT) - 1;
