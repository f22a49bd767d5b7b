// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The driver: background drain, REPORT, recovery from a loss.
//!
//! A phase other than [`Phase::Idle`] means that the log lock is held.

use crate::{device::SyncRange, Action, Entry, Fault, Protocol, Set, Stage, State};

/// What the driver is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing; the threaded interrupt may drain.
    #[default]
    Idle,
    /// REPORT drains this many entries, those that POSTED counted.
    DrainPosted(u8),
    /// REPORT has sent its SYNC and drains to the marker.
    DrainMarker,
    /// LOST was taken: a SYNC of everything is under way; back to REPORT or to idle.
    Recover {
        /// A REPORT is waiting for it.
        report: bool,
    },
}

/// The driver's tracker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Driver {
    /// What it is doing.
    pub phase: Phase,
    /// The software bitmap.
    pub bits: Set,
    /// What the REPORT under way asks for.
    pub range: Set,
    /// A re-arm is owed ([`Fault::HarvestBeforeRearm`] only).
    pub rearm_owed: bool,
}

impl Driver {
    pub(crate) fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let entry = !state.device.ring.is_empty();
        match self.phase {
            Phase::DrainPosted(0) => actions.push(Action::Drive),
            _ if entry => actions.push(Action::Drive),
            _ => {}
        }
    }
}

/// REPORT of `range` enters: the POSTED read (R5), which the device answers once every entry
/// that it owes is posted.
pub(crate) fn report(model: &Protocol, state: &mut State, range: Set) {
    state.vmm.stage = state.vmm.stage.reporting();
    state.driver.range = range;
    if state.driver.rearm_owed {
        state.driver.rearm_owed = false;
        state.device.syncs.push(SyncRange::All);
        state.driver.phase = Phase::DrainMarker;
        return;
    }
    if !model.is(Fault::PostedWithoutFlush) {
        state.device.flush(model);
    }
    state.driver.phase = Phase::DrainPosted(state.device.ring.len() as u8);
}

/// One step of whoever holds the log lock.
pub(crate) fn step(model: &Protocol, state: &mut State) {
    if state.driver.phase == Phase::DrainPosted(0) {
        if state.driver.bits & state.driver.range == 0 {
            // Lazy SYNC: nothing dirty, no command.
            harvest(state);
        } else {
            state.device.syncs.push(SyncRange::Part(state.driver.range));
            state.driver.phase = Phase::DrainMarker;
        }
        return;
    }
    let entry = state.device.ring.remove(0);
    match (entry, state.driver.phase) {
        (Entry::Write(g), phase) => {
            // While a loss is being recovered everything gets marked at its end anyway.
            state.driver.bits |= 1 << g;
            if let Phase::DrainPosted(n) = phase {
                state.driver.phase = Phase::DrainPosted(n - 1);
            }
        }
        (Entry::Lost, Phase::Idle) => recover(model, state, false),
        (Entry::Lost, Phase::DrainPosted(_)) => recover(model, state, true),
        // The ring filled up while a SYNC was pending; it need not re-arm, so another follows.
        (Entry::Lost, Phase::DrainMarker) => recover(model, state, true),
        (Entry::Lost, Phase::Recover { .. }) => {}
        // The marker of the REPORT that met the loss.
        (Entry::Sync { all: false }, Phase::Recover { .. }) => {}
        (Entry::Sync { all: true }, Phase::Recover { report }) => {
            // R6: mark only now that the device logs again.
            state.driver.bits = model.all();
            if report {
                harvest(state);
            } else {
                state.driver.phase = Phase::Idle;
            }
        }
        (Entry::Sync { .. }, _) => {
            if model.is(Fault::HarvestPastMarker) {
                for entry in std::mem::take(&mut state.device.ring) {
                    if let Entry::Write(g) = entry {
                        state.driver.bits |= 1 << g;
                    }
                }
            }
            harvest(state);
        }
    }
}

fn recover(model: &Protocol, state: &mut State, report: bool) {
    if model.is(Fault::HarvestBeforeRearm) {
        state.driver.bits = model.all();
        state.driver.rearm_owed = true;
        if report {
            harvest(state);
        }
        return;
    }
    state.device.syncs.push(SyncRange::All);
    state.driver.phase = Phase::Recover { report };
}

/// Gives the bits to the VMM and ends the REPORT.
fn harvest(state: &mut State) {
    state.vmm.to_copy |= state.driver.bits & state.driver.range;
    state.driver.bits &= !state.driver.range;
    state.driver.phase = Phase::Idle;
    state.vmm.stage = match state.vmm.stage {
        Stage::LastReport if state.vmm.to_copy == 0 => Stage::Done,
        Stage::LastReport => Stage::LastCopy,
        _ => Stage::Copy,
    };
}
