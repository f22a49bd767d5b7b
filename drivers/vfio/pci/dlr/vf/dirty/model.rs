// SPDX-License-Identifier: GPL-2.0

//! Tests of the log session against a model of the device: a write at each moment of
//! each call, in particular the worst ones, and then every granule compared.
//!
//! The model is the contract in its simplest form. Each call of the session into it is
//! a row of *moments*; a test runs the same sequence of reports again and again, with
//! writes at other moments each time. The VMM of the model copies what a report says.
//! After a last report with the function stopped its copy must equal the memory.

use super::{device::LogDevice, session::Session, LogParams, LogStats};
use crate::{
    mgmt::{
        Flow,
        Until, //
    },
    proto::{
        identify::Cap,
        Entry,
        FnInfo,
        Range,
        SyncScope, //
    },
    vfio::iova_bitmap::{
        DirtySink,
        IovaRange, //
    },
};
use core::cell::RefCell;
use kernel::prelude::*;

/// Granules of the model's memory.
const GRANULES: usize = 4;
/// Slots of the model's ring: two entries and LOST.
const RING: usize = 3;

/// The model's state.
struct State {
    /// How often each granule was written: what is in memory.
    memory: [u32; GRANULES],
    tracked: [bool; GRANULES],
    /// Logged since the last SYNC of it.
    filtered: [bool; GRANULES],
    ring: [Option<Entry>; RING],
    posted: u32,
    consumed: u32,
    lost: bool,
    /// The entry on its way to the ring.
    on_its_way: Option<usize>,
    /// The SYNC that waits for room: granules, everything, cookie.
    sync: Option<([bool; GRANULES], bool, u64)>,
    /// A broken device loses this rule.
    broken: Broken,
    /// Moments so far, and when to write what.
    moment: u32,
    writes: [(u32, usize); 2],
}

/// Which rule the device breaks, to see that the test notices.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// The SYNC posts its marker a moment after it has cleared the filter.
    LateMarker,
    /// POSTED is answered without looking at writes on their way.
    NoFlush,
    /// LOST is not posted.
    SilentLoss,
}

/// No writes.
const NEVER: [(u32, usize); 2] = [(u32::MAX, 0); 2];

struct Model(RefCell<State>);

impl State {
    fn free(&self) -> usize {
        RING - self.posted.wrapping_sub(self.consumed) as usize
    }

    fn post(&mut self, entry: Entry) {
        self.ring[self.posted as usize % RING] = Some(entry);
        self.posted += 1;
    }

    fn write(&mut self, granule: usize) {
        self.memory[granule] += 1;
        if !self.tracked[granule] || self.filtered[granule] || self.lost {
            return;
        }
        self.flush();
        if !self.lost {
            self.filtered[granule] = true;
            self.on_its_way = Some(granule);
        }
    }

    fn flush(&mut self) {
        let Some(granule) = self.on_its_way.take() else {
            return;
        };
        if self.free() > 1 {
            self.post(Entry::Write {
                iova: (granule as u64) << 12,
                granules: 1,
            });
        } else {
            self.lost = true;
            if self.broken != Broken::SilentLoss {
                self.post(Entry::Lost);
            }
        }
    }

    /// A moment at which the function may write.
    fn moment(&mut self) {
        let now = self.moment;
        self.moment += 1;
        for (when, granule) in self.writes {
            if when == now {
                self.write(granule);
            }
        }
    }

    /// Executes the SYNC if there is room for its marker.
    fn try_sync(&mut self) {
        self.flush();
        if self.free() <= 1 {
            return;
        }
        let Some((range, all, cookie)) = self.sync.take() else {
            return;
        };
        for (filtered, synced) in self.filtered.iter_mut().zip(range) {
            *filtered &= !synced;
        }
        if all {
            self.lost = false;
        }
        if self.broken == Broken::LateMarker {
            self.moment();
            self.flush();
        }
        self.post(Entry::Sync { cookie });
    }
}

impl LogDevice for &Model {
    type Ticket = ();

    fn posted(&self) -> Result<u32> {
        let mut s = self.0.borrow_mut();
        s.moment();
        if s.broken != Broken::NoFlush {
            s.flush();
        }
        let posted = s.posted;
        s.moment();
        Ok(posted)
    }

    fn drain(&self, until: Until, mut sink: impl FnMut(Entry) -> Flow) -> Result<u32> {
        let mut entries = 0;
        loop {
            let entry = {
                let mut s = self.0.borrow_mut();
                s.moment();
                let end = match until {
                    Until::Count(count) => count,
                    Until::Empty => s.posted,
                };
                if s.consumed >= end {
                    return Ok(entries);
                }
                let slot = s.consumed as usize % RING;
                let entry = s.ring[slot].take().ok_or(EIO)?;
                s.consumed += 1;
                s.moment();
                entry
            };
            entries += 1;
            if sink(entry) == Flow::Stop {
                return Ok(entries);
            }
        }
    }

    fn log_add(&self, range: Range) -> Result {
        let mut s = self.0.borrow_mut();
        s.moment();
        for granule in range.iova >> 12..(range.iova + range.length) >> 12 {
            s.tracked[granule as usize] = true;
        }
        s.moment();
        Ok(())
    }

    fn sync_submit(&self, scope: SyncScope, cookie: u64) -> Result {
        let mut s = self.0.borrow_mut();
        s.moment();
        let mut range = [true; GRANULES];
        if let SyncScope::Range(r) = scope {
            let synced = r.iova >> 12..(r.iova + r.length) >> 12;
            for (granule, bit) in range.iter_mut().enumerate() {
                *bit = synced.contains(&(granule as u64));
            }
        }
        s.sync = Some((range, scope == SyncScope::All, cookie));
        s.try_sync();
        s.moment();
        Ok(())
    }

    fn sync_wait(&self, (): &()) -> Result<bool> {
        let mut s = self.0.borrow_mut();
        s.moment();
        s.try_sync();
        s.moment();
        Ok(s.sync.is_none())
    }
}

/// What the VMM does with a report: copies.
struct Vmm<'a> {
    model: &'a Model,
    copy: [u32; GRANULES],
}

impl DirtySink for Vmm<'_> {
    fn set_run(&mut self, iova: u64, length: u64) {
        let memory = self.model.0.borrow().memory;
        for granule in (iova >> 12) as usize..((iova + length) >> 12) as usize {
            if let (Some(to), Some(from)) = (self.copy.get_mut(granule), memory.get(granule)) {
                *to = *from;
            }
        }
    }
}

fn info() -> FnInfo {
    FnInfo {
        caps: Cap::Log.into(),
        page_shift_min: 12,
        page_shift_max: 12,
        ring_order_min: 4,
        ring_order_max: 4,
        max_ranges: 64,
        iova_bits: 48,
        compat: [0; 16],
        state_version_min: 0,
        state_version: 0,
        max_state_bytes: 0,
    }
}

/// Reports while the function writes at the moments of `writes`, then the last one.
/// Returns the number of moments and whether the copy is complete.
///
/// The first granule is not in START's ranges: a report has to add it (rule 9). An
/// interrupt drains between two reports when `interrupt`.
fn run(writes: [(u32, usize); 2], broken: Broken, interrupt: bool) -> Result<(u32, bool)> {
    let mut tracked = [true; GRANULES];
    tracked[0] = false;
    let model = Model(RefCell::new(State {
        memory: [0; GRANULES],
        tracked,
        filtered: [false; GRANULES],
        ring: [None; RING],
        posted: 0,
        consumed: 0,
        lost: false,
        on_its_way: None,
        sync: None,
        broken,
        moment: 0,
        writes,
    }));
    let mut vmm = Vmm {
        model: &model,
        copy: [0; GRANULES],
    };
    let stats = LogStats::new();
    let started = [IovaRange::new(0x1000, (GRANULES as u64 - 1) << 12)?];
    let mut log = Session::new(&model, &info(), &started, 4096, LogParams { ring_order: 4 })?;
    // Sections as VMMs ask for them, one of them not aligned to granules.
    let asked = [(0, 0x2000), (0x2000, 0x2000), (0x800, 0x2800), (0, 0x4000)];
    for (iova, length) in asked {
        // Work for the log in any case, so that there is something to sync.
        let mut s = model.0.borrow_mut();
        s.write(1);
        s.write(3);
        drop(s);
        let range = IovaRange::new(iova, length)?;
        log.checked(|l| l.report(range, &mut vmm, &stats, c"model"))?;
        model.0.borrow_mut().moment();
        if interrupt {
            log.checked(|l| l.drain_from_interrupt(&stats, c"model"))?;
        }
    }
    // The function writes no more.
    let moments = model.0.borrow().moment;
    model.0.borrow_mut().writes = NEVER;
    let all = IovaRange::new(0, (GRANULES as u64) << 12)?;
    log.checked(|l| l.report(all, &mut vmm, &stats, c"model"))?;
    let complete = vmm.copy == model.0.borrow().memory;
    Ok((moments, complete))
}

/// Tries pairs of moments and granules until a write is lost.
fn losses(broken: Broken) -> Result<u32> {
    let mut lost = 0;
    for interrupt in [false, true] {
        let (moments, _) = run(NEVER, broken, interrupt)?;
        // A few more: writes make for more entries and so for more moments.
        for first in 0..moments + 8 {
            // Near each other: what is far apart is in different calls.
            for second in first..first + 8 {
                for granules in [(1, 2), (2, 2), (0, 0)] {
                    let writes = [(first, granules.0), (second, granules.1)];
                    let (_, complete) = run(writes, broken, interrupt)?;
                    lost += u32::from(!complete);
                    if lost != 0 {
                        return Ok(lost);
                    }
                }
            }
        }
    }
    Ok(lost)
}

#[kunit_tests(dlr_vf_log_model)]
mod tests {
    use super::*;

    #[test]
    fn no_write_is_lost_at_any_moment() -> Result {
        assert_eq!(losses(Broken::Nothing)?, 0);
        Ok(())
    }

    #[test]
    fn a_late_marker_is_seen() -> Result {
        assert!(losses(Broken::LateMarker)? > 0);
        Ok(())
    }

    #[test]
    fn an_entry_left_on_its_way_is_seen() -> Result {
        assert!(losses(Broken::NoFlush)? > 0);
        Ok(())
    }

    #[test]
    fn a_silent_loss_is_seen() -> Result {
        assert!(losses(Broken::SilentLoss)? > 0);
        Ok(())
    }
}
