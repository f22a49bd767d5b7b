// SPDX-License-Identifier: GPL-2.0

//! Aborts: the recovery from an overdue command that affects one function only.

use super::{
    super::{
        device::{
            Access,
            Command,
            Device,
            Hardware, //
        },
        life::{
            self,
            Attempt,
            Millis, //
        },
    },
    bit,
    desk::Desk,
    Life,
    Queue, //
};
use kernel::prelude::*;

impl<D: Device> Queue<D> {
    /// Begins or continues the abort of each function that has an overdue command.
    pub(super) fn step_aborts(&self, desk: &mut Desk<D>, hw: &Hardware<D>, now: Millis) {
        let (overdue, aborting) = {
            let state = self.state.lock();
            (state.overdue(), state.aborting)
        };
        for channel in &self.channels {
            let function = channel.number;
            let next = if aborting & bit(function) != 0 {
                self.step_abort(desk, hw, function, now)
            } else if overdue & bit(function) != 0 {
                self.begin_abort(desk, hw, function)
            } else {
                None
            };
            if let Some(attempt) = next {
                // The recovery of the whole queue ends all aborts.
                self.begin(desk, hw, attempt);
                return;
            }
        }
    }

    /// Begins the abort of a function. Returns a recovery if one must take the place of the abort.
    fn begin_abort(&self, desk: &mut Desk<D>, hw: &Hardware<D>, function: u16) -> Option<Attempt> {
        let mut name = None;
        {
            let mut state = self.state.lock();
            if state.life != Life::Up {
                return None;
            }
            if let Some(attempt) = life::instead_of_abort(state.silent, state.failures) {
                state.failures = state.failures.saturating_add(1);
                return Some(attempt);
            }
            for request in state.slots.iter().filter(|r| r.function() == function) {
                if request.note_if_late() {
                    self.stats.timeouts.count();
                    name.get_or_insert(request.command.name());
                }
            }
            // From here on the driver submits no command of the function.
            state.aborting |= bit(function);
        }
        self.stats.aborts.count();
        if self.may_say(desk, hw) {
            dev_warn!(
                D::Cell::device(hw),
                "{} of function {function} timed out, aborting its commands\n",
                name.unwrap_or("a command")
            );
        }
        if let Some(until) = desk.abort_until.get_mut(usize::from(function)) {
            *until = self.deadline();
        }
        // This does nothing for a function that the device does not have, and the abort is then
        // overdue.
        D::begin_abort(hw, function);
        None
    }

    /// Ends the abort of a function if the device has dropped the commands. Returns a recovery if
    /// the abort has failed.
    fn step_abort(
        &self,
        desk: &mut Desk<D>,
        hw: &Hardware<D>,
        function: u16,
        now: Millis,
    ) -> Option<Attempt> {
        let waiting = D::is_aborting(hw, function);
        let status = D::status(hw);
        let until = desk.abort_until.get(usize::from(function));
        let late = until.is_none_or(|until| now >= *until);
        // Without READY the register reads as 0 and says nothing: something else has reset the
        // device.
        if status.gone || !status.ready || status.fatal || (waiting && late) {
            return Some(Attempt::Handshake);
        }
        if waiting {
            return None;
        }
        // Completions that were posted before the abort are valid. No more will come for this
        // function.
        self.look();
        let mut again = 0;
        {
            let mut state = self.state.lock();
            if state.life == Life::Up {
                state.aborting &= !bit(function);
                state.silent = state.silent.saturating_add(1);
                again = desk.judge(&mut state, |r| r.function() == function, false);
                self.pump(hw, &mut state);
            }
        }
        self.after_judgement(desk, again);
        None
    }
}
