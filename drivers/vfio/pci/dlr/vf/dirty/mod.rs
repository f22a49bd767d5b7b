// SPDX-License-Identifier: GPL-2.0

//! Dirty logging of one function: START, STOP and REPORT on top of its log ring.
//!
//! ```text
//!  device ──▶ ring ──drain──▶ DirtyBitmap ──harvest──▶ user's bitmap
//!             (entries)        (what no report has taken yet)
//! ```
//!
//! # Lock
//!
//! Everything is under the *log lock*, the mutex of [`Logging`]. It is taken by the
//! ioctls and by the threaded interrupt of the ring, never together with the state
//! lock and never by a reset: a report does not wait for a state change, a state
//! change does not wait for a report, and a reset, which may hold `memory_lock`,
//! never waits for a report that faults in user memory (contract K2). Waits under
//! it are killable and have the deadline of an admin command.
//!
//! # What the state says
//!
//! A session lives from START to STOP or close, whatever happens to the migration
//! state or the function meanwhile (rule 8). An error is kept: the log is corrupt
//! from then on, and all reports say so until STOP (contract L18).

pub(crate) mod bitmap;
mod chunk;
mod coarse;
mod device;
#[cfg(CONFIG_KUNIT = "y")]
mod model;
mod ranges;
mod session;
pub(crate) mod span;
mod stats;

use crate::{
    mgmt::{
        Client,
        Function, //
    },
    vfio::iova_bitmap::{
        DirtySink,
        IovaRange, //
    },
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, ArcBorrow, Mutex,
    },
};
use session::Session;
pub(crate) use stats::LogStats;

/// What a user may choose about a log when the module is loaded.
#[derive(Clone, Copy)]
pub(crate) struct LogParams {
    /// Log2 of the entries of a ring; brought into the bounds of the device.
    pub(crate) ring_order: u32,
}

/// The log of one function. Lives as long as the VFIO device.
#[pin_data]
pub(crate) struct Logging {
    name: KVec<u8>,
    params: LogParams,
    /// The PCI channel failed: set without the lock, seen by the next report.
    poisoned: Atomic<bool>,
    pub(crate) stats: LogStats,
    #[pin]
    session: Mutex<Option<Session<Function>>>,
}

impl Logging {
    /// A log that is off. `name` is the function's, for tracing.
    pub(crate) fn new(name: &CStr, params: LogParams) -> Result<Arc<Self>> {
        let mut copy = KVec::new();
        copy.extend_from_slice(name.to_bytes_with_nul(), GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                name: copy,
                params,
                poisoned: Atomic::new(false),
                stats: LogStats::new(),
                session <- new_mutex!(None, "dlr_log"),
            }),
            GFP_KERNEL,
        )
    }

    /// Starts to log writes of `function` to `ranges`; returns the page size in use.
    ///
    /// # Errors
    ///
    /// `EINVAL`: active (the log goes on), or a range that makes no sense.
    /// `EOPNOTSUPP`: the device cannot track these. `ENOMEM`, `ENOTCONN`, and what
    /// the device answers.
    pub(crate) fn start(
        self: ArcBorrow<'_, Self>,
        function: &Function,
        ranges: &[IovaRange],
        page_size: u64,
    ) -> Result<u64> {
        let mut slot = self.session.lock();
        if slot.is_some() {
            return Err(EINVAL);
        }
        let session = Session::new(
            function.clone(),
            function.info(),
            ranges,
            page_size,
            self.params,
        )?;
        // Before the device starts: its first interrupt must find a client. It waits
        // for the lock, and finds the session then.
        let client: Arc<Self> = self.into();
        function.set_client(Some(client));
        if let Err(error) = session.start_device() {
            function.set_client(None);
            return Err(error);
        }
        let page_size = session.page_size();
        self.poisoned.store(false, Relaxed);
        self.stats.begin();
        *slot = Some(session);
        Ok(page_size)
    }

    /// Stops. Success when there is nothing to stop; if an earlier START or STOP has
    /// failed on the device, `function` is told once more.
    ///
    /// # Errors
    ///
    /// What the device answers; the log is off all the same.
    pub(crate) fn stop(&self, function: Option<&Function>) -> Result {
        let mut slot = self.session.lock();
        // The device stops before the lock is released: a START that follows finds
        // the ring free.
        match (slot.take(), function) {
            (Some(session), _) => session.stop_device(),
            (None, Some(function)) => function.log_settle(),
            (None, None) => Ok(()),
        }
    }

    /// Marks what was written in `range` since the last report in `dirty`.
    ///
    /// # Errors
    ///
    /// `EINVAL`: not active. `ENOTCONN`: the management function is gone. `EIO`: the
    /// log is corrupt. The last two stay until STOP.
    pub(crate) fn report(&self, range: IovaRange, dirty: &mut impl DirtySink) -> Result {
        let mut guard = self.session.lock();
        let slot: &mut Option<Session<Function>> = &mut guard;
        let session = slot.as_mut().ok_or(EINVAL)?;
        if self.poisoned.load(Relaxed) {
            session.fail(EIO);
        }
        session.checked(|s| s.report(range, dirty, &self.stats, self.name()))
    }

    /// The PCI channel failed: what the log knows is worth nothing. Any context.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Relaxed);
    }

    /// One line for debugfs: `None` when the log is off.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        let slot = self.session.lock();
        slot.as_ref().map(|s| s.snapshot())
    }

    /// Name of the function, for tracing.
    fn name(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.name).unwrap_or(c"?")
    }
}

/// State of an active log, for debugfs.
pub(crate) struct Snapshot {
    /// Log2 of the granule in bytes.
    pub(crate) shift: u32,
    /// Entries of the ring.
    pub(crate) ring_entries: u64,
    /// Disjoint tracked ranges.
    pub(crate) ranges: usize,
    /// Bytes that the bitmap takes.
    pub(crate) memory: usize,
    /// Dirty granules that wait for a report, not counting wholly dirty ranges.
    pub(crate) waiting: u64,
    /// Whether writes were lost and not all was reported yet.
    pub(crate) lost: bool,
    /// The error that all reports return, as a negative errno, or 0.
    pub(crate) error: i32,
}

impl Client for Logging {
    /// The ring has entries. In the threaded interrupt: takes the log lock, and so
    /// runs between reports and never inside one (rule 4).
    fn log_ready(&self) {
        let mut guard = self.session.lock();
        let slot: &mut Option<Session<Function>> = &mut guard;
        if let Some(session) = slot {
            // The error is kept in the session; nobody to tell it to here.
            let _ = session.checked(|s| s.drain_from_interrupt(&self.stats, self.name()));
        }
    }

    /// The management function is gone. Its handle says so to whoever asks next; a
    /// report that sleeps in it has been woken with the same error.
    fn lost(&self) {}
}
