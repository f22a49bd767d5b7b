// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The driver: background drain, REPORT, recovery from a loss.
//!
//! A phase other than [`Phase::Idle`] means that the log lock is held.

use crate::{
    device::{Answer, Entry, SyncRange},
    protocol::{Action, Fault, Protocol, Set},
    state::{Driver, Phase, Purpose, Stage, State},
};

impl Driver {
    pub(crate) fn actions(&self, model: &Protocol, state: &State, actions: &mut Vec<Action>) {
        let device = &state.device;
        let entry = !device.ring.is_empty();
        let drive = match self.phase {
            Phase::DrainPosted(0) | Phase::Added => true,
            Phase::Extend { .. } => false,
            Phase::Sync(_) => entry && self.goes_on(model, state),
            Phase::Idle | Phase::DrainPosted(_) => entry,
        };
        if drive {
            actions.push(Action::Drive);
        }
        let waits = matches!(self.phase, Phase::Sync(_));
        if device.kept > 0 && !(waits && model.is(Fault::SlotsKept)) {
            actions.push(Action::Return);
        }
        if device.answer.is_some() {
            actions.push(Action::Answer);
        }
        let in_flight = !device.syncs.is_empty() || device.answer.is_some();
        if waits && in_flight && self.aborts_left > 0 {
            actions.push(Action::Abort);
        }
    }

    /// Whether the next entry may be taken while a SYNC is under way.
    ///
    /// Nothing behind a marker is taken before the SYNC has completed: it may be the last one.
    /// Once it has completed every marker of it is posted, so the driver sees whether another
    /// one follows, and goes on to that.
    fn goes_on(&self, model: &Protocol, state: &State) -> bool {
        let follows = state.device.ring.contains(&Entry::Sync(self.cookie));
        let free = model.is(Fault::MarkersTakenFreely) && self.repeated > 0 && !self.answered;
        !self.seen || self.answered && follows || free
    }
}

/// REPORT of `range` enters.
pub(crate) fn report(model: &Protocol, state: &mut State, range: Set) {
    state.vmm.begin_report();
    state.driver.range = range;
    let outside = range & !state.driver.tracked;
    // A log that is gone takes no command.
    if model.bounds.add_first && outside != 0 && !state.device.gone {
        state.device.add = outside;
        state.driver.phase = Phase::Extend { synced: false };
    } else {
        read_posted(model, state);
    }
}

/// The POSTED read (R5), which the device answers once every entry that it owes is posted.
fn read_posted(model: &Protocol, state: &mut State) {
    if state.device.gone && !model.is(Fault::LossIgnored) {
        return fail(state);
    }
    if std::mem::take(&mut state.driver.rearm_owed) {
        return give(state, Purpose::Harvest, SyncRange::All);
    }
    if !model.is(Fault::PostedWithoutFlush) {
        state.device.flush(model);
    }
    state.driver.phase = Phase::DrainPosted(state.device.ring.len() as u8);
}

/// One step of whoever holds the log lock.
pub(crate) fn step(model: &Protocol, state: &mut State) {
    match state.driver.phase {
        Phase::DrainPosted(0) => return drained(model, state),
        Phase::Added => return read_posted(model, state),
        _ => {}
    }
    let entry = state.device.ring.remove(0);
    state.device.kept += 1;
    match entry {
        Entry::Write(g) => state.driver.bits |= 1 << g,
        Entry::Lost => state.driver.lost = true,
        Entry::Unknown if model.is(Fault::UnknownIgnored) => {}
        // R10.
        Entry::Unknown => return fail(state),
        Entry::Sync(cookie) => {
            let driver = &mut state.driver;
            let waits = matches!(driver.phase, Phase::Sync(_));
            if waits && cookie == driver.cookie {
                driver.seen = true;
            } else if let Some(at) = driver.extra.iter().position(|c| *c == cookie) {
                driver.extra.remove(at);
            } else {
                // Whose? Its filter was cleared without this driver.
                return fail(state);
            }
        }
    }
    match state.driver.phase {
        Phase::DrainPosted(n) => state.driver.phase = Phase::DrainPosted(n.saturating_sub(1)),
        Phase::Sync(_) => settle(model, state),
        _ => {}
    }
}

/// The driver gives slots back.
pub(crate) fn give_back(model: &Protocol, state: &mut State) {
    state.device.kept = 0;
    settle(model, state);
}

/// The driver sees that its SYNC has ended.
pub(crate) fn answer(model: &Protocol, state: &mut State) {
    let waits = matches!(state.driver.phase, Phase::Sync(_));
    match state.device.answer.take() {
        // Of a SYNC that is over.
        Some((_, cookie)) if !waits || cookie != state.driver.cookie => return,
        Some((Answer::Done, _)) => state.driver.answered = true,
        // With a marker of it taken it was executed when it was given the first time.
        Some((Answer::Busy, _)) if state.driver.seen => state.driver.answered = true,
        Some((Answer::Busy, _)) => {
            state.driver.again = true;
            // With nothing left to take or to give back there is room by now.
            if !state.device.ring.is_empty() || state.device.kept > 0 {
                return;
            }
        }
        None => {}
    }
    settle(model, state);
}

/// The SYNC is dropped, executed or not, and given again with its cookie.
pub(crate) fn abort(state: &mut State) {
    let Phase::Sync(purpose) = state.driver.phase else {
        return;
    };
    state.driver.aborts_left -= 1;
    state.driver.repeated += 1;
    state.device.answer = None;
    state.device.syncs = vec![(range_of(state, purpose), state.driver.cookie)];
}

/// LOG_ADD has completed. First LOG_ADD, then the mark.
pub(crate) fn added(model: &Protocol, state: &mut State) {
    let Phase::Extend { synced } = state.driver.phase else {
        return;
    };
    let outside = state.driver.range & !state.driver.tracked;
    state.driver.tracked |= outside;
    state.driver.bits |= outside;
    if model.bounds.add_first {
        state.driver.phase = Phase::Added;
    } else {
        look(model, state, synced);
    }
}

/// The management function is lost while a REPORT waits for it.
pub(crate) fn lost(state: &mut State) {
    if matches!(state.driver.phase, Phase::Sync(_) | Phase::Extend { .. }) {
        fail(state);
    }
}

/// REPORT has drained what was posted.
fn drained(model: &Protocol, state: &mut State) {
    if !state.driver.lost {
        return extend(model, state, false);
    }
    if model.is(Fault::HarvestBeforeRearm) {
        state.driver.lost = false;
        state.driver.bits = state.driver.tracked;
        state.driver.rearm_owed = true;
        return harvest(state);
    }
    give(state, Purpose::Rearm { late: false }, SyncRange::All);
}

/// R9: tracks what is asked for and was not tracked.
fn extend(model: &Protocol, state: &mut State, synced: bool) {
    let outside = state.driver.range & !state.driver.tracked;
    if outside == 0 {
        return look(model, state, synced);
    }
    state.device.add = outside;
    state.driver.phase = Phase::Extend { synced };
}

/// Lazy SYNC: nothing dirty, no command.
fn look(model: &Protocol, state: &mut State, synced: bool) {
    let asked = state.driver.bits & state.driver.range != 0;
    // A log that is gone takes no command; the driver that takes no notice sends none.
    if asked && !synced && !(model.is(Fault::LossIgnored) && state.device.gone) {
        let range = SyncRange::Part(state.driver.range);
        give(state, Purpose::Harvest, range);
    } else {
        harvest(state);
    }
}

fn range_of(state: &State, purpose: Purpose) -> SyncRange {
    match purpose {
        Purpose::Harvest => SyncRange::Part(state.driver.range),
        Purpose::Rearm { .. } => SyncRange::All,
    }
}

/// Gives a new SYNC.
fn give(state: &mut State, purpose: Purpose, range: SyncRange) {
    let driver = &mut state.driver;
    driver.phase = Phase::Sync(purpose);
    driver.cookie += 1;
    (driver.seen, driver.answered) = (false, false);
    (driver.again, driver.repeated) = (false, 0);
    state.device.syncs.push((range, driver.cookie));
}

/// Goes on with the SYNC under way after something has happened to it.
fn settle(model: &Protocol, state: &mut State) {
    let Phase::Sync(purpose) = state.driver.phase else {
        return;
    };
    if state.driver.again {
        state.driver.again = false;
        if state.driver.seen {
            // The marker of the time before: it was executed.
            state.driver.answered = true;
        } else {
            let range = range_of(state, purpose);
            state.device.syncs.push((range, state.driver.cookie));
            return;
        }
    }
    if model.bounds.first_marker && state.driver.seen {
        // The others, if any come, are told by their cookie.
        let (cookie, count) = (state.driver.cookie, state.driver.repeated);
        state.driver.extra.extend((0..count).map(|_| cookie));
    } else if !state.driver.answered
        || state
            .device
            .ring
            .contains(&Entry::Sync(state.driver.cookie))
    {
        return;
    }
    if !state.driver.seen {
        // Completed, and no marker anywhere (R10).
        return fail(state);
    }
    if model.is(Fault::HarvestPastMarker) {
        for entry in std::mem::take(&mut state.device.ring) {
            state.device.kept += 1;
            if let Entry::Write(g) = entry {
                state.driver.bits |= 1 << g;
            }
        }
    }
    match purpose {
        // The ring filled up before the marker.
        Purpose::Harvest if state.driver.lost => {
            give(state, Purpose::Rearm { late: true }, SyncRange::All);
        }
        Purpose::Harvest => harvest(state),
        Purpose::Rearm { late } => {
            // R6: mark only now that the device logs again.
            state.driver.lost = false;
            state.driver.bits |= state.driver.tracked;
            if late {
                harvest(state);
            } else {
                extend(model, state, true);
            }
        }
    }
}

/// Gives the bits to the VMM and ends the REPORT.
fn harvest(state: &mut State) {
    state.vmm.to_copy |= state.driver.bits & state.driver.range;
    state.driver.bits &= !state.driver.range;
    state.driver.phase = Phase::Idle;
    state.vmm.end_report();
}

/// REPORT fails, now or when it is called next, and the migration with it.
fn fail(state: &mut State) {
    state.driver.phase = Phase::Idle;
    state.vmm.stage = Stage::Failed;
}
