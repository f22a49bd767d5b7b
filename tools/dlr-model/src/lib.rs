// SPDX-License-Identifier: Apache-2.0 OR MIT

//! An exhaustive model of the dirty-log protocol.
//!
//! Three actors share the state: the *device* writes guest memory and posts log entries,
//! the *driver* drains the ring and answers REPORT, the *VMM* copies pages: all of them
//! after START, then those that each REPORT names, then, with the device suspended, those
//! that the last REPORT names. The one property is that a finished migration has copied
//! what is in memory. Every interleaving of the steps within the [`Bounds`] is visited.
//!
//! The steps are as fine as the rules R1–R7 of
//! `Documentation/hardware/dlr-contract.rst` need: data and entry of a DMA write are two
//! steps, the driver takes one entry a step, the VMM copies one page a step. [`Fault`]
//! breaks one rule, and the tests demand a lost page for each.

#![forbid(unsafe_code)]

mod device;
mod driver;
mod vmm;

pub use device::{Device, Entry, SyncRange};
pub use driver::{Driver, Phase};
pub use vmm::{Stage, Vmm};

use stateright::{Model, Property};

/// Most granules that a model can have (sets of them are bits of a byte).
pub const MAX_GRANULES: usize = 8;

/// Set of granules, one bit each.
pub type Set = u8;

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// R1: the entry is posted before the data is visible.
    EntryBeforeData,
    /// R2: the first entry of each granule is lost, though the filter takes it as logged.
    EntryDropped,
    /// R3: SYNC posts its marker and leaves the filter as it is.
    FilterNotCleared,
    /// R3: SYNC clears the filter first and posts the marker in a later step.
    MarkerAfterClear,
    /// R4: the driver goes on past the marker before it harvests.
    HarvestPastMarker,
    /// R5: POSTED answers without posting the entries that are owed.
    PostedWithoutFlush,
    /// R6: a full ring drops entries and does not say so.
    LostNotPosted,
    /// R6: the driver reports everything dirty and re-arms only in the next REPORT.
    HarvestBeforeRearm,
    /// R7: suspend completes while a write is still to come.
    SuspendEarly,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::EntryBeforeData,
        Self::EntryDropped,
        Self::FilterNotCleared,
        Self::MarkerAfterClear,
        Self::HarvestPastMarker,
        Self::PostedWithoutFlush,
        Self::LostNotPosted,
        Self::HarvestBeforeRearm,
        Self::SuspendEarly,
    ];
}

/// How much is explored.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Granules of guest memory, at most [`MAX_GRANULES`].
    pub granules: usize,
    /// DMA writes of the device in a whole migration.
    pub writes: u8,
    /// REPORTs before the device is suspended.
    pub rounds: u8,
    /// Slots of the log ring, the reserved one included.
    pub ring: usize,
}

/// The protocol, right or with one rule broken.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// Limits of the exploration.
    pub bounds: Bounds,
    /// The rule that is broken, if any.
    pub fault: Option<Fault>,
}

impl Protocol {
    fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn granules(&self, set: Set) -> impl Iterator<Item = u8> {
        (0..self.bounds.granules as u8).filter(move |g| set & (1 << g) != 0)
    }

    fn all(&self) -> Set {
        ((1u16 << self.bounds.granules) - 1) as Set
    }
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Number of writes that each granule of guest memory has seen.
    pub memory: [u8; MAX_GRANULES],
    /// The device and its ring.
    pub device: Device,
    /// The driver's tracker.
    pub driver: Driver,
    /// The VMM and its copy.
    pub vmm: Vmm,
}

/// One step of one actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The device starts a DMA write to this granule.
    Write(u8),
    /// The device posts the oldest entry it owes.
    Post,
    /// The data of the oldest entry becomes visible ([`Fault::EntryBeforeData`] only).
    LateData,
    /// The device executes the pending SYNC, or its first half.
    Sync,
    /// The device posts the marker that it owes ([`Fault::MarkerAfterClear`] only).
    LateMarker,
    /// The driver takes one entry, or its next step without one.
    Drive,
    /// The VMM calls REPORT for all that is mapped.
    Report,
    /// The VMM unmaps this granule and calls REPORT for it, for the last time.
    Unmap(u8),
    /// The VMM copies this granule.
    Copy(u8),
    /// The VMM suspends the device.
    Suspend,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            memory: [0; MAX_GRANULES],
            device: Device::new(self.bounds.writes),
            driver: Driver::default(),
            vmm: Vmm::new(self.all()),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        state.device.actions(self, actions);
        state.driver.actions(state, actions);
        state.vmm.actions(self, state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Write(g) => state.device.write(self, g, &mut state.memory),
            Action::Post => state.device.post(self),
            Action::LateData => state.device.late_data(&mut state.memory),
            Action::Sync => state.device.sync(self),
            Action::LateMarker => state.device.late_marker(),
            Action::Drive => driver::step(self, &mut state),
            Action::Report => {
                state.vmm.begin_report();
                let mapped = self.all() & !state.device.unmapped;
                driver::report(self, &mut state, mapped);
            }
            Action::Unmap(g) => {
                state.vmm.begin_report();
                state.device.unmapped |= 1 << g;
                driver::report(self, &mut state, 1 << g);
            }
            Action::Copy(g) => state.vmm.copy(g, &state.memory),
            Action::Suspend => vmm::suspend(self, &mut state),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no lost page", |_: &Self, s: &State| {
                s.vmm.stage != Stage::Done || s.vmm.copied == s.memory
            }),
            // Guards the model itself: a protocol that never ends would lose nothing.
            Property::sometimes("a migration completes", |m: &Self, s: &State| {
                s.vmm.stage == Stage::Done && s.device.writes_left == 0 && m.bounds.writes > 0
            }),
            Property::sometimes("the ring overflows", |_: &Self, s: &State| s.device.lost),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stateright::Checker;

    const BOUNDS: Bounds = Bounds {
        granules: 2,
        writes: 4,
        rounds: 2,
        ring: 3,
    };

    fn check(bounds: Bounds, fault: Option<Fault>) -> impl Checker<Protocol> {
        Protocol { bounds, fault }
            .checker()
            .threads(2)
            .spawn_bfs()
            .join()
    }

    #[test]
    fn the_rules_lose_no_page() {
        let checker = check(BOUNDS, None);
        checker.assert_properties();
        println!("{} states", checker.unique_state_count());
    }

    #[test]
    fn three_granules_and_a_roomier_ring_lose_no_page() {
        let bounds = Bounds {
            granules: 3,
            writes: 3,
            rounds: 2,
            ring: 4,
        };
        let checker = check(bounds, None);
        assert!(checker.discovery("no lost page").is_none());
        assert!(checker.discovery("a migration completes").is_some());
    }

    #[test]
    fn every_broken_rule_loses_a_page() {
        for fault in Fault::ALL {
            let path = check(BOUNDS, Some(fault)).discovery("no lost page");
            assert!(path.is_some(), "{fault:?} went unnoticed");
        }
    }
}
