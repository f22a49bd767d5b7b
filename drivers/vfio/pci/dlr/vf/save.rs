// SPDX-License-Identifier: GPL-2.0

//! The layer's source of a save session: it reads the state of a function by SAVE_READ.

use super::framing::Framing;
use crate::{
    ext::{
        cmdq::{
            buffer::Buffer,
            channel::Reader, //
        },
        gfp::USER, //
    },
    mgmt::{
        Function,
        Prepared,
        Reply,
        Ticket, //
    },
    params::Config,
    proto::StatusPage,
    vfio::migration::{
        accounting::Pending,
        pipeline::Delivered,
        save::{
            SaveSource,
            SaveStart,
            Sleepers, //
        },
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The source of a save session.
pub(crate) struct Source {
    function: Function,
}

impl Source {
    /// Allocates the memory and begins the session on the device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOTCONN`, and the errors of [`Function::save_begin`] and [`Function::status`],
    /// after which the device may have a session.
    pub(super) fn begin(function: &Function) -> Result<SaveStart<Self>> {
        let config = Config::get();
        let mut buffers = KVec::with_capacity(config.save_buffers, USER)?;
        for _ in 0..config.save_buffers {
            let buffer = function.alloc_buffer(config.save_buffer_size)?;
            buffers.push(buffer, USER)?;
        }
        function.save_begin()?;
        Ok(SaveStart {
            pending: pending(&function.status()?),
            source: Self {
                function: function.clone(),
            },
            buffers,
            capacity: config.save_buffer_size,
        })
    }
}

impl SaveSource for Source {
    type OwnerModule = crate::LocalModule;
    type Buffer = Buffer;
    type Prepared = Prepared;
    type Read = Ticket;
    type Check = Framing;

    fn check(&self) -> Framing {
        Framing::new(self.function.info().max_state_bytes)
    }

    fn prepare(&self, buffer: &Arc<Buffer>, fin: bool) -> Result<Prepared> {
        self.function.prepare_read(buffer, fin)
    }

    fn submit(&self, prepared: Prepared) -> Result<Arc<Ticket>> {
        prepared.submit()
    }

    fn is_done(read: &Ticket) -> bool {
        read.is_done()
    }

    fn wait(read: &Ticket) -> Result<Delivered> {
        read.wait().map(delivered)
    }

    fn wait_interruptible(read: &Ticket) -> Result<Delivered> {
        read.wait_interruptible().map(delivered)
    }

    fn wait_for_room(&self) -> Result {
        self.function.wait_for_room_interruptible()
    }

    fn copy_out(&self, buffer: &Buffer, from: usize, to: &mut [u8]) -> Result {
        buffer.copy_out(from, to)
    }

    /// Reads the status page from memory.
    fn try_pending(&self) -> Result<Option<Pending>> {
        Ok(self.function.try_status()?.as_ref().map(pending))
    }

    fn look<R>(&self, look: impl FnMut() -> Result<Option<R>>) -> Result<R> {
        self.function.status_with(look)
    }

    fn set_sleepers(&self, sleepers: Option<Arc<Sleepers>>) {
        self.function
            .set_reader(sleepers.map(|s| s as Arc<dyn Reader>));
    }

    fn end(&self) -> Result {
        self.function.save_end()
    }
}

impl Reader for Sleepers {
    fn wake(&self) {
        Sleepers::wake(self);
    }

    fn ended(&self) {
        self.poison();
    }
}

/// Returns the amount of state that is left to read, according to the status page.
pub(super) fn pending(status: &StatusPage) -> Pending {
    Pending {
        initial_bytes: status.initial_bytes,
        dirty_bytes: status.dirty_bytes,
        total_bytes: status.total_bytes,
        generation: status.reinit_count,
    }
}

/// Converts the reply to a SAVE_READ.
fn delivered(reply: Reply) -> Delivered {
    Delivered {
        bytes: reply.result as usize,
        last: reply.empty || reply.end,
    }
}
