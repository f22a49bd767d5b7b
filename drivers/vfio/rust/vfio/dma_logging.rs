// SPDX-License-Identifier: GPL-2.0

//! DMA logging: the traits of a driver, and the callbacks of `struct vfio_log_ops`.
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h)

pub(crate) use super::hooks::LoggingOps as Ops;
use super::{
    dirty::{
        log::Log,
        tracker::Tracker, //
    },
    hooks::LoggingOps,
    interval_tree,
    iova_bitmap::{
        IovaBitmap,
        IovaRange, //
    },
    pci::{Device, OpenDevice, Operations},
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    error::from_result,
    prelude::*,
    sync::Arc, //
};

/// Logging of DMA writes. It is independent of the migration state (contract L19). VFIO may call
/// the functions at any time, in any order and from several threads at once (contract F11).
pub(crate) trait DmaLogging: Operations {
    /// Returns the number of ranges that the hardware can track. If the user passes more, the layer
    /// merges them before [`Self::start`], smallest gaps first (contract L4).
    fn max_ranges(&self) -> usize;

    /// Starts to log writes to `ranges`, which are ascending, disjoint and aligned to `page_size`.
    /// `page_size` is the user's hint, a power of two. Returns the page size that is used; if it is
    /// larger, the ranges are widened outward (contract L6).
    ///
    /// # Errors
    ///
    /// * `EINVAL`: logging is active already; the running log is not changed (contract L7).
    /// * `EOPNOTSUPP`, `ENOSPC`, `ENOMEM`: the hardware or the driver cannot track the ranges
    ///   (contract L8).
    fn start(dev: &OpenDevice<'_, Self>, ranges: &[IovaRange], page_size: u64) -> Result<u64>;

    /// Stops logging and discards what was not reported. Succeeds when logging is not active.
    ///
    /// # Errors
    ///
    /// `EINTR` if a fatal signal came before anything was done. Any other error is returned to the
    /// user as well. The log must be inactive for the user even then.
    fn stop(dev: &OpenDevice<'_, Self>) -> Result;

    /// Like [`Self::stop`], when the device is closed: no other function of this trait runs, and no
    /// signal may keep the log active.
    ///
    /// # Errors
    ///
    /// Any error is logged.
    fn end(dev: &OpenDevice<'_, Self>) -> Result;

    /// Marks in `dirty` what was written in `range` since the last report, and clears it in the log
    /// after that. When marking fails, the log is not cleared and the report fails with that error,
    /// so that a later report, possibly of another process that has the device open, still returns
    /// the bits.
    ///
    /// `range` need not be aligned to the page size of the log (contract L10). The report may mark
    /// more than was written, but never less: what is not known is marked dirty or is an error.
    ///
    /// # Errors
    ///
    /// * `EINVAL`: logging is not active.
    /// * The error of [`DirtySink::set_run`](super::iova_bitmap::DirtySink::set_run): the log is
    ///   complete, and the next report may succeed.
    /// * Any other error means that the log is incomplete, and every report must fail with it until
    ///   [`Self::stop`] (contract L18).
    fn report(dev: &OpenDevice<'_, Self>, range: IovaRange, dirty: &mut IovaBitmap<'_>) -> Result;

    /// Called when an error of the PCI channel has taken the state of the function, also if logging
    /// is not active. Every report must fail until [`Self::stop`], and no log may begin before the
    /// next [`Self::after_reset`]. This may only set flags: the caller may hold any lock, and the
    /// hardware may not respond (contract S17).
    fn lost(&self);

    /// Called after the function was reset. It may only set flags, as [`Self::lost`].
    fn after_reset(&self);
}

/// A device whose DMA writes a [`Tracker`] logs and a [`Log`] keeps. The tracker needs the open
/// device itself. Implements [`DmaLogging`].
///
/// # Examples
///
/// From `samples/vfio/edu.rs`:
///
/// ```ignore
/// impl Logged for Edu {
///     type Tracker = EduLog;
///
///     fn log(&self) -> &Arc<Log<EduLog>> {
///         &self.log
///     }
/// }
/// ```
pub(crate) trait Logged: Operations {
    /// The tracker of the hardware.
    type Tracker: for<'a> Tracker<Context<'a> = OpenDevice<'a, Self>> + Send + 'static;

    /// Returns the log of the device. Every call must return the same log, which no other device
    /// has. With another one the layer would report the writes of another device, and lose pages;
    /// memory safety does not depend on it.
    fn log(&self) -> &Arc<Log<Self::Tracker>>;
}

/// As [`Logged`], for a tracker with a context of another type, which is made for each call.
pub(crate) trait LoggedWith: Operations {
    /// The tracker of the hardware.
    type Tracker: Tracker + Send + 'static;

    /// Returns the log of the device. See [`Logged::log`] for what another one would cost.
    fn log(&self) -> &Arc<Log<Self::Tracker>>;

    /// Calls `f` with the context of the tracker.
    fn with_context<R>(
        dev: &OpenDevice<'_, Self>,
        f: impl FnOnce(&<Self::Tracker as Tracker>::Context<'_>) -> R,
    ) -> R;
}

impl<T: Logged> LoggedWith for T {
    type Tracker = <T as Logged>::Tracker;

    fn log(&self) -> &Arc<Log<Self::Tracker>> {
        Logged::log(self)
    }

    fn with_context<R>(
        dev: &OpenDevice<'_, Self>,
        f: impl FnOnce(&OpenDevice<'_, Self>) -> R,
    ) -> R {
        f(dev)
    }
}

impl<T: LoggedWith> DmaLogging for T {
    /// Has no limit, because the log itself merges the ranges, after it has widened them.
    fn max_ranges(&self) -> usize {
        usize::MAX
    }

    fn start(dev: &OpenDevice<'_, Self>, ranges: &[IovaRange], page_size: u64) -> Result<u64> {
        let log = dev.data().get_ref().log().as_arc_borrow();
        T::with_context(dev, |cx| log.start(cx, ranges, page_size))
    }

    fn stop(dev: &OpenDevice<'_, Self>) -> Result {
        let log = dev.data().get_ref().log();
        T::with_context(dev, |cx| log.stop(cx))
    }

    fn end(dev: &OpenDevice<'_, Self>) -> Result {
        let log = dev.data().get_ref().log();
        T::with_context(dev, |cx| log.close(cx))
    }

    fn report(dev: &OpenDevice<'_, Self>, range: IovaRange, dirty: &mut IovaBitmap<'_>) -> Result {
        let log = dev.data().get_ref().log();
        T::with_context(dev, |cx| log.report(cx, range, dirty))
    }

    fn lost(&self) {
        self.log().lose();
    }

    fn after_reset(&self) {
        self.log().reset_done();
    }
}

impl<T: DmaLogging> LoggingOps<T> {
    /// Makes the table of the callbacks of `T`.
    pub(crate) const fn new() -> Self {
        Self {
            vtable: const { &Vtable::<T>::OPS },
            lost: T::lost,
            reset_done: T::after_reset,
            close: Vtable::<T>::close,
            driver: PhantomData,
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
    /// `vdev` is an open device of `T`.
    unsafe fn close(vdev: *mut bindings::vfio_device) {
        // SAFETY: By the requirements of this function.
        let dev = unsafe { OpenDevice::new(Device::<T>::from_raw(vdev)) };
        if T::end(&dev).is_err() {
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
            // The core has only checked that the ranges are aligned to it (contract L2).
            if !hint.is_power_of_two() {
                return Err(EINVAL);
            }
            // SAFETY: VFIO passes a tree of `nnodes` interval nodes that nothing else uses during
            // this call.
            let ranges =
                unsafe { interval_tree::copy_out(ranges, nnodes, dev.data().max_ranges())? };
            let chosen = T::start(&dev, &ranges, hint)?;
            // SAFETY: `page_size` points to the caller's variable.
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
            // `new` refuses length 0, which the core does not check (contract L10).
            let range = IovaRange::new(iova as u64, length as u64)?;
            // SAFETY: VFIO made the bitmap for this range and this call.
            let mut dirty = unsafe { IovaBitmap::from_raw(dirty, range) };
            T::report(&dev, range, &mut dirty)?;
            Ok(0)
        })
    }
}
