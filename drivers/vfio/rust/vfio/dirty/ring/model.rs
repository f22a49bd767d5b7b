// SPDX-License-Identifier: GPL-2.0

//! A model of a device with a log ring and of the VMM, for tests of a log session.
//!
//! The model implements the rules of the module's page in their simplest form. Each call of the
//! session into the model has several *moments* at which the function may write. A test runs the
//! same sequence of reports many times, with the writes at other moments each time. The VMM of the
//! model copies the granules that a report names, within the range that it asked about. After a
//! last report, with the function stopped, its copy must equal the memory.
//!
//! Memory is counted in halves of granules, because a report may begin or end in the middle of one.

use super::model_setup::pass_on;
pub(super) use super::model_setup::{Broken, Setup, Write, BASE, GRANULES, HALVES, NEVER, RING};
use super::{
    device::{
        Config,
        LogDevice,
        RingLimits,
        SyncScope, //
    },
    format::{
        Entry,
        PAGE_SHIFT, //
    },
    memory::Until,
    piece::{
        Flow,
        Piece, //
    },
};
use crate::{
    ext::testing::holds,
    vfio::{
        dirty::{
            chunk::CHUNK_GRANULES,
            run::Run,
            tracker::Notify, //
        },
        iova_bitmap::IovaRange,
    },
};
use core::cell::RefCell;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A SYNC: the granules that it covers, whether that is all of them, and the cookie.
type Given = ([bool; GRANULES], bool, u64);

/// State of the model.
pub(super) struct State {
    /// Number of writes to each half granule: the contents of the memory.
    pub(super) memory: [u32; HALVES],
    tracked: [bool; GRANULES],
    /// Whether the device has logged a granule since the last SYNC that covered it.
    filtered: [bool; GRANULES],
    ring: [Option<Entry>; RING],
    pub(super) posted: u32,
    consumed: u32,
    lost: bool,
    /// The entry that is not posted yet: its first granule and the number of granules.
    on_its_way: Option<(usize, usize)>,
    /// The SYNC that waits for room.
    sync: Option<Given>,
    /// The SYNC that will be executed again, the earliest moment, and the number of times.
    again: Option<(Given, u32, u32)>,
    busy: u32,
    starved: u32,
    /// Number of moments so far, and the writes of the function.
    pub(super) moment: u32,
    pub(super) writes: [Write; 2],
}

/// The device of the model.
pub(super) struct Model {
    pub(super) setup: Setup,
    limits: RingLimits,
    pub(super) state: RefCell<State>,
}

impl Model {
    /// Creates a device that tracks all granules that it reaches, except for the first.
    pub(super) fn new(setup: Setup, writes: [Write; 2]) -> Result<Self> {
        let mut tracked = [false; GRANULES];
        tracked[1..setup.reach].fill(true);
        let mut limits = setup.limits();
        if setup.reach < GRANULES {
            // The only reach that is a power of two with this base.
            holds(setup.reach == 2)?;
            limits.log.iova_bits = setup.shift + CHUNK_GRANULES.trailing_zeros();
        }
        Ok(Self {
            setup,
            limits,
            state: RefCell::new(State {
                memory: [0; HALVES],
                tracked,
                filtered: [false; GRANULES],
                ring: [None; RING],
                posted: 0,
                consumed: 0,
                lost: false,
                on_its_way: None,
                sync: None,
                again: None,
                busy: setup.busy,
                starved: setup.starved,
                moment: 0,
                writes,
            }),
        })
    }

    /// Returns the granules of a range, as numbers in the model.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range has a part of a granule, or reaches beyond the address bits.
    fn granules(&self, range: IovaRange) -> Result<core::ops::Range<u64>> {
        let part = (1 << self.setup.shift) - 1;
        let last = (range.end() - 1).checked_shr(self.limits.log.iova_bits);
        if (range.iova() | range.length()) & part != 0 || last.unwrap_or(0) != 0 {
            return Err(EINVAL);
        }
        let first = range.iova() >> self.setup.shift;
        let end = first + (range.length() >> self.setup.shift);
        let end = end.saturating_sub(BASE).min(GRANULES as u64);
        Ok(first.saturating_sub(BASE)..end)
    }

    /// Passes a moment: the function makes the writes that are due.
    fn moment(&self, s: &mut State) {
        let now = s.moment;
        s.moment += 1;
        for (when, half) in s.writes {
            if when == now {
                self.write(s, half);
            }
        }
        self.try_again(s, now);
    }

    /// Writes to a half granule, as the function does.
    pub(super) fn write(&self, s: &mut State, half: usize) {
        s.memory[half] += 1;
        let granule = half / 2;
        if !s.tracked[granule] || s.filtered[granule] || s.lost {
            return;
        }
        match &mut s.on_its_way {
            Some((first, run)) if *first + *run == granule => *run += 1,
            _ => {
                self.flush(s);
                if s.lost {
                    return;
                }
                s.on_its_way = Some((granule, 1));
            }
        }
        s.filtered[granule] = true;
    }

    fn flush(&self, s: &mut State) {
        let Some((first, run)) = s.on_its_way.take() else {
            return;
        };
        if s.free() > 1 {
            let page = (BASE + first as u64) << (self.setup.shift - PAGE_SHIFT);
            s.post(Entry::Write(Run::from_word(page << 8 | (run as u64 - 1))));
        } else {
            s.lost = true;
            if self.setup.broken != Broken::SilentLoss {
                s.post(Entry::Lost);
            }
        }
    }

    /// Executes a SYNC again if it is due at `now` and there is room for its marker.
    fn try_again(&self, s: &mut State, now: u32) {
        let Some((sync, due, times)) = s.again else {
            return;
        };
        self.flush(s);
        if now >= due && s.free() > 1 {
            s.again = (times > 1).then_some((sync, due, times - 1));
            self.execute(s, sync);
        }
    }

    /// Executes the SYNC if there is room for its marker.
    fn try_sync(&self, s: &mut State) {
        // In the order of submission.
        self.try_again(s, u32::MAX);
        self.try_again(s, u32::MAX);
        self.flush(s);
        if s.free() <= 1 || s.busy != 0 || s.again.is_some() {
            return;
        }
        let Some(sync) = s.sync.take() else {
            return;
        };
        self.execute(s, sync);
        s.again = match self.setup.broken {
            Broken::Again(later) | Broken::Unasked(later) => Some((sync, s.moment + later, 1)),
            Broken::TooOften(later) => Some((sync, s.moment + later, 2)),
            _ => None,
        };
    }

    fn execute(&self, s: &mut State, (range, all, cookie): Given) {
        for (filtered, synced) in s.filtered.iter_mut().zip(range) {
            *filtered &= !synced;
        }
        if all {
            s.lost = false;
        }
        if self.setup.broken == Broken::LateMarker {
            self.moment(s);
            self.flush(s);
        }
        if self.setup.broken != Broken::NoMarker {
            s.post(Entry::Sync { cookie });
        }
    }
}

impl State {
    fn free(&self) -> usize {
        RING - self.posted.wrapping_sub(self.consumed) as usize
    }

    fn post(&mut self, entry: Entry) {
        self.ring[self.posted as usize % RING] = Some(entry);
        self.posted += 1;
    }
}

impl LogDevice for &Model {
    type Ticket = ();

    const COOKIE_BITS: u32 = 52;

    fn limits(&self) -> Result<RingLimits> {
        Ok(self.limits)
    }

    fn start(&self, _config: &Config<'_>, _notify: Option<Arc<dyn Notify>>) -> Result {
        Ok(())
    }

    fn stop(&self) -> Result {
        Ok(())
    }

    fn settle(&self) -> Result {
        Ok(())
    }

    fn posted(&self) -> Result<u32> {
        if self.setup.broken == Broken::Gone {
            return Err(ENOTCONN);
        }
        let mut s = self.state.borrow_mut();
        self.moment(&mut s);
        if self.setup.broken != Broken::NoFlush {
            self.flush(&mut s);
        }
        let posted = s.posted;
        self.moment(&mut s);
        Ok(posted)
    }

    fn drain(&self, until: Until, mut sink: impl FnMut(Piece<'_>) -> Flow) -> Result<u32> {
        let mut entries = 0;
        loop {
            let entry = {
                let mut s = self.state.borrow_mut();
                self.moment(&mut s);
                let slot = s.consumed as usize % RING;
                let end = match until {
                    Until::Count(count) => count,
                    Until::Empty => s.consumed + u32::from(s.ring[slot].is_some()),
                };
                if s.consumed >= end {
                    return Ok(entries);
                }
                let entry = s.ring[slot].take().ok_or(EIO)?;
                s.consumed += 1;
                self.moment(&mut s);
                entry
            };
            entries += 1;
            if pass_on(entry, &mut sink) == Flow::Stop {
                return Ok(entries);
            }
        }
    }

    fn add(&self, range: IovaRange) -> Result {
        let mut s = self.state.borrow_mut();
        self.moment(&mut s);
        for granule in self.granules(range)? {
            if let Some(tracked) = s.tracked.get_mut(granule as usize) {
                *tracked = true;
            }
        }
        self.moment(&mut s);
        Ok(())
    }

    fn sync_submit(&self, scope: SyncScope, cookie: u64) -> Result {
        let mut s = self.state.borrow_mut();
        self.moment(&mut s);
        if let Some(left) = s.starved.checked_sub(1) {
            s.starved = left;
            return Err(ENOMEM);
        }
        let mut range = [true; GRANULES];
        if let SyncScope::Range(r) = scope {
            let synced = self.granules(r)?;
            for (granule, bit) in range.iter_mut().enumerate() {
                *bit = synced.contains(&(granule as u64));
            }
        }
        s.sync = Some((range, scope == SyncScope::All, cookie));
        self.try_sync(&mut s);
        self.moment(&mut s);
        Ok(())
    }

    fn sync_wait(&self, (): &()) -> Result<bool> {
        let mut s = self.state.borrow_mut();
        self.moment(&mut s);
        if let Some(left) = s.busy.checked_sub(1) {
            s.busy = left;
            s.sync = None;
            return Err(EBUSY);
        }
        self.try_sync(&mut s);
        self.moment(&mut s);
        Ok(s.sync.is_none())
    }

    fn sync_found(&self, (): ()) -> u32 {
        let broken = self.setup.broken;
        u32::from(matches!(broken, Broken::Again(_) | Broken::TooOften(_)))
    }
}
