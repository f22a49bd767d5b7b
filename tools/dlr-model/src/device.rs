// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The device: DMA writes, the filter, the ring, the commands of the log row.

use crate::protocol::{Action, Fault, Protocol, Set, MAX_GRANULES};

/// One entry of the log ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// This granule was written.
    Write(u8),
    /// Marker of the SYNC with this cookie.
    Sync(u8),
    /// Later writes are not logged until a SYNC of everything.
    Lost,
    /// Of a type that the contract does not define.
    Unknown,
}

/// What a SYNC covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncRange {
    /// Some granules.
    Part(Set),
    /// All ranges (`DLR_LOG_SYNC_F_ALL`).
    All,
}

/// How a SYNC ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Its marker is posted.
    Done,
    /// No room for the marker in time; nothing has changed.
    Busy,
}

/// State of the device, and what lies between it and the driver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    /// DMA writes still to come.
    pub writes_left: u8,
    /// Function-level resets of the function still to come.
    pub resets_left: u8,
    /// Entries that may still be spoilt.
    pub spoils_left: u8,
    /// The management function may still be lost.
    pub losses_left: u8,
    /// Not suspended.
    pub running: bool,
    /// Granules that are logged; none before START.
    pub tracked: Set,
    /// Tracked, but not yet (broken START).
    pub tracked_late: Set,
    /// Granules whose data is visible and whose entry is owed, oldest first.
    pub owed: Vec<u8>,
    /// Granules whose entry is posted and whose data is owed (broken R1).
    pub late_data: Vec<u8>,
    /// Granules that are not logged again.
    pub filter: Set,
    /// Granules that were ever logged (for [`Fault::EntryDropped`]).
    pub seen: Set,
    /// LOST is posted and not re-armed.
    pub lost: bool,
    /// Posted entries that the driver has not taken.
    pub ring: Vec<Entry>,
    /// Slots that the driver has taken and not given back (`DLR_REG_LOG_HEAD`).
    pub kept: u8,
    /// Granules that the device cannot write any more.
    pub unmapped: Set,
    /// SYNCs submitted and not executed, with their cookies, oldest first.
    pub syncs: Vec<(SyncRange, u8)>,
    /// Completion of a SYNC that the driver has not seen, and its cookie.
    pub answer: Option<(Answer, u8)>,
    /// LOG_ADD submitted and not executed.
    pub add: Set,
    /// A marker is owed for a filter that is already cleared (broken R3).
    pub marker_owed: Option<u8>,
    /// The management function, and the log with it, is lost.
    pub gone: bool,
}

impl Device {
    pub(crate) fn new(model: &Protocol) -> Self {
        Self {
            writes_left: model.bounds.writes,
            resets_left: model.bounds.resets,
            spoils_left: model.bounds.spoils,
            losses_left: model.bounds.losses,
            running: true,
            tracked: 0,
            tracked_late: 0,
            owed: Vec::new(),
            late_data: Vec::new(),
            filter: 0,
            seen: 0,
            lost: false,
            ring: Vec::new(),
            kept: 0,
            unmapped: 0,
            syncs: Vec::new(),
            answer: None,
            add: 0,
            marker_owed: None,
            gone: false,
        }
    }

    pub(crate) fn actions(&self, model: &Protocol, actions: &mut Vec<Action>) {
        if self.running && self.writes_left > 0 {
            let mapped = model.all() & !self.unmapped;
            actions.extend(model.granules(mapped).map(Action::Write));
        }
        if !self.owed.is_empty() {
            actions.push(Action::Post);
        }
        // Before START there is no log that could skip anything.
        if self.tracked != 0 {
            let untracked = |g: &u8| self.tracked & (1 << g) == 0;
            let skipped = self.owed.iter().copied().filter(untracked);
            actions.extend(skipped.map(Action::Skip));
        }
        if !self.late_data.is_empty() {
            actions.push(Action::LateData);
        }
        if self.tracked_late != 0 {
            actions.push(Action::LateStart);
        }
        // One of a suspended function, too: nothing is written after it, as the guest does not run.
        if self.resets_left > 0 {
            actions.push(Action::Reset);
        }
        if self.spoils_left > 0 && self.ring.iter().any(|e| matches!(e, Entry::Write(_))) {
            actions.push(Action::Spoil);
        }
        if self.losses_left > 0 && self.tracked != 0 {
            actions.push(Action::Lose);
        }
        if self.add != 0 {
            actions.push(Action::Add);
        }
        if !self.syncs.is_empty() && self.marker_owed.is_none() {
            // The marker never takes the reserved slot: it waits for the driver.
            actions.push(if self.room(model) {
                Action::Sync
            } else {
                Action::Busy
            });
        }
        if self.marker_owed.is_some() && self.room(model) {
            actions.push(Action::LateMarker);
        }
    }

    /// An entry other than LOST finds a slot.
    fn room(&self, model: &Protocol) -> bool {
        model.bounds.ring > self.ring.len() + usize::from(self.kept) + 1
    }

    pub(crate) fn start(&mut self, model: &Protocol, tracked: Set) {
        if model.is(Fault::StartEarly) {
            self.tracked_late = tracked;
        } else {
            self.tracked = tracked;
        }
    }

    pub(crate) fn late_start(&mut self) {
        self.tracked |= std::mem::take(&mut self.tracked_late);
    }

    pub(crate) fn write(&mut self, model: &Protocol, g: u8, memory: &mut [u8; MAX_GRANULES]) {
        self.writes_left -= 1;
        if model.is(Fault::EntryBeforeData) {
            self.post_entry(model, g);
            self.late_data.push(g);
        } else {
            memory[usize::from(g)] += 1;
            self.owed.push(g);
        }
    }

    pub(crate) fn late_data(&mut self, memory: &mut [u8; MAX_GRANULES]) {
        memory[usize::from(self.late_data.remove(0))] += 1;
    }

    pub(crate) fn post(&mut self, model: &Protocol) {
        let g = self.owed.remove(0);
        self.post_entry(model, g);
    }

    pub(crate) fn skip(&mut self, g: u8) {
        if let Some(at) = self.owed.iter().position(|owed| *owed == g) {
            self.owed.remove(at);
        }
    }

    pub(crate) fn flush(&mut self, model: &Protocol) {
        while !self.owed.is_empty() {
            self.post(model);
        }
    }

    fn post_entry(&mut self, model: &Protocol, g: u8) {
        let bit = 1 << g;
        if self.gone || self.tracked & bit == 0 || self.lost || self.filter & bit != 0 {
            return;
        }
        if model.is(Fault::EntryDropped) && self.seen & bit == 0 {
            self.seen |= bit;
            self.filter |= bit;
            return;
        }
        if self.room(model) {
            self.filter |= bit;
            self.ring.push(Entry::Write(g));
        } else if !model.is(Fault::LostNotPosted) {
            self.lost = true;
            self.ring.push(Entry::Lost);
        }
    }

    /// R3: clearing the filter and posting the marker are one step.
    pub(crate) fn sync(&mut self, model: &Protocol) {
        let (range, cookie) = self.syncs.remove(0);
        let (range, all) = match range {
            SyncRange::Part(range) => (range, false),
            SyncRange::All => (model.all(), true),
        };
        if !model.is(Fault::FilterNotCleared) {
            self.filter &= !range;
        }
        if all && !model.is(Fault::NotRearmed) {
            self.lost = false;
        }
        if model.is(Fault::MarkerAfterClear) {
            self.marker_owed = Some(cookie);
        } else {
            self.ring.push(Entry::Sync(cookie));
            self.answer = Some((Answer::Done, cookie));
        }
    }

    pub(crate) fn late_marker(&mut self) {
        if let Some(cookie) = self.marker_owed.take() {
            self.ring.push(Entry::Sync(cookie));
            self.answer = Some((Answer::Done, cookie));
        }
    }

    pub(crate) fn busy(&mut self) {
        let (_, cookie) = self.syncs.remove(0);
        self.answer = Some((Answer::Busy, cookie));
    }

    /// R9.
    pub(crate) fn add(&mut self, model: &Protocol) {
        let add = std::mem::take(&mut self.add);
        if !model.is(Fault::AddNotTracked) {
            self.tracked |= add;
        }
    }

    /// R8: a reset of the function leaves the log alone.
    pub(crate) fn reset(&mut self, model: &Protocol) {
        self.resets_left -= 1;
        if model.is(Fault::ResetEndsLog) {
            self.tracked = 0;
        }
    }

    /// The oldest WRITE that the driver has not taken becomes one of an unknown type.
    pub(crate) fn spoil(&mut self) {
        self.spoils_left -= 1;
        let write = |e: &&mut Entry| matches!(e, Entry::Write(_));
        if let Some(entry) = self.ring.iter_mut().find(write) {
            *entry = Entry::Unknown;
        }
    }

    /// What is in host memory stays there; nothing comes any more.
    pub(crate) fn lose(&mut self) {
        self.losses_left = 0;
        self.gone = true;
        self.owed.clear();
        self.syncs.clear();
        self.answer = None;
        self.add = 0;
    }
}
