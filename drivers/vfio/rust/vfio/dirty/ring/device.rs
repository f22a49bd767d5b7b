// SPDX-License-Identifier: GPL-2.0

//! The trait of a device with a log ring.

use super::{
    memory::Until,
    piece::{
        Flow,
        Piece, //
    },
};
use crate::vfio::{
    dirty::tracker::{
        Limits,
        Notify, //
    },
    iova_bitmap::IovaRange,
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The limits of a device with a log ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingLimits {
    /// The limits of its log.
    pub(crate) log: Limits,
    /// Log2 of the number of entries of the smallest ring.
    pub(crate) order_min: u32,
    /// Log2 of the number of entries of the largest ring.
    pub(crate) order_max: u32,
}

/// The arguments of [`LogDevice::start`].
#[derive(Clone, Copy)]
pub(crate) struct Config<'a> {
    /// Ranges to track.
    pub(crate) ranges: &'a [IovaRange],
    /// Log2 of the number of entries of the ring.
    pub(crate) ring_order: u32,
    /// Number of unconsumed entries at which the device raises the interrupt.
    pub(crate) irq_threshold: u32,
    /// Log2 of the granule in bytes.
    pub(crate) page_shift: u32,
}

/// Scope of a SYNC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SyncScope {
    /// All tracked ranges. The SYNC also re-arms the log after LOST.
    All,
    /// One range.
    Range(IovaRange),
}

/// An event of the log, for tracepoints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// The driver has consumed the marker of a SYNC.
    Sync {
        /// Scope of the SYNC.
        scope: SyncScope,
        /// Time since the command was submitted, in nanoseconds.
        latency_ns: u64,
    },
    /// The driver has consumed entries.
    Drain {
        /// Their number.
        entries: u32,
        /// Number of granules that they name.
        granules: u64,
        /// An interrupt asked for the drain, not a report.
        irq: bool,
    },
    /// A report has found that the log lost writes.
    Lost {
        /// How often that has happened since the function was bound.
        count: u64,
    },
}

/// A device with a log ring. The handle is cheap to clone.
///
/// [`RingTracker`](super::tracker::RingTracker) calls these functions with the log lock held,
/// except for `limits`. Any of them returns `ENOTCONN` if the device is gone.
///
/// # Examples
///
/// A device whose log is driven by commands of its management function. `Function` is the handle
/// for them. From `drivers/vfio/pci/dlr/vf/tracker.rs`:
///
/// ```ignore
/// impl LogDevice for Function {
///     type Ticket = Ticket;
///
///     const COOKIE_BITS: u32 = COOKIE_BITS;
///
///     // …
///     fn stop(&self) -> Result {
///         self.set_client(None);
///         self.log_stop()
///     }
///
///     // …
///     fn posted(&self) -> Result<u32> {
///         Function::posted(self)
///     }
///
///     fn drain(&self, until: Until, sink: impl FnMut(Piece<'_>) -> Flow) -> Result<u32> {
///         Function::drain(self, until, sink).map(|drained| drained.entries)
///     }
///
///     // …
///     fn sync_wait(&self, ticket: &Ticket) -> Result<bool> {
///         Function::sync_wait(self, ticket)
///     }
///
///     fn sync_found(&self, ticket: Ticket) -> u32 {
///         ticket.retire()
///     }
/// }
/// ```
pub(crate) trait LogDevice: Clone + Unpin {
    /// A SYNC that was submitted.
    type Ticket;

    /// Number of bits of the cookie of a SYNC.
    const COOKIE_BITS: u32;

    /// Returns the limits of the device.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if it has no log.
    fn limits(&self) -> Result<RingLimits>;

    /// Starts the log. The implementation passes interrupts and resets to `notify` from before the
    /// device starts, so that the first of them finds it, until [`Self::stop`].
    ///
    /// # Errors
    ///
    /// After an error `notify` is not called any more.
    fn start(&self, config: &Config<'_>, notify: Option<Arc<dyn Notify>>) -> Result;

    /// Stops the log. Ignores signals and takes seconds at most.
    fn stop(&self) -> Result;

    /// Stops the log if an earlier [`Self::start`] or [`Self::stop`] has failed.
    fn settle(&self) -> Result;

    /// Reads the number of entries that the device has posted since [`Self::start`] (rule 5). Does
    /// not sleep.
    fn posted(&self) -> Result<u32>;

    /// Consumes entries up to `until`, or until `sink` stops the drain, and returns their number.
    fn drain(&self, until: Until, sink: impl FnMut(Piece<'_>) -> Flow) -> Result<u32>;

    /// Adds a range to those that the device tracks.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the device has no room for it.
    fn add(&self, range: IovaRange) -> Result;

    /// Submits a SYNC.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if it was not submitted for lack of memory.
    fn sync_submit(&self, scope: SyncScope, cookie: u64) -> Result<Self::Ticket>;

    /// Sleeps until the SYNC is complete (`true`) or entries may have come (`false`).
    ///
    /// # Errors
    ///
    /// `EBUSY` if the device had no room for the marker in time: it has not cleared the filter.
    fn sync_wait(&self, ticket: &Self::Ticket) -> Result<bool>;

    /// Drops the command after its marker was found. Returns how many more of its markers may come,
    /// because the command was submitted again.
    fn sync_found(&self, ticket: Self::Ticket) -> u32;

    /// Traces an event of the log of the function `name`.
    fn trace(&self, name: &CStr, event: Event) {
        let _ = (name, event);
    }
}
