// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The dirty log of one data function: what the contract's rules R1..R10 ask of the device.
//!
//! Lock order: the function's DMA gate ([`DataFunction::quiesced`]), then the log's lock.
//! Every DMA write is announced under the gate, so whoever holds the gate and then the log
//! sees a point between two writes: that point is what POSTED and SYNC are made of.

mod ranges;
mod ring;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    time::{Duration, Instant},
};

use dlr_abi::abi;
use dlr_core::{DataFunction, DirtySink, DmaMemory, Interrupt, Sabotage, SabotageKind};
use parking_lot::{Condvar, Mutex, MutexGuard};
use ranges::{Filter, Ranges};
use ring::{Entry, Ring};
use serde::Serialize;

use crate::{kick::Kick, status::Status};

/// Most ranges that one log tracks.
pub(crate) const MAX_RANGES: usize = 64;
/// Smallest and largest granule, as shifts.
pub(crate) const PAGE_SHIFTS: std::ops::RangeInclusive<u32> = 12..=21;
/// A range ends at or below `1 << IOVA_BITS`.
pub(crate) const IOVA_BITS: u32 = 52;

/// What LOG_START asks for, checked for form by the caller.
#[derive(Clone, Debug)]
pub(crate) struct LogParams {
    /// DMA address of the ring in the MF's domain.
    pub(crate) ring: u64,
    /// log2 of the number of slots.
    pub(crate) order: u32,
    /// MSI-X vector of the MF.
    pub(crate) vector: u16,
    /// Unconsumed entries that raise it.
    pub(crate) threshold: u32,
    /// log2 of the granule.
    pub(crate) page_shift: u32,
    /// `(iova, length)`, multiples of the granule.
    pub(crate) ranges: Vec<(u64, u64)>,
}

/// What LOG_SYNC covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncRange {
    /// Every granule; re-arms after LOST.
    All,
    /// `[iova, iova + length)`, multiples of the granule.
    Part {
        /// First byte.
        iova: u64,
        /// Bytes.
        length: u64,
    },
}

/// Counters for the control socket.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct LogStats {
    active: bool,
    /// WRITE entries posted.
    writes: u64,
    /// Granules in them.
    granules: u64,
    /// SYNC markers posted.
    syncs: u64,
    /// Reads of the POSTED register.
    posted_reads: u64,
    /// LOST entries posted since the function was made.
    lost: u32,
    /// Writes that came while nothing was logged after LOST.
    unlogged: u64,
    /// Entries that a sabotage switch swallowed.
    sabotaged: u64,
    interrupts: u64,
    used: u32,
}

struct Session {
    ring: Ring,
    ranges: Ranges,
    filter: Filter,
    page_shift: u32,
    /// Granules already in the filter whose entry is not posted yet: a run may still grow.
    open_run: Option<(u64, u64)>,
    lost: bool,
    error: bool,
}

struct Inner {
    session: Option<Session>,
    failed: bool,
    stats: LogStats,
    write_entries: u64,
}

/// The log engine of one data function.
pub(crate) struct LogEngine {
    inner: Mutex<Inner>,
    /// Head moved, or the session is over.
    room: Condvar,
    /// There is a session: looked at without the lock on the data path.
    active: AtomicBool,
    memory: Arc<dyn DmaMemory>,
    interrupt: Arc<dyn Interrupt>,
    sabotage: Arc<Sabotage>,
    kick: Arc<Kick>,
}

enum Sync {
    Done,
    NoRoom,
}

impl LogEngine {
    /// A log that is not active. `memory` and `interrupt` are the MF's.
    pub(crate) fn new(
        memory: Arc<dyn DmaMemory>,
        interrupt: Arc<dyn Interrupt>,
        sabotage: Arc<Sabotage>,
        kick: Arc<Kick>,
    ) -> Self {
        Self {
            inner: Mutex::new(Inner {
                session: None,
                failed: false,
                stats: LogStats::default(),
                write_entries: 0,
            }),
            room: Condvar::new(),
            active: AtomicBool::new(false),
            memory,
            interrupt,
            sabotage,
            kick,
        }
    }

    /// LOG_START. When this returns every later write in the ranges is logged: a write that
    /// is under way is announced after its data, so after this.
    pub(crate) fn start(&self, params: &LogParams) -> Result<(), Status> {
        let mut ranges = Ranges::default();
        for &(iova, length) in &params.ranges {
            let (start, end) = granules(iova, length, params.page_shift);
            if !ranges.add(start, end, MAX_RANGES) {
                return Err(Status::NoResource);
            }
        }
        let mut inner = self.inner.lock();
        if inner.session.is_some() {
            return Err(Status::Busy);
        }
        inner.failed = false;
        inner.session = Some(Session {
            ring: Ring::new(params.ring, params.order, params.threshold, params.vector),
            ranges,
            filter: Filter::default(),
            page_shift: params.page_shift,
            open_run: None,
            lost: false,
            error: false,
        });
        self.active.store(true, Ordering::Release);
        self.kick.kick();
        Ok(())
    }

    /// LOG_ADD.
    pub(crate) fn add(&self, iova: u64, length: u64) -> Result<(), Status> {
        let mut inner = self.inner.lock();
        let session = inner.session.as_mut().ok_or(Status::InvalidState)?;
        if session.error {
            return Err(Status::Internal);
        }
        check_range(iova, length, session.page_shift)?;
        let (start, end) = granules(iova, length, session.page_shift);
        if session.ranges.add(start, end, MAX_RANGES) {
            Ok(())
        } else {
            Err(Status::NoResource)
        }
    }

    /// LOG_SYNC. Waits for room for the marker until `deadline`, or while `alive` says so.
    pub(crate) fn sync(
        &self,
        function: Option<&dyn DataFunction>,
        range: SyncRange,
        cookie: u64,
        deadline: Instant,
        alive: &dyn Fn() -> bool,
    ) -> Result<(), Status> {
        if let Some(ms) = self.sabotage.get(SabotageKind::MarkerTooEarly) {
            let mut inner = self.inner.lock();
            inner.open_session()?.clear_filter(range)?;
            drop(inner);
            std::thread::sleep(Duration::from_millis(ms));
        }
        loop {
            let mut outcome = Err(Status::Internal);
            self.at_a_point(function, &mut || outcome = self.try_sync(range, cookie));
            match outcome? {
                Sync::Done => return Ok(()),
                Sync::NoRoom => self.wait_for_room(deadline, alive)?,
            }
        }
    }

    /// LOG_STOP, and the end of everything when the MF is reset.
    pub(crate) fn stop(&self) {
        let mut inner = self.inner.lock();
        self.active.store(false, Ordering::Release);
        inner.session = None;
        self.room.notify_all();
    }

    /// Posts the entries of all announced writes (R7).
    pub(crate) fn flush(&self) {
        self.flush_locked(&mut self.inner.lock());
    }

    /// A read of the POSTED register.
    pub(crate) fn posted(&self, function: Option<&dyn DataFunction>) -> u32 {
        let mut value = abi::DLR_LOG_POSTED_ERROR;
        if !self.active.load(Ordering::Acquire) {
            return value;
        }
        self.at_a_point(function, &mut || {
            let mut inner = self.inner.lock();
            inner.stats.posted_reads += 1;
            self.flush_locked(&mut inner);
            if let Some(session) = inner.session.as_ref().filter(|s| !s.error) {
                value = session.ring.posted();
            }
        });
        value
    }

    /// A write of the LOG_HEAD register.
    pub(crate) fn set_head(&self, head: u32) {
        let mut inner = self.inner.lock();
        let Some(session) = inner.session.as_mut() else {
            return;
        };
        if !session.ring.set_head(head) {
            log::warn!("log head {head:#x} is not between the old head and the tail; ignored");
            return;
        }
        self.interrupt_if_due(&mut inner);
        self.room.notify_all();
    }

    /// The LOG_STATE register.
    pub(crate) fn state(&self) -> u32 {
        let inner = self.inner.lock();
        let Some(session) = inner.session.as_ref() else {
            return if inner.failed {
                abi::DLR_LOG_STATE_ERROR
            } else {
                0
            };
        };
        let mut state = abi::DLR_LOG_STATE_ACTIVE;
        if session.lost {
            state |= abi::DLR_LOG_STATE_LOST;
        }
        if session.error {
            state |= abi::DLR_LOG_STATE_ERROR;
        }
        state
    }

    /// Number of LOST entries ever, and whether the log failed since the last start.
    pub(crate) fn health(&self) -> (u32, bool) {
        let inner = self.inner.lock();
        (inner.stats.lost, inner.failed)
    }

    /// Counters.
    pub(crate) fn stats(&self) -> LogStats {
        let inner = self.inner.lock();
        LogStats {
            active: inner.session.is_some(),
            used: inner.session.as_ref().map_or(0, |s| s.ring.used()),
            ..inner.stats
        }
    }

    /// Runs `f` between two DMA writes of the function.
    fn at_a_point(&self, function: Option<&dyn DataFunction>, f: &mut dyn FnMut()) {
        match function {
            // This sabotage leaves data in flight whose entry is posted; waiting for the
            // data here would repair it.
            Some(df) if self.sabotage.get(SabotageKind::EntryBeforeData).is_none() => {
                df.quiesced(f);
            }
            _ => f(),
        }
    }

    fn try_sync(&self, range: SyncRange, cookie: u64) -> Result<Sync, Status> {
        let mut inner = self.inner.lock();
        self.flush_locked(&mut inner);
        let session = inner.open_session()?;
        if session.ring.free() < 2 {
            return Ok(Sync::NoRoom);
        }
        if let SyncRange::Part { iova, length } = range {
            check_range(iova, length, session.page_shift)?;
        }
        self.post(&mut inner, Entry::Sync { cookie });
        inner.stats.syncs += 1;
        let session = inner.open_session()?;
        if range == SyncRange::All {
            session.lost = false;
        }
        let cleared_elsewhere = self.sabotage.get(SabotageKind::MarkerTooEarly).is_some();
        if self.sabotage.get(SabotageKind::FilterNotCleared).is_none() && !cleared_elsewhere {
            session.clear_filter(range)?;
        }
        Ok(Sync::Done)
    }

    fn wait_for_room(&self, deadline: Instant, alive: &dyn Fn() -> bool) -> Result<(), Status> {
        let mut inner = self.inner.lock();
        loop {
            if inner.open_session()?.ring.free() >= 2 {
                return Ok(());
            }
            let now = Instant::now();
            if now >= deadline || !alive() {
                return Err(Status::Busy);
            }
            let slice = deadline.min(now + Duration::from_millis(50));
            self.room.wait_until(&mut inner, slice);
        }
    }

    fn announce(&self, iova: u64, len: u64) {
        if len == 0 || !self.active.load(Ordering::Acquire) {
            return;
        }
        let mut inner = self.inner.lock();
        let Some(session) = inner.session.as_mut() else {
            return;
        };
        let shift = session.page_shift;
        let (first, last) = (iova >> shift, iova.saturating_add(len - 1) >> shift);
        let mut at = first;
        // Posting needs `inner` as a whole, so the clipped parts are looked up one by one.
        while at <= last {
            let Some(session) = inner.session.as_mut() else {
                return;
            };
            let Some((start, _)) = session.ranges.clip(at, last + 1).next() else {
                return;
            };
            if session.error {
                return;
            }
            if session.lost {
                inner.stats.unlogged += 1;
                return;
            }
            at = start + 1;
            if session.filter.insert(start) {
                self.grow_run(&mut inner, start);
            }
        }
    }

    /// Puts `granule` into the open run, or posts that and opens a new one.
    fn grow_run(&self, inner: &mut MutexGuard<'_, Inner>, granule: u64) {
        let Some(session) = inner.session.as_mut() else {
            return;
        };
        if let Some((start, run)) = &mut session.open_run {
            if granule == *start + *run && *run < u64::from(abi::DLR_LOG_ENTRY_MAX_RUN) {
                *run += 1;
                return;
            }
            self.flush_locked(inner);
        }
        if let Some(session) = inner.session.as_mut().filter(|s| !s.lost) {
            session.open_run = Some((granule, 1));
        }
    }

    fn flush_locked(&self, inner: &mut MutexGuard<'_, Inner>) {
        let Some(session) = inner.session.as_mut() else {
            return;
        };
        let Some((start, run)) = session.open_run.take() else {
            return;
        };
        if session.error {
            return;
        }
        let page = start << (session.page_shift - 12);
        if session.ring.free() < 2 {
            if self.sabotage.get(SabotageKind::LostNotPosted).is_some() {
                inner.stats.sabotaged += 1;
                return;
            }
            session.lost = true;
            session.ring.demand_interrupt();
            self.post(inner, Entry::Lost);
            inner.stats.lost = inner.stats.lost.wrapping_add(1);
            self.kick.kick();
            return;
        }
        inner.write_entries += 1;
        if let Some(n) = self.sabotage.get(SabotageKind::DropLogEntry) {
            if inner.write_entries % n == 0 {
                inner.stats.sabotaged += 1;
                return;
            }
        }
        inner.stats.writes += 1;
        inner.stats.granules += run;
        self.post(inner, Entry::Write { page, run });
    }

    /// Writes one entry into the ring; a fault ends the log for good (R10).
    fn post(&self, inner: &mut MutexGuard<'_, Inner>, entry: Entry) {
        let Some(session) = inner.session.as_mut() else {
            return;
        };
        let (addr, value) = session.ring.push(entry);
        if let Err(fault) = self.memory.write_u64(addr, value) {
            log::error!("log ring: {fault}; the log is dead until the next LOG_START");
            session.error = true;
            let vector = session.ring.vector();
            inner.failed = true;
            self.interrupt.trigger(vector);
            self.kick.kick();
            self.room.notify_all();
            return;
        }
        self.interrupt_if_due(inner);
    }

    fn interrupt_if_due(&self, inner: &mut MutexGuard<'_, Inner>) {
        let Some(session) = inner.session.as_mut() else {
            return;
        };
        if session.ring.wants_interrupt() {
            let vector = session.ring.vector();
            inner.stats.interrupts += 1;
            self.interrupt.trigger(vector);
        }
    }
}

impl DirtySink for LogEngine {
    fn before_write(&self, iova: u64, len: u64) {
        let Some(ms) = self.sabotage.get(SabotageKind::EntryBeforeData) else {
            return;
        };
        self.announce(iova, len);
        if self.active.load(Ordering::Acquire) {
            self.flush();
            std::thread::sleep(Duration::from_millis(ms));
        }
    }

    fn dirty(&self, iova: u64, len: u64) {
        if self.sabotage.get(SabotageKind::EntryBeforeData).is_none() {
            self.announce(iova, len);
        }
    }
}

impl Inner {
    fn open_session(&mut self) -> Result<&mut Session, Status> {
        match self.session.as_mut() {
            None => Err(Status::InvalidState),
            Some(session) if session.error => Err(Status::Internal),
            Some(session) => Ok(session),
        }
    }
}

impl Session {
    fn clear_filter(&mut self, range: SyncRange) -> Result<(), Status> {
        match range {
            SyncRange::All => self.filter.clear(),
            SyncRange::Part { iova, length } => {
                check_range(iova, length, self.page_shift)?;
                let (start, end) = granules(iova, length, self.page_shift);
                self.filter.remove(start, end);
            }
        }
        Ok(())
    }
}

/// Granule numbers `[start, end)` of a checked range.
fn granules(iova: u64, length: u64, page_shift: u32) -> (u64, u64) {
    (iova >> page_shift, (iova + length) >> page_shift)
}

/// The form of a range (`struct dlr_range`).
pub(crate) fn check_range(iova: u64, length: u64, page_shift: u32) -> Result<(), Status> {
    let mask = (1 << page_shift) - 1;
    let end = iova.checked_add(length).ok_or(Status::InvalidField)?;
    if (iova | length) & mask != 0 || length == 0 || end > 1 << IOVA_BITS {
        return Err(Status::InvalidField);
    }
    Ok(())
}
