// SPDX-License-Identifier: GPL-2.0

//! The DMA log of one function: START, STOP, REPORT and the interrupt of the hardware, with the log
//! lock held.
//!
//! ```text
//!  hardware ── Tracker ──▶ DirtyBitmap ── report ──▶ user's bitmap
//!                          (what was not reported yet)
//! ```
//!
//! # Lock
//!
//! The *log lock* ([`lock`](super::lock)) protects the session. The ioctls take it, but never
//! together with the state lock, and a reset does not take it. So a report does not wait for a
//! state change nor a state change for a report, and a reset, which may hold `memory_lock`, does
//! not wait for a report that is in a page fault.
//!
//! The holder waits for the hardware only in methods of the [`Tracker`]. Its waits for user memory
//! have no timeout; a fatal signal ends them. No kernel thread waits for the lock: the thread of
//! the interrupt only tries it and defers its work to the holder, and debugfs reads a copy.
//!
//! # Sessions and errors
//!
//! A session exists from START to STOP or close, whatever the migration state and also after a
//! reset of the function. The session keeps an error: the log is incomplete from then on, and all
//! reports fail until STOP.

use super::{
    lock::{
        Debtor,
        LogLock, //
    },
    session::{
        Session,
        Snapshot,
        Told, //
    },
    stats::LogStats,
    tracker::{
        Notify,
        Tracker, //
    },
};
use crate::vfio::iova_bitmap::{
    DirtySink,
    IovaRange, //
};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc,
        ArcBorrow,
        SpinLock, //
    },
};

/// The log of one function. It exists as long as the registration data.
#[pin_data]
pub(crate) struct Log<T: Tracker> {
    memory_mib: u32,
    /// Whether there is a session. Written with the log lock held.
    active: Atomic<bool>,
    /// Set, without the lock, when the log is incomplete. Each report checks it at its end as well.
    poisoned: Atomic<bool>,
    /// Set, without the lock, from a failure of the PCI channel to the next reset of the function.
    lost: Atomic<bool>,
    stats: LogStats,
    #[pin]
    session: LogLock<Option<Session<T>>>,
    /// State of the session when the log lock was last released. debugfs reads it under this
    /// innermost lock and so does not wait for a report.
    #[pin]
    shown: SpinLock<Option<Snapshot<T::Snapshot>>>,
}

impl<T: Tracker> Log<T> {
    /// Creates a log that is not active. Its bitmap takes at most `memory_mib` MiB of memory; 0
    /// means a limit that suffices for a bit for each tracked granule.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(memory_mib: u32) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                memory_mib,
                active: Atomic::new(false),
                poisoned: Atomic::new(false),
                lost: Atomic::new(false),
                stats: LogStats::new(),
                session <- LogLock::new(None),
                shown <- new_spinlock!(None, "vfio_dirty_shown"),
            }),
            GFP_KERNEL,
        )
    }

    /// Handles STOP. Without a session, ends what is left of a START or STOP that has failed on the
    /// hardware.
    ///
    /// # Errors
    ///
    /// `EINTR`: a fatal signal ended the wait for the log lock, and the log is as it was. Those of
    /// [`Tracker::stop`] and [`Tracker::settle`]; the log is not active even then.
    pub(crate) fn stop(&self, cx: &T::Context<'_>) -> Result {
        self.session.with_killable(self, |slot| self.end(slot, cx))
    }

    /// Handles the last close of the device, after which no report can hold the log lock, as
    /// [`Self::stop`] does. A signal must not keep the log alive.
    ///
    /// # Errors
    ///
    /// Those of [`Tracker::stop`] and [`Tracker::settle`]; the log is not active even then.
    pub(crate) fn close(&self, cx: &T::Context<'_>) -> Result {
        self.session.with(self, |slot| self.end(slot, cx))
    }

    /// Ends the session in `slot`, or settles what an earlier one has left on the hardware.
    fn end(&self, slot: &mut Option<Session<T>>, cx: &T::Context<'_>) -> Result {
        // Stop the hardware before the lock is released, so that a START that follows can use it.
        self.active.store(false, Relaxed);
        match slot.take() {
            Some(session) => session.stop(cx),
            None => T::settle(cx),
        }
    }

    /// Returns whether the log is active. Takes no lock.
    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Handles REPORT: marks in `user` what was written in `range` since the last report.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the log is not active. `ENOTCONN`: the hardware is gone. `EIO`: the log is
    /// incomplete. Both of the latter stay until STOP. `EINTR`: a fatal signal ended the wait for
    /// the log lock or for the hardware. Those of `user`: the report is incomplete, and nothing was
    /// cleared.
    pub(crate) fn report(
        &self,
        cx: &T::Context<'_>,
        range: IovaRange,
        user: &mut impl DirtySink,
    ) -> Result {
        self.session.with_killable(self, |slot| {
            let session = slot.as_mut().ok_or(EINVAL)?;
            let whole = || match self.poisoned.load(Acquire) {
                true => Err(EIO),
                false => Ok(()),
            };
            let report = |s: &mut Session<T>| {
                whole()?;
                let told = s.report(cx, range, user, &self.stats)?;
                // The hardware may have lost its log before `collect` has read it, and the last
                // report of a migration has no later one that could fail instead.
                whole()?;
                Ok(told)
            };
            match session.checked(report)? {
                Told::All => Ok(()),
                Told::Cut(error) => Err(error),
            }
        })
    }

    /// Marks the log as incomplete: a report that has not ended yet fails, too. Can be called from
    /// any context.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Release);
    }

    /// Marks the log as incomplete after a failure of the PCI channel, and makes each START fail
    /// until [`Self::reset_done`]: the reset of the bus that follows the failure would end such a
    /// log without a callback. Can be called from any context.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Relaxed);
        // ORDERING: The release orders the store above before this one, see `start`.
        self.poison();
    }

    /// Notes that the function was reset. Logs can start again; one that was lost stays so. Can be
    /// called from any context.
    pub(crate) fn reset_done(&self) {
        self.lost.store(false, Relaxed);
    }

    /// Returns the counters of the reports.
    pub(crate) fn stats(&self) -> &LogStats {
        &self.stats
    }

    /// Returns the state of the session after the last release of the log lock, for debugfs; `None`
    /// without a session. Does not wait for a report.
    pub(crate) fn snapshot(&self) -> Option<Snapshot<T::Snapshot>> {
        *self.shown.lock()
    }
}

impl<T: Tracker + Send + 'static> Log<T> {
    /// Handles START: logs writes to `ranges` and returns the page size in use.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the log is active already (and stays so), or a range is invalid. `EOPNOTSUPP`: the
    /// hardware cannot track the ranges. `EIO`: [`Self::poison`] was called meanwhile, or the
    /// function must be reset first ([`Self::lose`]). `EINTR`: a fatal signal is pending. `ENOMEM`,
    /// and those of [`Tracker::start`].
    pub(crate) fn start(
        self: ArcBorrow<'_, Self>,
        cx: &T::Context<'_>,
        ranges: &[IovaRange],
        page_size: u64,
    ) -> Result<u64> {
        let limits = T::limits(cx)?;
        self.session.with_killable(&*self, |slot| {
            if slot.is_some() {
                return Err(EINVAL);
            }
            let notify: Arc<Self> = self.into();
            // Clear the flag before the hardware starts, so that an error during START counts. An
            // earlier error does not count, because this log has no writes from before START.
            //
            // ORDERING: If this clears the flag of `lose`, it also sees what `lose` stored before.
            self.poisoned.xchg(false, Acquire);
            if self.lost.load(Relaxed) {
                return Err(EIO);
            }
            let session = Session::<T>::start(
                cx,
                &limits,
                ranges,
                page_size,
                self.memory_mib,
                Some(notify),
            )?;
            // The hardware may have started before or after the error.
            if self.poisoned.load(Acquire) {
                // Ignore an error: STOP, also at close, settles what is left.
                let _ = session.stop(cx);
                return Err(EIO);
            }
            let page_size = session.page_size();
            self.stats.begin();
            self.active.store(true, Relaxed);
            *slot = Some(session);
            Ok(page_size)
        })
    }
}

impl<T: Tracker> Debtor<Option<Session<T>>> for Log<T> {
    /// Drains the hardware between reports.
    fn pay(&self, slot: &mut Option<Session<T>>) {
        if let Some(session) = slot {
            // The error is kept in the session: the next report returns it.
            let _ = session.checked(Session::drain);
        }
    }

    fn released(&self, slot: &Option<Session<T>>) {
        *self.shown.lock() = slot.as_ref().map(Session::snapshot);
    }
}

impl<T: Tracker + Send> Notify for Log<T> {
    /// Does not wait for a report: the thread of the report drains after it has released the lock.
    fn ready(&self) {
        self.session.owe(self);
    }

    fn poison(&self) {
        Log::poison(self);
    }
}
