// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The log row: SYNCs that were given, and when they are executed.

use super::{
    event::Event,
    function::Gate,
    state::{Given, World},
};
use crate::{
    clock,
    explore::choose,
    nic::SyncRange,
    status::Status,
    stub::error::{Error, Result, EBUSY},
    vfio::dirty::ring::device::SyncScope,
};

/// How an attempt to execute a SYNC has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    Done,
    NoRoom,
    Failed(Status),
}

/// The handle of a SYNC.
pub(crate) struct Ticket {
    pub(super) cookie: u64,
    pub(super) range: SyncRange,
    /// How often it was given again.
    pub(super) again: std::cell::Cell<u32>,
}

pub(super) fn range(scope: SyncScope) -> SyncRange {
    match scope {
        SyncScope::All => SyncRange::All,
        SyncScope::Range(range) => SyncRange::Part {
            iova: range.iova(),
            length: range.length(),
        },
    }
}

impl World {
    pub(super) fn give(&self, scope: SyncScope, cookie: u64) {
        self.device.lock().syncs.push_back(Given {
            range: range(scope),
            cookie,
            may_run: false,
        });
        let all = scope == SyncScope::All;
        self.event(Event::SyncGiven { all, cookie });
    }

    /// The device tries the SYNC that was given first.
    pub(super) fn execute_first(&self) -> Option<Attempt> {
        let given = *self.device.lock().syncs.front()?;
        let now = clock::now();
        // A deadline that is over: where there is no room the engine does not wait, which is the
        // explorer's to do, and has changed nothing.
        let done = self
            .engine
            .sync(Some(&Gate(self)), given.range, given.cookie, now, &|| true);
        let mut device = self.device.lock();
        match done {
            Ok(()) => {
                device.syncs.pop_front();
                drop(device);
                let cookie = given.cookie;
                self.event(Event::SyncExecuted { cookie });
                Some(Attempt::Done)
            }
            Err(Status::Busy) => {
                if let Some(given) = device.syncs.front_mut() {
                    given.may_run = false;
                }
                Some(Attempt::NoRoom)
            }
            Err(status) => {
                device.syncs.pop_front();
                Some(Attempt::Failed(status))
            }
        }
    }

    /// Executes what was given before `cookie`, as far as there is room.
    pub(super) fn execute_before(&self, cookie: u64) {
        while self.is_pending_before(cookie) {
            if self.execute_first() != Some(Attempt::Done) {
                return;
            }
        }
    }

    fn is_pending_before(&self, cookie: u64) -> bool {
        let device = self.device.lock();
        device.syncs.front().is_some_and(|g| g.cookie != cookie)
    }

    pub(super) fn is_pending(&self, cookie: u64) -> bool {
        let device = self.device.lock();
        device.syncs.iter().any(|given| given.cookie == cookie)
    }

    /// The SYNC was executed: `true`, or else its answer is dropped and it is given again.
    pub(super) fn forget(&self, ticket: &Ticket) -> Result<bool> {
        if self.device.lock().left.again > 0 && choose(2) == 1 {
            self.give_again(ticket);
            return Ok(false);
        }
        Ok(true)
    }

    /// What was given is executed later.
    pub(super) fn put_off(&self) {
        let mut device = self.device.lock();
        device.left.late -= 1;
        for given in &mut device.syncs {
            given.may_run = true;
        }
    }

    /// The driver has lost patience: what was not executed is dropped, and given again.
    pub(super) fn give_again(&self, ticket: &Ticket) {
        let mut device = self.device.lock();
        device.left.again -= 1;
        device.syncs.clear();
        device.syncs.push_back(Given {
            range: ticket.range,
            cookie: ticket.cookie,
            may_run: true,
        });
        drop(device);
        ticket.again.set(ticket.again.get() + 1);
        let cookie = ticket.cookie;
        self.event(Event::SyncAgain { cookie });
    }

    /// The device has no room, and says so.
    pub(super) fn answer_busy(&self, cookie: u64) -> Error {
        let mut device = self.device.lock();
        device.left.busy -= 1;
        device.syncs.retain(|given| given.cookie != cookie);
        drop(device);
        self.event(Event::SyncBusy { cookie });
        EBUSY
    }

    /// The driver has given slots back.
    pub(super) fn slots_came_back(&self, head: u32) {
        let ended = self.engine.set_head(head);
        let mut device = self.device.lock();
        device.room |= ended;
        for given in &mut device.syncs {
            given.may_run = true;
        }
    }

    /// The errno of a command (`proto/admin/completion.rs` of the driver).
    pub(super) fn errno(status: Status) -> Error {
        use crate::stub::prelude::{EINVAL, EIO, ENOMEM, ENOSPC, EOPNOTSUPP};
        match status {
            Status::InvalidOpcode | Status::Incompatible => EOPNOTSUPP,
            Status::InvalidField | Status::InvalidState | Status::Corrupt | Status::Truncated => {
                EINVAL
            }
            Status::Busy => EBUSY,
            Status::NoResource => ENOSPC,
            Status::TooBig => ENOMEM,
            Status::InvalidFunction | Status::DmaFault | Status::Internal => EIO,
        }
    }
}
