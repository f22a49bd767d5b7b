// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The VMM: START, rounds of REPORT and copy, suspend, last REPORT, last copy.
//!
//! Like QEMU it may unmap memory in between. Then it asks about exactly that range once and
//! never again, so whatever this REPORT does not name is lost (R5). Another thread of it may
//! suspend the device while a REPORT is under way: SUSPEND stands in another row than SYNC.

use crate::{
    protocol::{Action, Fault, Protocol, MAX_GRANULES},
    state::{Phase, Stage, State, Vmm},
};

impl Vmm {
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::Setup,
            suspended: false,
            rounds: 0,
            to_copy: 0,
            copied: [0; MAX_GRANULES],
        }
    }

    /// The migration is over, one way or the other.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Done | Stage::Failed)
    }

    pub(crate) fn actions(&self, model: &Protocol, state: &State, actions: &mut Vec<Action>) {
        // REPORT takes the log lock.
        let unlocked = state.driver.phase == Phase::Idle;
        match self.stage {
            Stage::Setup => actions.push(Action::Start),
            Stage::Copy => {
                actions.extend(model.granules(self.to_copy).map(Action::Copy));
                if self.suspended {
                    if unlocked {
                        actions.push(Action::Report);
                    }
                    return;
                }
                if unlocked && self.rounds < model.bounds.rounds {
                    let mapped = model.all() & !state.device.unmapped;
                    actions.push(Action::Report);
                    actions.extend(model.granules(mapped).map(Action::Unmap));
                }
                if self.to_copy == 0 {
                    actions.push(Action::Suspend);
                }
            }
            Stage::LastCopy => actions.extend(model.granules(self.to_copy).map(Action::Copy)),
            Stage::Report if !self.suspended => actions.push(Action::Suspend),
            _ => {}
        }
    }

    /// A round counts when its REPORT is called.
    pub(crate) fn begin_report(&mut self) {
        if self.suspended {
            self.stage = Stage::LastReport;
        } else {
            self.stage = Stage::Report;
            self.rounds += 1;
        }
    }

    pub(crate) fn end_report(&mut self) {
        self.stage = match self.stage {
            Stage::LastReport if self.to_copy == 0 => Stage::Done,
            Stage::LastReport => Stage::LastCopy,
            _ => Stage::Copy,
        };
    }

    pub(crate) fn copy(&mut self, g: u8, memory: &[u8; MAX_GRANULES]) {
        self.copied[usize::from(g)] = memory[usize::from(g)];
        self.to_copy &= !(1 << g);
        if self.stage == Stage::LastCopy && self.to_copy == 0 {
            self.stage = Stage::Done;
        }
    }
}

/// START, of all but what is to be added later (R9); then everything is copied once.
pub(crate) fn start(model: &Protocol, state: &mut State) {
    let tracked = model.all() & !model.bounds.untracked;
    state.device.start(model, tracked);
    state.driver.tracked = tracked;
    state.vmm.to_copy = model.all();
    state.vmm.stage = Stage::Copy;
}

/// R7: complete when every write is visible and its entry posted. It waits for no SYNC.
pub(crate) fn suspend(model: &Protocol, state: &mut State) {
    state.vmm.suspended = true;
    if model.is(Fault::SuspendEarly) {
        return;
    }
    state.device.running = false;
    state.device.flush(model);
    while !state.device.late_data.is_empty() {
        state.device.late_data(&mut state.memory);
    }
}
