// SPDX-License-Identifier: Apache-2.0 OR MIT

//! From announced writes to entries in the ring.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use dlr_abi::abi;
use dlr_core::{DirtySink, Purpose, SabotageKind};
use parking_lot::MutexGuard;

use super::{
    engine::LogEngine,
    hold::Answer,
    ring::Entry,
    session::{Inner, Session},
    TestEntry, IOVA_BITS,
};

impl LogEngine {
    fn announce(&self, iova: u64, len: u64) {
        if len == 0 || !self.active.load(Ordering::Acquire) || self.recent.has(iova, len) {
            return;
        }
        let mut inner = self.inner.lock();
        if dropped_by(Purpose::now()).is_some_and(|kind| self.sabotage.get(kind).is_some()) {
            inner.stats.sabotaged += 1;
            return;
        }
        let Some(session) = inner.session.as_mut() else {
            return;
        };
        if session
            .blind_until
            .is_some_and(|until| Instant::now() < until)
        {
            inner.stats.sabotaged += 1;
            return;
        }
        let shift = session.page_shift;
        let (first, last) = (iova >> shift, iova.saturating_add(len - 1) >> shift);
        let mut at = first;
        let mut repeat = true;
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
                repeat = false;
                self.grow_run(&mut inner, start);
            }
        }
        // A page that is written once need not be remembered: it would take another one's place.
        if repeat {
            self.recent.remember(iova, len);
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

    /// Posts the open run.
    pub(super) fn flush_locked(&self, inner: &mut MutexGuard<'_, Inner>) {
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
            self.recent.clear();
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
        let short = self.sabotage.get(SabotageKind::RunTooShort).is_some();
        let run = if short && run > 1 { run - 1 } else { run };
        inner.stats.writes += 1;
        inner.stats.granules += run;
        self.post(inner, Entry::Write { page, run });
    }

    /// Writes one entry into the ring; a fault ends the log for good (R10).
    pub(super) fn post(&self, inner: &mut MutexGuard<'_, Inner>, entry: Entry) {
        let Some(session) = inner.session.as_mut() else {
            return;
        };
        let (addr, value) = session.ring.push(entry);
        self.note_room(session);
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

    /// What [`DirtySink::hold_until`] looks at without the lock. Whatever changes the room or a hold
    /// comes here, with the lock held. A function that reads the old value begins one frame more.
    pub(super) fn note_room(&self, session: &Session) {
        self.plenty.store(session.plenty(), Ordering::Relaxed);
    }

    /// Posts an entry that no write and no SYNC has caused. False when there is no log.
    pub(crate) fn post_test_entry(&self, entry: TestEntry) -> bool {
        let mut inner = self.inner.lock();
        self.flush_locked(&mut inner);
        let Some(session) = inner.session.as_mut().filter(|s| !s.error) else {
            return false;
        };
        let page = |iova: u64| iova >> 12;
        let entry = match entry {
            TestEntry::Write(iova) => Entry::Write {
                page: page(iova),
                run: 1,
            },
            // Beyond what any driver can track.
            TestEntry::Outside => Entry::Write {
                page: page(1 << (IOVA_BITS - 1)),
                run: 1,
            },
            // Low cookies are those that drivers use first.
            TestEntry::Marker => Entry::Sync {
                cookie: 0xbad << 32,
            },
            TestEntry::Lost => Entry::Lost,
            TestEntry::Missing => {
                session.ring.skip(1);
                self.note_room(session);
                return true;
            }
            TestEntry::Flood => {
                session.ring.skip(session.ring.size() + 1);
                self.note_room(session);
                return true;
            }
            TestEntry::Garbage => {
                let (addr, value) = session.ring.push(Entry::Lost);
                self.note_room(session);
                let type_bits =
                    ((1 << abi::DLR_LOG_ENTRY_TYPE_BITS) - 1) << abi::DLR_LOG_ENTRY_TYPE_SHIFT;
                return self.memory.write_u64(addr, value | type_bits).is_ok();
            }
        };
        self.post(&mut inner, entry);
        true
    }

    /// Raises the vector when the ring's condition says so.
    pub(super) fn interrupt_if_due(&self, inner: &mut MutexGuard<'_, Inner>) {
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

/// The switch that swallows writes of this purpose.
fn dropped_by(purpose: Purpose) -> Option<SabotageKind> {
    match purpose {
        Purpose::Data => None,
        Purpose::UsedRing => Some(SabotageKind::DropUsedRing),
        Purpose::Control => Some(SabotageKind::DropControl),
        Purpose::Event => Some(SabotageKind::DropEvent),
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

    fn hold_until(&self, entries: u32) -> Option<Instant> {
        let enough = entries <= self.plenty.load(Ordering::Relaxed);
        if enough || !self.active.load(Ordering::Acquire) {
            return None;
        }
        let mut inner = self.inner.lock();
        let session = inner.session.as_mut().filter(|s| !s.lost && !s.error)?;
        // A small ring never has room for the worst case: half of it has to do.
        let need = entries.min(session.ring.size() / 2);
        let free = session.room();
        let answer = session.hold.ask(need, free, Instant::now);
        self.note_room(session);
        match answer {
            Answer::Go => None,
            Answer::Over => {
                inner.stats.holds_over += 1;
                None
            }
            Answer::Wait(until) => Some(until),
            Answer::Begin(until) => {
                let vector = session.ring.vector();
                inner.stats.holds += 1;
                inner.stats.interrupts += 1;
                self.interrupt.trigger(vector);
                Some(until)
            }
        }
    }

    fn dirty(&self, iova: u64, len: u64) {
        if self.sabotage.get(SabotageKind::EntryBeforeData).is_none() {
            self.announce(iova, len);
        }
    }
}
