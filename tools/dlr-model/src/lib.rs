// SPDX-License-Identifier: Apache-2.0 OR MIT

//! An exhaustive model of the dirty-log protocol.
//!
//! Three actors share the state: the *device* writes guest memory and posts log entries,
//! the *driver* drains the ring and answers REPORT, the *VMM* copies pages: all of them
//! after START, then those that each REPORT names, then, with the device suspended, those
//! that the last REPORT names. Every interleaving of the steps within the [`Bounds`] is
//! visited. What is demanded:
//!
//! * a finished migration has copied what is in memory;
//! * no REPORT fails unless an entry was spoilt or the management function lost;
//! * there is always a next step until the migration is over. Every step uses something up
//!   (a write, a round, an entry, a slot to give back, a command), so there are no cycles and
//!   this says that every REPORT ends.
//!
//! The steps are as fine as the rules of `Documentation/hardware/dlr-contract.rst` need: data
//! and entry of a DMA write are two steps, the driver takes one entry a step and gives slots back
//! when it likes, commands are given, executed and answered in steps of their own, the VMM copies
//! one page a step and suspends beside a REPORT that is under way. [`Fault`] breaks one rule, and
//! the tests demand for each that one of the properties fails.
//!
//! `tools/dlr-explorer` requires that what the driver and the reference NIC do are steps of this
//! protocol, in the scenarios of which it has all steps.
//!
//! Not modelled: phases and the wrap of counts (an entry is there or not), runs of several
//! granules, hold-back (it delays writes, and writes come at any time here), several logs.

#![forbid(unsafe_code)]

mod device;
mod driver;
mod protocol;
mod state;
#[cfg(test)]
mod tests;
mod vmm;

pub use device::{Answer, Device, Entry, SyncRange};
pub use protocol::{Action, Bounds, Fault, Protocol, Set, MAX_GRANULES};
pub use state::{Driver, Phase, Purpose, Stage, State, Vmm};

use stateright::{Model, Property};

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            memory: [0; MAX_GRANULES],
            device: Device::new(self),
            driver: Driver {
                aborts_left: self.bounds.aborts,
                ..Driver::default()
            },
            vmm: Vmm::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.vmm.stage == Stage::Failed {
            return;
        }
        // A device that is suspended has nothing left to do for the destination; one that was
        // suspended too early has.
        state.device.actions(self, actions);
        if state.vmm.is_over() {
            actions.retain(|action| matches!(action, Action::Write(_) | Action::LateData));
            return;
        }
        state.driver.actions(self, state, actions);
        state.vmm.actions(self, state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Write(g) => state.device.write(self, g, &mut state.memory),
            Action::Post => state.device.post(self),
            Action::Skip(g) => state.device.skip(g),
            Action::LateData => state.device.late_data(&mut state.memory),
            Action::LateStart => state.device.late_start(),
            Action::Sync => state.device.sync(self),
            Action::Busy => state.device.busy(),
            Action::LateMarker => state.device.late_marker(),
            Action::Add => {
                state.device.add(self);
                driver::added(self, &mut state);
            }
            Action::Reset => state.device.reset(self),
            Action::Spoil => state.device.spoil(),
            Action::Lose => {
                state.device.lose();
                driver::lost(&mut state);
            }
            Action::Drive => driver::step(self, &mut state),
            Action::Return => driver::give_back(self, &mut state),
            Action::Answer => driver::answer(self, &mut state),
            Action::Abort => driver::abort(&mut state),
            Action::Start => vmm::start(self, &mut state),
            Action::Report => {
                let mapped = self.all() & !state.device.unmapped;
                driver::report(self, &mut state, mapped);
            }
            Action::Unmap(g) => {
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
            Property::always("no failure without a cause", |m: &Self, s: &State| {
                let spoilt = s.device.spoils_left < m.bounds.spoils;
                s.vmm.stage != Stage::Failed || spoilt || s.device.gone
            }),
            Property::always("there is a next step", |m: &Self, s: &State| {
                let mut actions = Vec::new();
                m.actions(s, &mut actions);
                s.vmm.is_over() || !actions.is_empty()
            }),
            // Guards the model itself: a protocol that never ends would lose nothing.
            Property::sometimes("a migration completes", |m: &Self, s: &State| {
                s.vmm.stage == Stage::Done && s.device.writes_left == 0 && m.bounds.writes > 0
            }),
            Property::sometimes("the ring overflows", |_: &Self, s: &State| s.device.lost),
            Property::sometimes("suspended beside a SYNC", |_: &Self, s: &State| {
                s.vmm.stage == Stage::Report && s.vmm.suspended && !s.device.syncs.is_empty()
            }),
        ]
    }
}
