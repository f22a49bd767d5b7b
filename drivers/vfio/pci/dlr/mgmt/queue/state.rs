// SPDX-License-Identifier: GPL-2.0

//! State of the queue under its spin lock.

use crate::{
    mgmt::{
        admission::Admission,
        command::Request,
        life::Life,
        line::Line,
        ring::{
            Consumer,
            Producer, //
        },
        slots::Slots, //
    },
    proto::{
        admin,
        MAX_FUNCTIONS, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A set of data functions: one bit for each.
pub(super) type Functions = u64;

static_assert!(MAX_FUNCTIONS <= Functions::BITS);

/// Returns the bit of a function, or 0 for a number that no function can have.
pub(super) fn bit(function: u16) -> Functions {
    1u64.checked_shl(function.into()).unwrap_or(0)
}

/// State of the queue, which `Queue::state` protects.
pub(super) struct State {
    pub(super) life: Life,
    pub(super) sq: Producer,
    pub(super) cq: Consumer,
    pub(super) slots: Slots<Arc<Request>>,
    pub(super) admission: Admission,
    pub(super) line: Line<Arc<Request>>,
    /// Functions whose commands are being aborted. The driver submits none of their commands.
    pub(super) aborting: Functions,
    /// Number of commands submitted so far.
    pub(super) submitted: u64,
    /// Number of failed recoveries and abandoned aborts since the last completion.
    pub(super) failures: u32,
    /// Number of aborts since the last completion.
    pub(super) silent: u32,
    /// The invalid completion, until it is logged.
    pub(super) strange: Option<admin::Completion>,
}

impl State {
    /// Returns the functions that have an overdue command in flight.
    pub(super) fn overdue(&self) -> Functions {
        let late = self.slots.iter().filter(|r| r.is_overdue());
        late.fold(0, |all, r| all | bit(r.function()))
    }

    /// Returns the functions whose commands must wait. A command behind an overdue one would wait
    /// longer, and would be aborted with it.
    pub(super) fn closed(&self) -> Functions {
        self.aborting | self.overdue()
    }

    /// Takes the next command from the line that may be submitted.
    pub(super) fn next(&mut self, closed: Functions) -> Option<Arc<Request>> {
        if self.slots.is_full() || !self.sq.has_room() {
            return None;
        }
        let admission = &self.admission;
        self.line.take(|request| {
            !request.is_done()
                && closed & bit(request.function()) == 0
                && admission.fits(request.function(), request.class())
        })
    }
}
