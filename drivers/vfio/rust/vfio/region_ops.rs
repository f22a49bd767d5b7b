// SPDX-License-Identifier: GPL-2.0

//! The callbacks of `struct vfio_device_ops` for the regions of an open device. They call the hooks
//! of [`Operations`], which by default forward to vfio-pci-core.

use super::{
    bar::{
        BarSet,
        BARS, //
    },
    call::{
        Ioctl,
        Mmap,
        RegionInfo, //
    },
    pci::{Device, OpenDevice, Operations},
    region::{
        Read,
        Write, //
    },
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    error::from_result,
    prelude::*, //
};

/// The region callbacks of `T`.
pub(super) struct RegionOps<T>(PhantomData<T>);

/// Makes `bars` unmappable: region info does not offer to map them, and mapping them fails with
/// `EINVAL`. Called each time the device was enabled.
///
/// # Safety
///
/// `core` is a device that was just enabled and that no user can access yet.
pub(super) unsafe fn trap(core: *mut bindings::vfio_pci_core_device, bars: BarSet) {
    for number in 0..BARS {
        if bars.contains(number) {
            // SAFETY: By the requirements of this function; `number` is a valid index.
            unsafe { (*core).bar_mmap_supported[number as usize] = false };
        }
    }
}

impl<T: Operations> RegionOps<T> {
    /// Allows BARs to be exported as dma-bufs, so that a VMM can map them for peer-to-peer DMA
    /// (contract P12). Trapped BARs are refused.
    #[cfg(CONFIG_VFIO_PCI_DMABUF)]
    pub(super) const PCI_OPS: bindings::vfio_pci_device_ops = bindings::vfio_pci_device_ops {
        get_dmabuf_phys: Some(Self::get_dmabuf_phys),
    };

    /// `vfio_pci_device_ops.get_dmabuf_phys`.
    ///
    /// # Safety
    ///
    /// vfio-pci-core calls it, on an open device of `T`.
    #[cfg(CONFIG_VFIO_PCI_DMABUF)]
    unsafe extern "C" fn get_dmabuf_phys(
        core: *mut bindings::vfio_pci_core_device,
        provider: *mut *mut bindings::p2pdma_provider,
        region: c_uint,
        places: *mut kernel::bindings::phys_vec,
        ranges: *mut bindings::vfio_region_dma_range,
        count: usize,
    ) -> c_int {
        // SAFETY: The core device begins with its `vfio_device`, which is one of `T`.
        let device = unsafe { Device::<T>::from_raw(core.cast()) };
        if device.trapped.contains(region) {
            return EINVAL.to_errno();
        }
        // SAFETY: The arguments are those that the core passed.
        unsafe {
            bindings::vfio_pci_core_get_dmabuf_phys(core, provider, region, places, ranges, count)
        }
    }

    /// `vfio_device_ops.read`.
    ///
    /// # Safety
    ///
    /// VFIO calls it, on an open device of `T`.
    pub(super) unsafe extern "C" fn read(
        vdev: *mut bindings::vfio_device,
        buf: *mut c_char,
        count: usize,
        ppos: *mut kernel::bindings::loff_t,
    ) -> isize {
        // SAFETY: By the requirements of this function; `ppos` points to the caller's variable,
        // which no other thread uses.
        let (dev, ppos) = unsafe { (open::<T>(vdev), &mut *ppos) };
        let hidden = dev.data().get_ref().masked_config();
        // SAFETY: VFIO passed the arguments, and the hook returns before this does.
        let read = unsafe { Read::new(vdev, buf.addr(), count, *ppos, hidden) };
        answer(T::read(&dev, read), ppos)
    }

    /// `vfio_device_ops.write`.
    ///
    /// # Safety
    ///
    /// VFIO calls it, on an open device of `T`.
    pub(super) unsafe extern "C" fn write(
        vdev: *mut bindings::vfio_device,
        buf: *const c_char,
        count: usize,
        ppos: *mut kernel::bindings::loff_t,
    ) -> isize {
        // SAFETY: By the requirements of this function; `ppos` points to the caller's variable,
        // which no other thread uses.
        let (dev, ppos) = unsafe { (open::<T>(vdev), &mut *ppos) };
        let hidden = dev.data().get_ref().masked_config();
        // SAFETY: VFIO passed the arguments, and the hook returns before this does.
        let write = unsafe { Write::new(vdev, buf.addr(), count, *ppos, hidden) };
        answer(T::write(&dev, write), ppos)
    }

    /// `vfio_device_ops.ioctl`.
    ///
    /// # Safety
    ///
    /// VFIO calls it, on an open device of `T`.
    pub(super) unsafe extern "C" fn ioctl(
        vdev: *mut bindings::vfio_device,
        command: c_uint,
        argument: c_ulong,
    ) -> c_long {
        // SAFETY: By the requirements of this function.
        let dev = unsafe { open::<T>(vdev) };
        let trapped = !dev.trapped().is_empty();
        // SAFETY: VFIO passed the arguments, and the hook returns before this does.
        let ioctl = unsafe { Ioctl::new(vdev, command, argument, trapped) };
        match T::ioctl(&dev, ioctl) {
            Ok(value) => value,
            // CAST: An errno fits.
            Err(error) => error.to_errno() as c_long,
        }
    }

    /// `vfio_device_ops.mmap`.
    ///
    /// # Safety
    ///
    /// VFIO calls it, on an open device of `T`, with the write lock of the area's memory map held.
    pub(super) unsafe extern "C" fn mmap(
        vdev: *mut bindings::vfio_device,
        area: *mut kernel::bindings::vm_area_struct,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the requirements of this function.
            let dev = unsafe { open::<T>(vdev) };
            // SAFETY: The area is being created and only this call uses it.
            let area = unsafe { &mut *area };
            let mmap = Mmap { vdev, area };
            if dev.trapped().contains(mmap.region()) {
                return Err(EINVAL);
            }
            T::mmap(&dev, mmap).map(|()| 0)
        })
    }

    /// `vfio_device_ops.get_region_info_caps`.
    ///
    /// # Safety
    ///
    /// VFIO calls it, on an open device of `T`.
    pub(super) unsafe extern "C" fn region_info(
        vdev: *mut bindings::vfio_device,
        info: *mut bindings::vfio_region_info,
        caps: *mut bindings::vfio_info_cap,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the requirements of this function.
            let dev = unsafe { open::<T>(vdev) };
            // SAFETY: `info` points to the caller's variable.
            let info = unsafe { &mut *info };
            T::region_info(&dev, RegionInfo { vdev, info, caps }).map(|_| 0)
        })
    }
}

/// Makes the view of an open device for the hooks.
///
/// # Safety
///
/// `vdev` is an open device of `T`, and stays so for `'a`.
unsafe fn open<'a, T: Operations>(vdev: *mut bindings::vfio_device) -> OpenDevice<'a, T> {
    // SAFETY: By the requirements of this function.
    unsafe { OpenDevice::new(Device::<T>::from_raw(vdev)) }
}

/// Converts the result of a read or write, and advances the file position by the bytes done.
fn answer(result: Result<usize>, ppos: &mut i64) -> isize {
    match result {
        Ok(done) => {
            // CAST: The VFS limits a transfer to `MAX_RW_COUNT`, which fits.
            *ppos = ppos.saturating_add(done as i64);
            done as isize
        }
        Err(error) => error.to_errno() as isize,
    }
}
