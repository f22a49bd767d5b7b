// SPDX-License-Identifier: GPL-2.0

//! The log ring as a [`Tracker`] of the layer's log.
//!
//! All calls are made under the log lock. The comments follow a DMA write W that happens at the
//! worst moment. Rules are those of section "Dirty log" in `dlr-contract.rst`.

use super::{
    device::LogDevice,
    stale::Stale,
    stats::RingStats, //
};
use crate::{
    kext::{
        gfp,
        lookup::Lookup, //
    },
    mgmt::{
        Client,
        LogConfig, //
    },
    proto::{
        identify::Cap,
        Range,
        SyncScope, //
    },
    trace,
    vfio::{
        dirty::{
            marks::Dirty,
            tracker::{
                Limits,
                Notify,
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

/// Module parameters of a log.
#[derive(Clone, Copy)]
pub(crate) struct LogParams {
    /// Log2 of the number of entries of a ring, limited to what the device supports.
    pub(crate) ring_order: u32,
}

/// State that all log rings of a function share, one after the other.
pub(crate) struct RingShared {
    /// Name of the function, for tracing.
    name: KVec<u8>,
    params: LogParams,
    /// Counters since the function was bound.
    pub(crate) stats: RingStats,
}

impl RingShared {
    /// Creates the state for the function `name`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the allocation fails.
    pub(crate) fn new(name: &CStr, params: LogParams) -> Result<Arc<Self>> {
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
pub(crate) struct Ring<D: LogDevice> {
    pub(super) device: D,
    pub(super) shift: u32,
    order: u32,
    pub(super) cookie: u64,
    /// Markers that may still come from a SYNC that was submitted again.
    pub(super) stale: Stale,
    /// A LOST entry was consumed, and the log was not re-armed since.
    pub(super) lost: bool,
    pub(super) shared: Arc<RingShared>,
}

impl<D: LogDevice> Tracker for Ring<D> {
    type Context<'a>
        = Context<'a, D>
    where
        D: 'a;
    type Snapshot = Snapshot;

    fn limits(cx: &Context<'_, D>) -> Result<Limits> {
        let info = cx.device.get()?.info();
        if !info.caps.contains(Cap::Log) {
            return Err(EOPNOTSUPP);
        }
        Ok(Limits {
            page_shift_min: info.page_shift_min,
            page_shift_max: info.page_shift_max,
            max_ranges: info.max_ranges as usize,
            iova_bits: info.iova_bits,
        })
    }

    fn start(cx: &Context<'_, D>, start: &Start<'_>) -> Result<Self> {
        let device = cx.device.get()?.clone();
        let info = *device.info();
        let order = cx
            .shared
            .params
            .ring_order
            .min(info.ring_order_max)
            .max(info.ring_order_min);
        let mut ranges = KVec::with_capacity(start.ranges.len(), gfp::USER)?;
        for range in start.ranges {
            ranges.push(to_device(*range), gfp::USER)?;
        }
        let client = match &start.notify {
            Some(notify) => {
                let client: Arc<dyn Client> = Arc::new(Events(notify.clone()), gfp::USER)?;
                Some(client)
            }
            None => None,
        };
        // The client must be set before the device starts, so that the first interrupt finds it.
        device.set_client(client);
        let config = LogConfig {
            ranges: &ranges,
            ring_order: order,
            // At a quarter the rest of the ring lasts until the interrupt thread has woken up.
            irq_threshold: 1u32.checked_shl(order).unwrap_or(0) / 4,
            page_shift: start.page_shift,
        };
        if let Err(error) = device.log_start(&config) {
            device.set_client(None);
            return Err(error);
        }
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
        self.device.log_add(to_device(range))
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
        self.sync(SyncScope::Range(to_device(range)), dirty)?;
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
        self.device.set_client(None);
        match self.device.log_stop() {
            // The log has ended with the management function.
            Err(error) if error == ENOTCONN => Ok(()),
            result => result,
        }
    }

    fn settle(cx: &Context<'_, D>) -> Result {
        match cx.device.get() {
            Ok(device) => device.log_settle(),
            // A fatal signal, before anything was done.
            Err(error) if error == EINTR => Err(error),
            // The log has ended with the management function.
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

impl<D: LogDevice> Ring<D> {
    /// Re-arms the log after LOST was consumed (rule 6): submits a SYNC of all ranges, drains to
    /// its marker, and only then marks all ranges dirty.
    ///
    /// If W comes before the marker, it may not have been logged. It is visible before the marks
    /// are set, so the report that takes the marks covers it. If W comes after the marker, it is
    /// logged again. Marks that were set before the SYNC would miss a W in between.
    fn rearm(&mut self, dirty: &mut Dirty<'_>) -> Result {
        trace::log_lost(self.shared.name(), self.shared.stats.lost());
        self.sync(SyncScope::All, dirty)?;
        self.lost = false;
        dirty.mark_all();
        Ok(())
    }
}

/// Passes the callbacks of the management function to the log.
struct Events(Arc<dyn Notify>);

impl Client for Events {
    /// Called in the interrupt thread when the ring has entries. Does not wait for a report.
    fn log_ready(&self) {
        self.0.ready();
    }

    /// Called when the management function was reset or suspended, which has ended the log.
    fn ended(&self) {
        self.0.poison();
    }

    /// Called when the management function is gone. There is nothing to do: the handle fails with
    /// `ENOTCONN`, and a report that was sleeping in it has been woken with the same error.
    fn lost(&self) {}
}

/// Converts a range of the layer to a range of the contract.
fn to_device(range: IovaRange) -> Range {
    Range {
        iova: range.iova(),
        length: range.length(),
    }
}
