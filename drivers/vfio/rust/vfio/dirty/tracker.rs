// SPDX-License-Identifier: GPL-2.0

//! The trait of a device that logs its DMA writes.

use super::marks::Dirty;
use crate::vfio::iova_bitmap::IovaRange;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The limits of the hardware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    /// Log2 of the smallest granule in bytes.
    pub(crate) page_shift_min: u32,
    /// Log2 of the largest granule in bytes.
    pub(crate) page_shift_max: u32,
    /// Number of ranges that the hardware can track.
    pub(crate) max_ranges: usize,
    /// Number of address bits that the hardware can track.
    pub(crate) iova_bits: u32,
}

impl Limits {
    /// The limits of a driver that keeps the log itself and so tracks any address, in granules of
    /// 4 KiB to 1 GiB.
    pub(crate) const UNLIMITED: Self = Self {
        page_shift_min: 12,
        page_shift_max: 30,
        max_ranges: 256,
        iova_bits: 64,
    };
}

/// The arguments of [`Tracker::start`].
pub(crate) struct Start<'a> {
    /// The ranges to track: disjoint, ascending, of whole granules, and within the [`Limits`].
    pub(crate) ranges: &'a [IovaRange],
    /// Log2 of the granule in bytes, within the [`Limits`].
    pub(crate) page_shift: u32,
    /// The log, which the driver calls on interrupts and resets of the hardware. `None` in tests.
    pub(crate) notify: Option<Arc<dyn Notify>>,
}

/// The calls of a driver to its log from outside of the methods of its [`Tracker`].
pub(crate) trait Notify: Send + Sync {
    /// Requests a call of [`Tracker::drain`] because the hardware has logged writes. The call comes
    /// between two reports, from this function or from the holder of the log lock. Does not wait
    /// for a report, but may sleep. Must not be called from a method of the tracker.
    fn ready(&self);

    /// Marks the log as incomplete because the hardware was reset or its PCI channel has failed.
    /// Each report that has not ended yet, and each later one until STOP, fails with `EIO`. So call
    /// this before the hardware loses its log. Can be called from any context.
    fn poison(&self);
}

/// The log of the hardware, from START to STOP. `samples/vfio/edu.rs` implements this for a device
/// that keeps no log itself.
///
/// The layer calls all methods but `limits` with the log lock held, so one at a time. They may
/// sleep. The waits of `add` and `collect` must end for a fatal signal, and those of `stop` and
/// `settle` within seconds.
///
/// The layer implements the rest of `struct vfio_log_ops` (`include/linux/vfio.h`) and of
/// `VFIO_DEVICE_FEATURE_DMA_LOGGING_*` (`include/uapi/linux/vfio.h`). It merges the ranges of the
/// user to the number that the hardware supports, keeps what was logged until it is reported, adds
/// ranges that only a report asks for, and keeps an error until STOP.
///
/// # Examples
///
/// A tracker that names the memory of each copy that the device has begun since the last report.
/// From `samples/vfio/edu.rs`:
///
/// ```ignore
///     fn collect(
///         &mut self,
///         cx: &OpenDevice<'_, Edu>,
///         _range: IovaRange,
///         dirty: &mut Dirty<'_>,
///     ) -> Result {
///         let mut bar = cx.bar(BAR)?;
///         let mut writes = cx.data().get_ref().writes.lock();
///         // Read before the marks are set: a copy that ends later is reported once more.
///         let running = is_running(&bar.hold()?)?;
///         // The device makes one copy at a time.
///         writes.report_in_order(usize::from(running), dirty);
///         Ok(())
///     }
///
///     fn stop(self, cx: &OpenDevice<'_, Edu>) -> Result {
///         cx.data().get_ref().writes.lock().stop();
///         Ok(())
///     }
/// ```
pub(crate) trait Tracker: Sized + Unpin {
    /// The context of calls on behalf of a user, for example an
    /// [`OpenDevice`](crate::vfio::OpenDevice).
    type Context<'a>
    where
        Self: 'a;

    /// The state of the tracker for debugfs.
    type Snapshot: Copy + Send + Unpin;

    /// Returns the limits of the hardware. Called without the log lock.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the hardware cannot log. START fails with any error.
    fn limits(cx: &Self::Context<'_>) -> Result<Limits>;

    /// Starts to log. A later [`Self::collect`] must find every write that becomes visible in
    /// memory after this returns.
    ///
    /// # Errors
    ///
    /// START fails with any error.
    fn start(cx: &Self::Context<'_>, start: &Start<'_>) -> Result<Self>;

    /// Tracks `range` from the time when this returns. `range` has whole granules, is within
    /// [`Limits::iova_bits`] and is not tracked yet. Together with those of START there are at most
    /// [`Limits::max_ranges`].
    ///
    /// # Errors
    ///
    /// * `ENOSPC`: the hardware takes no more ranges, and the layer adds none any more. Every
    ///   report of `range` is dirty.
    /// * `ENOMEM`: the layer reports `range` dirty and tries again on the next report.
    /// * Any other: the log is incomplete.
    fn add(&mut self, cx: &Self::Context<'_>, range: IovaRange) -> Result;

    /// Marks in `dirty` what the hardware has logged, for a report of `range`, which has whole
    /// granules.
    ///
    /// * When this returns, every write that was visible in memory before the call is marked, by
    ///   this or an earlier call.
    /// * A later call must find a write that becomes visible after this returns, also to a granule
    ///   of `range` that is marked. Hardware that filters repeated writes to a granule must be told
    ///   here to log them again. That is needed only if [`Dirty::any`] holds for `range`, because a
    ///   report of a clean range clears no granule.
    ///
    /// If the log of the hardware is incomplete, mark all granules ([`Dirty::mark_all`]) or return
    /// an error.
    ///
    /// # Errors
    ///
    /// * `ENOMEM`: there is no memory for the commands, and a later call must still find all
    ///   writes. The layer reports all of `range` dirty and does not clear it.
    /// * Any other: the log is incomplete.
    fn collect(
        &mut self,
        cx: &Self::Context<'_>,
        range: IovaRange,
        dirty: &mut Dirty<'_>,
    ) -> Result;

    /// Marks in `dirty` what the hardware has logged until now. Called after [`Notify::ready`],
    /// between two reports.
    ///
    /// # Errors
    ///
    /// Any error means that the log is incomplete.
    fn drain(&mut self, dirty: &mut Dirty<'_>) -> Result {
        let _ = dirty;
        Ok(())
    }

    /// Stops the log of the hardware.
    ///
    /// # Errors
    ///
    /// Any error is returned to the user. The log counts as stopped.
    fn stop(self, cx: &Self::Context<'_>) -> Result;

    /// Ends what is left of a [`Self::start`] or [`Self::stop`] that has failed. Called on STOP and
    /// close when the log is not active.
    ///
    /// # Errors
    ///
    /// Any error is returned to the user.
    fn settle(cx: &Self::Context<'_>) -> Result {
        let _ = cx;
        Ok(())
    }

    /// Returns the state of the tracker, for debugfs.
    fn snapshot(&self) -> Self::Snapshot;
}
