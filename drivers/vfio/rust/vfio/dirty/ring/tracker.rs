// SPDX-License-Identifier: GPL-2.0

//! A log ring as a [`Tracker`].
//!
//! All calls are made under the log lock. The comments follow a DMA write W that happens at the
//! worst moment, and cite the rules of the [module](super).

use super::{
    device::{
        Config,
        Event,
        LogDevice,
        SyncScope, //
    },
    stale::Stale,
    stats::RingStats, //
};
use crate::{
    ext::lookup::Lookup,
    vfio::{
        dirty::{
            marks::Dirty,
            tracker::{
                Limits,
                Start,
                Tracker, //
            },
        },
        iova_bitmap::IovaRange,
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Parameters of the log rings of a driver.
#[derive(Clone, Copy)]
pub(crate) struct RingParams {
    /// Log2 of the number of entries of a ring, limited to what the device supports.
    pub(crate) order: u32,
}

/// State that all log rings of a function share, one after the other.
pub(crate) struct RingShared {
    /// Name of the function, for tracing.
    name: KVec<u8>,
    params: RingParams,
    /// Counters since the function was bound.
    pub(crate) stats: RingStats,
}

impl RingShared {
    /// Creates the state for the function `name`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the allocation fails.
    pub(crate) fn new(name: &CStr, params: RingParams) -> Result<Arc<Self>> {
        let mut copy = KVec::new();
        copy.extend_from_slice(name.to_bytes_with_nul(), GFP_KERNEL)?;
        let shared = Self {
            name: copy,
            params,
            stats: RingStats::new(),
        };
        Ok(Arc::new(shared, GFP_KERNEL)?)
    }

    /// Returns the name of the function, for tracing.
    pub(super) fn name(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.name).unwrap_or(c"?")
    }
}

/// Arguments of the tracker's calls.
pub(crate) struct Context<'a, D: LogDevice> {
    device: Lookup<'a, D>,
    shared: &'a Arc<RingShared>,
}

impl<'a, D: LogDevice> Context<'a, D> {
    /// Creates a context. It calls `find` on first use of the device, and not again after a
    /// success.
    pub(crate) fn new(find: &'a dyn Fn() -> Result<D>, shared: &'a Arc<RingShared>) -> Self {
        Self {
            device: Lookup::new(find),
            shared,
        }
    }
}

/// State of a log ring, for debugfs.
#[derive(Clone, Copy)]
pub(crate) struct Snapshot {
    /// Number of entries of the ring.
    pub(crate) entries: u64,
    /// The log has lost writes that no report has covered yet.
    pub(crate) lost: bool,
}

/// An active log ring.
pub(crate) struct RingTracker<D: LogDevice> {
    pub(super) device: D,
    /// Log2 of the granule in bytes.
    pub(super) shift: u32,
    /// Log2 of the number of entries of the ring.
    order: u32,
    /// Cookie of the last SYNC.
    pub(super) cookie: u64,
    /// Markers that may still come from a SYNC that was submitted again.
    pub(super) stale: Stale,
    /// A LOST entry was consumed, and the log was not re-armed since.
    pub(super) lost: bool,
    pub(super) shared: Arc<RingShared>,
}

impl<D: LogDevice> Tracker for RingTracker<D> {
    type Context<'a>
        = Context<'a, D>
    where
        D: 'a;
    type Snapshot = Snapshot;

    fn limits(cx: &Context<'_, D>) -> Result<Limits> {
        Ok(cx.device.get()?.limits()?.log)
    }

    fn start(cx: &Context<'_, D>, start: &Start<'_>) -> Result<Self> {
        let device = cx.device.get()?.clone();
        let limits = device.limits()?;
        let order = cx
            .shared
            .params
            .order
            .min(limits.order_max)
            .max(limits.order_min);
        let config = Config {
            ranges: start.ranges,
            ring_order: order,
            // At a quarter the rest of the ring lasts until the interrupt thread has woken up.
            irq_threshold: 1u32.checked_shl(order).unwrap_or(0) / 4,
            page_shift: start.page_shift,
        };
        device.start(&config, start.notify.clone())?;
        Ok(Self {
            device,
            shift: start.page_shift,
            order,
            cookie: 0,
            stale: Stale::default(),
            lost: false,
            shared: cx.shared.clone(),
        })
    }

    fn add(&mut self, _cx: &Context<'_, D>, range: IovaRange) -> Result {
        self.device.add(range)
    }

    fn collect(&mut self, _cx: &Context<'_, D>, range: IovaRange, dirty: &mut Dirty<'_>) -> Result {
        // Rule 5. If W was visible before this read, its entry is posted, is within the count, and
        // is drained below. If W becomes visible later, its entry stays for the next report.
        let posted = self.device.posted()?;
        self.drain_to(posted, dirty)?;

        // Rule 6. If W was not logged because the ring was full, the LOST entry was posted before
        // W, and has now been consumed, by this drain or an earlier one. The SYNC of all ranges
        // also serves this report: nothing behind its marker is consumed.
        if self.lost {
            return self.rearm(dirty);
        }

        if !dirty.any(range) {
            return Ok(());
        }
        // The bits in the range come from entries that this or an earlier drain has consumed, and
        // the filter suppresses further writes to those granules. If the bits were reported now, a
        // W after the user's copy would be filtered and never reported. So the filter is cleared
        // first. If W comes before the marker, it is visible now, and the user copies it after this
        // report. If W comes after the marker, it is logged again, behind the marker, where nothing
        // is consumed under this hold of the lock (rule 4).
        //
        // A report that ends early has cleared the filter all the same, which costs one more entry
        // for each granule that is written again.
        self.sync(SyncScope::Range(range), dirty)?;
        // The ring has filled up before the marker.
        if self.lost {
            self.rearm(dirty)?;
        }
        Ok(())
    }

    /// Consumes all entries. Those behind the marker of an earlier report wait in the bitmap for
    /// the next report.
    fn drain(&mut self, dirty: &mut Dirty<'_>) -> Result {
        self.drain_from_interrupt(dirty)
    }

    fn stop(self, _cx: &Context<'_, D>) -> Result {
        match self.device.stop() {
            // The log has ended with the device.
            Err(error) if error == ENOTCONN => Ok(()),
            result => result,
        }
    }

    fn settle(cx: &Context<'_, D>) -> Result {
        match cx.device.get() {
            Ok(device) => device.settle(),
            // A fatal signal, before anything was done.
            Err(error) if error == EINTR => Err(error),
            // The log has ended with the device.
            Err(_) => Ok(()),
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            entries: 1u64.checked_shl(self.order).unwrap_or(0),
            lost: self.lost,
        }
    }
}

impl<D: LogDevice> RingTracker<D> {
    /// Re-arms the log after LOST was consumed (rule 6): submits a SYNC of all ranges, drains to
    /// its marker, and only then marks all ranges dirty.
    ///
    /// If W comes before the marker, it may not have been logged. It is visible before the marks
    /// are set, so the report that takes the marks covers it. If W comes after the marker, it is
    /// logged again. Marks that were set before the SYNC would miss a W in between.
    fn rearm(&mut self, dirty: &mut Dirty<'_>) -> Result {
        let count = self.shared.stats.lost();
        self.device.trace(self.shared.name(), Event::Lost { count });
        self.sync(SyncScope::All, dirty)?;
        self.lost = false;
        dirty.mark_all();
        Ok(())
    }
}
