// SPDX-License-Identifier: GPL-2.0

//! The trait between a log and its device, which is a function of a NIC or a model in tests.

use crate::{
    mgmt::{
        Client,
        Flow,
        Function,
        LogConfig,
        Piece,
        Ticket,
        Until, //
    },
    proto::{
        FnInfo,
        Range,
        SyncScope, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The device of a log: a [`Function`], or a model of one in tests.
pub(crate) trait LogDevice: Clone + Unpin {
    /// A SYNC that was submitted.
    type Ticket;

    /// Returns the function's capabilities and limits.
    fn info(&self) -> &FnInfo;
    /// Replaces the callbacks for interrupts.
    fn set_client(&self, client: Option<Arc<dyn Client>>);
    /// Runs LOG_START.
    fn log_start(&self, config: &LogConfig<'_>) -> Result;
    /// Runs LOG_STOP.
    fn log_stop(&self) -> Result;
    /// Runs LOG_STOP if an earlier LOG_START or LOG_STOP has failed.
    fn log_settle(&self) -> Result;
    /// Reads LOG_POSTED (rule 5).
    fn posted(&self) -> Result<u32>;
    /// Consumes entries and returns their number.
    fn drain(&self, until: Until, sink: impl FnMut(Piece<'_>) -> Flow) -> Result<u32>;
    /// Runs LOG_ADD.
    fn log_add(&self, range: Range) -> Result;
    /// Submits a LOG_SYNC.
    fn sync_submit(&self, scope: SyncScope, cookie: u64) -> Result<Self::Ticket>;
    /// Sleeps until the SYNC is complete (`true`) or entries may have come (`false`). `EBUSY` if
    /// the device had no room for the marker in time: it has not cleared the filter.
    fn sync_wait(&self, ticket: &Self::Ticket) -> Result<bool>;
    /// Drops the command after its marker was found. Returns how many more of its markers may come,
    /// because the command was submitted again.
    fn sync_found(&self, ticket: Self::Ticket) -> u32;
}

impl LogDevice for Function {
    type Ticket = Ticket;

    fn info(&self) -> &FnInfo {
        Function::info(self)
    }

    fn set_client(&self, client: Option<Arc<dyn Client>>) {
        Function::set_client(self, client);
    }

    fn log_start(&self, config: &LogConfig<'_>) -> Result {
        Function::log_start(self, config)
    }

    fn log_stop(&self) -> Result {
        Function::log_stop(self)
    }

    fn log_settle(&self) -> Result {
        Function::log_settle(self)
    }

    fn posted(&self) -> Result<u32> {
        Function::posted(self)
    }

    fn drain(&self, until: Until, sink: impl FnMut(Piece<'_>) -> Flow) -> Result<u32> {
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

    fn sync_found(&self, ticket: Ticket) -> u32 {
        ticket.retire()
    }
}
