// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The VMM: rounds of REPORT and copy, suspend, last REPORT, last copy.
//!
//! Like QEMU it may unmap memory in between. Then it asks about exactly that range once and
//! never again, so whatever this REPORT does not name is lost (R5).

use crate::{driver::Phase, Action, Fault, Protocol, Set, State, MAX_GRANULES};

/// Where the migration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Copying what START or the last REPORT named, the device running.
    Copy,
    /// Inside a REPORT, the device running.
    Report,
    /// The device is suspended, the last REPORT not yet called.
    Suspended,
    /// Inside the last REPORT.
    LastReport,
    /// Copying what the last REPORT named.
    LastCopy,
    /// The destination runs.
    Done,
}

impl Stage {
    pub(crate) fn reporting(self) -> Self {
        match self {
            Self::Suspended => Self::LastReport,
            _ => Self::Report,
        }
    }
}

/// State of the VMM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vmm {
    /// Where the migration is.
    pub stage: Stage,
    /// REPORTs called so far, the last one not counted.
    pub rounds: u8,
    /// Granules named and not yet copied.
    pub to_copy: Set,
    /// The destination's memory.
    pub copied: [u8; MAX_GRANULES],
}

impl Vmm {
    pub(crate) fn new(all: Set) -> Self {
        Self {
            stage: Stage::Copy,
            rounds: 0,
            to_copy: all,
            copied: [0; MAX_GRANULES],
        }
    }

    pub(crate) fn actions(&self, model: &Protocol, state: &State, actions: &mut Vec<Action>) {
        // REPORT takes the log lock.
        let unlocked = state.driver.phase == Phase::Idle;
        match self.stage {
            Stage::Copy | Stage::LastCopy => {
                actions.extend(model.granules(self.to_copy).map(Action::Copy));
                if self.stage == Stage::LastCopy {
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
            Stage::Suspended if unlocked => actions.push(Action::Report),
            _ => {}
        }
    }

    /// A round counts when its REPORT is called.
    pub(crate) fn begin_report(&mut self) {
        if self.stage == Stage::Copy {
            self.rounds += 1;
        }
    }

    pub(crate) fn copy(&mut self, g: u8, memory: &[u8; MAX_GRANULES]) {
        self.copied[usize::from(g)] = memory[usize::from(g)];
        self.to_copy &= !(1 << g);
        if self.stage == Stage::LastCopy && self.to_copy == 0 {
            self.stage = Stage::Done;
        }
    }
}

/// R7: complete when every write is visible and its entry posted.
pub(crate) fn suspend(model: &Protocol, state: &mut State) {
    state.vmm.stage = Stage::Suspended;
    if model.is(Fault::SuspendEarly) {
        return;
    }
    state.device.running = false;
    state.device.flush(model);
    while !state.device.late_data.is_empty() {
        state.device.late_data(&mut state.memory);
    }
}
