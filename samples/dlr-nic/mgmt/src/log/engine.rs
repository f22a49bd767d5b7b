// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Commands and registers of the log.

use std::{
    sync::{
        atomic::{AtomicBool, AtomicU32, Ordering},
        Arc,
    },
    time::{Duration, Instant},
};

use dlr_abi::abi;
use dlr_core::{DataFunction, DmaMemory, Interrupt, Sabotage, SabotageKind};
use parking_lot::{Condvar, Mutex};

use super::{
    check_range, granules,
    hold::Hold,
    ranges::{Filter, Ranges},
    recent::Recent,
    ring::{Entry, Ring},
    session::{Inner, Session},
    LogParams, LogStats, SyncRange, MAX_RANGES,
};
use crate::{kick::Kick, status::Status};

/// The log engine of one data function.
pub(crate) struct LogEngine {
    pub(super) inner: Mutex<Inner>,
    /// Head moved, or the session is over.
    pub(super) room: Condvar,
    /// There is a session: looked at without the lock on the data path.
    pub(super) active: AtomicBool,
    /// Pages in the filter of the session, for the same reason.
    pub(super) recent: Recent,
    /// Work that may cost so many entries is not held back, for the same reason. It is at most
    /// [`Session::plenty`].
    pub(super) plenty: AtomicU32,
    pub(super) memory: Arc<dyn DmaMemory>,
    pub(super) interrupt: Arc<dyn Interrupt>,
    pub(super) sabotage: Arc<Sabotage>,
    pub(super) kick: Arc<Kick>,
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
                stops: 0,
                starts: 0,
                stats: LogStats::default(),
                write_entries: 0,
            }),
            room: Condvar::new(),
            active: AtomicBool::new(false),
            recent: Recent::new(),
            plenty: AtomicU32::new(0),
            memory,
            interrupt,
            sabotage,
            kick,
        }
    }

    /// LOG_START. Between two writes of the function, so that each is either visible before
    /// this returns, or logged.
    pub(crate) fn start(
        &self,
        function: Option<&dyn DataFunction>,
        params: &LogParams,
    ) -> Result<(), Status> {
        let mut result = Err(Status::Internal);
        self.at_a_point(function, &mut || result = self.start_now(params));
        result
    }

    fn start_now(&self, params: &LogParams) -> Result<(), Status> {
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
        inner.starts = inner.starts.wrapping_add(1);
        let blind = self.sabotage.get(SabotageKind::StartTooEarly);
        inner.session = Some(Session {
            blind_until: blind.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms))),
            ring: Ring::new(params.ring, params.order, params.threshold, params.vector),
            ranges,
            filter: Filter::default(),
            page_shift: params.page_shift,
            open_run: None,
            lost: false,
            hold: Hold::new(params.hold),
            error: false,
        });
        self.recent.clear();
        self.plenty.store(0, Ordering::Relaxed);
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
        if self.sabotage.get(SabotageKind::AddNotTracked).is_some() {
            return Ok(());
        }
        if session.ranges.add(start, end, MAX_RANGES) {
            Ok(())
        } else {
            Err(Status::NoResource)
        }
    }

    /// LOG_SYNC. Waits for room for the marker until `deadline`, while `alive` says so, and while
    /// no LOG_STOP is submitted; BUSY without one.
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
            self.clear_filter(&mut inner, range)?;
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

    /// A LOG_STOP was submitted: a SYNC before it waits for room no longer.
    pub(crate) fn announce_stop(&self) {
        self.inner.lock().stops += 1;
        self.room.notify_all();
    }

    /// That LOG_STOP is about to be executed, or was dropped.
    pub(crate) fn retract_stop(&self) {
        let mut inner = self.inner.lock();
        inner.stops = inner.stops.saturating_sub(1);
    }

    /// A SYNC that waits for room looks whether it was dropped.
    pub(crate) fn wake(&self) {
        let _inner = self.inner.lock();
        self.room.notify_all();
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
            if self.sabotage.get(SabotageKind::PostedNotFlushed).is_none() {
                self.flush_locked(&mut inner);
            }
            if let Some(session) = inner.session.as_ref().filter(|s| !s.error) {
                value = session.ring.posted();
            }
        });
        value
    }

    /// A write of the LOG_HEAD register. True when it ends a hold: the function may go on.
    pub(crate) fn set_head(&self, head: u32) -> bool {
        let mut inner = self.inner.lock();
        let Some(session) = inner.session.as_mut() else {
            return false;
        };
        if !session.ring.set_head(head) {
            log::warn!("log head {head:#x} is not between the old head and the tail; ignored");
            return false;
        }
        let free = session.room();
        let ended = session.hold.room(free);
        self.note_room(session);
        self.interrupt_if_due(&mut inner);
        self.room.notify_all();
        ended
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
        if range == SyncRange::All && self.sabotage.get(SabotageKind::NotRearmed).is_none() {
            session.lost = false;
        }
        let cleared_elsewhere = self.sabotage.get(SabotageKind::MarkerTooEarly).is_some();
        if self.sabotage.get(SabotageKind::FilterNotCleared).is_none() && !cleared_elsewhere {
            self.clear_filter(&mut inner, range)?;
        }
        Ok(Sync::Done)
    }

    /// From here on every granule of `range` is logged anew.
    fn clear_filter(&self, inner: &mut Inner, range: SyncRange) -> Result<(), Status> {
        self.recent.clear();
        inner.open_session()?.clear_filter(range)
    }

    fn wait_for_room(&self, deadline: Instant, alive: &dyn Fn() -> bool) -> Result<(), Status> {
        let mut inner = self.inner.lock();
        loop {
            if inner.open_session()?.ring.free() >= 2 {
                return Ok(());
            }
            let now = Instant::now();
            if now >= deadline || inner.stops > 0 || !alive() {
                return Err(Status::Busy);
            }
            let slice = deadline.min(now + Duration::from_millis(50));
            self.room.wait_until(&mut inner, slice);
        }
    }
}
