// SPDX-License-Identifier: GPL-2.0

//! What a log session asks of the device: the commands and the ring of a function, or
//! a model of them in tests.

use crate::{
    mgmt::{
        Flow,
        Function,
        Ticket,
        Until, //
    },
    proto::{
        Entry,
        Range,
        SyncScope, //
    },
};
use kernel::prelude::*;

/// The device's part of a log: [`Function`], or a model of it in tests.
pub(super) trait LogDevice {
    /// A SYNC under way.
    type Ticket;

    /// The POSTED register (rule 5).
    fn posted(&self) -> Result<u32>;
    /// Consumes entries; returns how many.
    fn drain(&self, until: Until, sink: impl FnMut(Entry) -> Flow) -> Result<u32>;
    /// LOG_ADD.
    fn log_add(&self, range: Range) -> Result;
    /// LOG_SYNC.
    fn sync_submit(&self, scope: SyncScope, cookie: u64) -> Result<Self::Ticket>;
    /// Sleeps until the SYNC is complete (`true`) or entries may have come.
    fn sync_wait(&self, ticket: &Self::Ticket) -> Result<bool>;
}

impl LogDevice for Function {
    type Ticket = Ticket;

    fn posted(&self) -> Result<u32> {
        Function::posted(self)
    }

    fn drain(&self, until: Until, sink: impl FnMut(Entry) -> Flow) -> Result<u32> {
        Function::drain(self, until, sink).map(|drained| drained.entries)
    }

    fn log_add(&self, range: Range) -> Result {
        Function::log_add(self, &[range])
    }

    fn sync_submit(&self, scope: SyncScope, cookie: u64) -> Result<Ticket> {
        Function::sync_submit(self, scope, cookie)
    }

    fn sync_wait(&self, ticket: &Ticket) -> Result<bool> {
        Function::sync_wait(self, ticket)
    }
}
