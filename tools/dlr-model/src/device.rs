// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The device: DMA writes, the filter, the ring.

use crate::{Action, Fault, Protocol, Set, MAX_GRANULES};

/// One entry of the log ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// This granule was written.
    Write(u8),
    /// Marker of a SYNC; the cookie says whether it covers everything.
    Sync {
        /// It re-armed after a loss too.
        all: bool,
    },
    /// Later writes are not logged until a SYNC of everything.
    Lost,
}

/// What a SYNC covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncRange {
    /// Some granules.
    Part(Set),
    /// All ranges (`DLR_LOG_SYNC_F_ALL`).
    All,
}

/// State of the device. The ring is part of it: entries leave when the driver takes them,
/// and the doorbell is taken as immediate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    /// DMA writes still to come.
    pub writes_left: u8,
    /// Not suspended.
    pub running: bool,
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
    /// Granules that nobody can write any more.
    pub unmapped: Set,
    /// SYNCs submitted and not executed, oldest first.
    pub syncs: Vec<SyncRange>,
    /// A marker is owed for a filter that is already cleared (broken R3).
    pub marker_owed: Option<Entry>,
}

impl Device {
    pub(crate) fn new(writes: u8) -> Self {
        Self {
            writes_left: writes,
            running: true,
            owed: Vec::new(),
            late_data: Vec::new(),
            filter: 0,
            seen: 0,
            lost: false,
            ring: Vec::new(),
            unmapped: 0,
            syncs: Vec::new(),
            marker_owed: None,
        }
    }

    pub(crate) fn actions(&self, model: &Protocol, actions: &mut Vec<Action>) {
        if self.running && self.writes_left > 0 {
            actions.extend(
                model
                    .granules(model.all() & !self.unmapped)
                    .map(Action::Write),
            );
        }
        if !self.owed.is_empty() {
            actions.push(Action::Post);
        }
        if !self.late_data.is_empty() {
            actions.push(Action::LateData);
        }
        // The marker never takes the reserved slot: it waits for the driver.
        let room = model.bounds.ring - self.ring.len() > 1;
        if !self.syncs.is_empty() && self.marker_owed.is_none() && room {
            actions.push(Action::Sync);
        }
        if self.marker_owed.is_some() && room {
            actions.push(Action::LateMarker);
        }
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

    pub(crate) fn flush(&mut self, model: &Protocol) {
        while !self.owed.is_empty() {
            self.post(model);
        }
    }

    fn post_entry(&mut self, model: &Protocol, g: u8) {
        let bit = 1 << g;
        if self.lost || self.filter & bit != 0 {
            return;
        }
        if model.is(Fault::EntryDropped) && self.seen & bit == 0 {
            self.seen |= bit;
            self.filter |= bit;
            return;
        }
        if model.bounds.ring - self.ring.len() > 1 {
            self.filter |= bit;
            self.ring.push(Entry::Write(g));
        } else if !model.is(Fault::LostNotPosted) {
            self.lost = true;
            self.ring.push(Entry::Lost);
        }
    }

    /// R3: clearing the filter and posting the marker are one step.
    pub(crate) fn sync(&mut self, model: &Protocol) {
        let (range, all) = match self.syncs.remove(0) {
            SyncRange::Part(range) => (range, false),
            SyncRange::All => (model.all(), true),
        };
        if !model.is(Fault::FilterNotCleared) {
            self.filter &= !range;
        }
        if all {
            self.lost = false;
        }
        let marker = Entry::Sync { all };
        if model.is(Fault::MarkerAfterClear) {
            self.marker_owed = Some(marker);
        } else {
            self.ring.push(marker);
        }
    }

    pub(crate) fn late_marker(&mut self) {
        self.ring.extend(self.marker_owed.take());
    }
}
