// SPDX-License-Identifier: GPL-2.0

//! DMA logging: what a vendor implements, and the VFIO callbacks.

use super::{
    device::{
        Device,
        OpenDevice, //
    },
    interval_tree,
    iova_bitmap::{
        IovaBitmap,
        IovaRange, //
    },
    pci::Operations, //
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    error::from_result,
    prelude::*, //
};

/// Logging of DMA writes. Independent of the migration state (contract L19); calls may come at any time,
/// from several threads at once, and in any order (contract F11).
pub(crate) trait DmaLogging: Operations {
    /// How many ranges the hardware can track. More of them are merged before [`Self::start`], smallest
    /// gaps first (contract L4).
    fn max_ranges(&self) -> usize;

    /// Starts to log writes to `ranges`: ascending, disjoint, aligned to `page_size`. `page_size` is what
    /// the user would like, a power of two; returns the one that is used. When that is larger the ranges
    /// are widened outward (contract L6).
    ///
    /// # Errors
    ///
    /// * `EINVAL`: active already; the running log is not disturbed (contract L7).
    /// * `EOPNOTSUPP`, `ENOSPC`, `ENOMEM`: more than the hardware or the driver can track (L8).
    fn start(dev: &OpenDevice<'_, Self>, ranges: &[IovaRange], page_size: u64) -> Result<u64>;

    /// Stops, and forgets what was not reported. Success when there is nothing to stop. Also called when
    /// the device is closed.
    ///
    /// # Errors
    ///
    /// Any; the log must be stopped as far as the user can see all the same.
    fn stop(dev: &OpenDevice<'_, Self>) -> Result;

    /// Marks in `dirty` what was written in `range` since the last report, and clears just that.
    ///
    /// `range` need not be aligned to the page size of the log (contract L10). Too much is allowed,
    /// too little never; anything unknown is dirty or an error.
    ///
    /// # Errors
    ///
    /// * `EINVAL`: not active.
    /// * Anything else means that the log is corrupt, and must stay until stop (contract L18).
    fn report(dev: &OpenDevice<'_, Self>, range: IovaRange, dirty: &mut IovaBitmap<'_>) -> Result;
}

/// Proof that `T` implements [`DmaLogging`], for [`Operations::DMA_LOGGING`].
pub(crate) struct Ops<T: Operations> {
    pub(super) vtable: &'static bindings::vfio_log_ops,
    /// Stops logging of a device that is being closed.
    ///
    /// # Safety
    ///
    /// The device is open.
    pub(super) close: unsafe fn(&Device<T>),
}

impl<T: DmaLogging> Ops<T> {
    /// The callbacks of `T`.
    pub(crate) const fn new() -> Self {
        Self {
            vtable: const { &Vtable::<T>::OPS },
            close: Vtable::<T>::close,
        }
    }
}

struct Vtable<T>(PhantomData<T>);

impl<T: DmaLogging> Vtable<T> {
    const OPS: bindings::vfio_log_ops = bindings::vfio_log_ops {
        log_start: Some(Self::start),
        log_stop: Some(Self::stop),
        log_read_and_clear: Some(Self::read_and_clear),
    };

    /// # Safety
    ///
    /// The device is open.
    unsafe fn close(device: &Device<T>) {
        // SAFETY: By the promise of the caller.
        let dev = unsafe { OpenDevice::new(device) };
        if T::stop(&dev).is_err() {
            dev_warn!(dev.pdev(), "stopping the DMA log failed\n");
        }
    }

    /// `vfio_log_ops.log_start`.
    ///
    /// # Safety
    ///
    /// VFIO calls it, from an ioctl on an open device of `T`.
    unsafe extern "C" fn start(
        vdev: *mut bindings::vfio_device,
        ranges: *mut kernel::bindings::rb_root_cached,
        nnodes: u32,
        page_size: *mut u64,
    ) -> c_int {
        from_result(|| {
            // SAFETY: VFIO calls this from an ioctl of an open device of `T`.
            let dev = unsafe { OpenDevice::new(Device::<T>::from_raw(vdev)) };
            // SAFETY: `page_size` points to the caller's variable.
            let hint = unsafe { *page_size };
            // The core has only checked the ranges against it (contract L2).
            if !hint.is_power_of_two() {
                return Err(EINVAL);
            }
            // SAFETY: VFIO passes a tree of `nnodes` interval nodes, ours for this call.
            let ranges =
                unsafe { interval_tree::copy_out(ranges, nnodes, dev.data().max_ranges())? };
            let chosen = T::start(&dev, &ranges, hint)?;
            // SAFETY: As above.
            unsafe { *page_size = chosen };
            Ok(0)
        })
    }

    /// `vfio_log_ops.log_stop`.
    ///
    /// # Safety
    ///
    /// VFIO calls it, from an ioctl on an open device of `T`.
    unsafe extern "C" fn stop(vdev: *mut bindings::vfio_device) -> c_int {
        from_result(|| {
            // SAFETY: VFIO calls this from an ioctl of an open device of `T`.
            let dev = unsafe { OpenDevice::new(Device::<T>::from_raw(vdev)) };
            T::stop(&dev)?;
            Ok(0)
        })
    }

    /// `vfio_log_ops.log_read_and_clear`.
    ///
    /// # Safety
    ///
    /// VFIO calls it, from an ioctl on an open device of `T`.
    unsafe extern "C" fn read_and_clear(
        vdev: *mut bindings::vfio_device,
        iova: c_ulong,
        length: c_ulong,
        dirty: *mut bindings::iova_bitmap,
    ) -> c_int {
        from_result(|| {
            // SAFETY: VFIO calls this from an ioctl of an open device of `T`.
            let dev = unsafe { OpenDevice::new(Device::<T>::from_raw(vdev)) };
            // The core lets length 0 through (contract L10).
            let range = IovaRange::new(iova as u64, length as u64)?;
            // SAFETY: VFIO made the bitmap for this range and this call.
            let mut dirty = unsafe { IovaBitmap::from_raw(dirty, range) };
            T::report(&dev, range, &mut dirty)?;
            Ok(0)
        })
    }
}
