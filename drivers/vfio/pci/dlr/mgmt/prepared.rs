// SPDX-License-Identifier: GPL-2.0

//! Commands of sessions, which are allocated first and submitted later without sleeping
//! ([`prepared`](crate::ext::cmdq::prepared)).

use super::{
    device::Prepared,
    function::Function, //
};
use crate::{
    ext::{
        budget::Budget,
        cmdq::{
            buffer::Buffer,
            channel::Reader, //
        },
        patience::Patience, //
    },
    proto::admin::Command, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

impl Function {
    /// Prepares a command of a session.
    fn prepare(
        &self,
        command: Command,
        buffer: Option<(Arc<Buffer>, u32)>,
        patience: Patience<'_>,
    ) -> Result<Prepared> {
        let queue = &self.service.queue;
        Prepared::new(queue, &self.channel, command, buffer, patience)
    }

    /// Prepares a SAVE_READ, which fills the buffer with the next bytes of the stream. The device
    /// executes reads in the order of submission. `fin` requests everything up to the trailer; the
    /// function must be stopped.
    ///
    /// # Errors
    ///
    /// `EBUSY` if another command owns the buffer, `ENOMEM`, `EIO` after an outage.
    pub(crate) fn prepare_read(&self, buffer: &Arc<Buffer>, fin: bool) -> Result<Prepared> {
        let len = u32::try_from(buffer.len())?;
        let command = Command::save_read(self.channel.number, fin);
        let buffer = Some((buffer.clone(), len));
        self.prepare(command, buffer, Patience::Killable)
    }

    /// Prepares a LOAD_WRITE, which passes the first `len` bytes of the buffer as the next bytes of
    /// the stream.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the buffer is shorter or `len` is 0, `EBUSY` if another command owns the buffer,
    /// `ENOMEM` if the allocation fails, `EIO` after an outage.
    pub(crate) fn prepare_load(&self, buffer: &Arc<Buffer>, len: usize) -> Result<Prepared> {
        if len == 0 || len > buffer.len() {
            return Err(EINVAL);
        }
        let len = u32::try_from(len)?;
        let command = Command::load_write(self.channel.number);
        let buffer = Some((buffer.clone(), len));
        self.prepare(command, buffer, Patience::Killable)
    }

    /// Prepares a LOAD_COMMIT: the device verifies the whole stream and installs it.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the allocation fails, `EIO` after an outage.
    pub(crate) fn prepare_commit(&self) -> Result<Prepared> {
        let command = Command::load_commit(self.channel.number);
        self.prepare(command, None, Patience::Killable)
    }

    /// Prepares a LOAD_ABORT, which ends the load session if there is one, for a clean-up within
    /// `budget`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the allocation fails, even from the kernel's reserves; `EIO` after an outage.
    pub(crate) fn prepare_abort(&self, budget: &Budget) -> Result<Prepared> {
        let command = Command::load_abort(self.channel.number);
        self.prepare(command, None, Patience::Within(budget))
    }

    /// Sets the threads to wake when a command of the session has ended, or when the device has
    /// more to read. `None` removes them.
    pub(crate) fn set_reader(&self, reader: Option<Arc<dyn Reader>>) {
        self.channel.set_reader(reader);
    }
}
