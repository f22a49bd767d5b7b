// SPDX-License-Identifier: GPL-2.0

//! Commands of sessions: allocated first, and submitted later without sleeping.
//!
//! A reset ends sessions, and its caller may hold any lock. So a session must not sleep under the
//! lock that says whether it is alive. On the other hand, a command of a session that has ended
//! must not reach the device, which may already have the next session. Both hold if the memory is
//! allocated outside that lock ([`Function::prepare_read`] and its siblings), and the command is
//! submitted under it ([`Prepared::submit`]).

use super::{
    channel::Reader,
    class::Class,
    command::{
        Memory,
        Request, //
    },
    function::Function,
    memory::Buffer,
    queue::Queue,
    ticket::Ticket, //
};
use crate::{
    kext::{
        budget::Budget,
        patience::Patience, //
    },
    proto::admin::Command, //
};
use core::mem::MaybeUninit;
use kernel::{
    prelude::*,
    sync::{
        Arc,
        UniqueArc, //
    },
};

/// A command with all its memory, its buffer included, before its submission. Dropping it releases
/// the buffer.
pub(crate) struct Prepared {
    claim: Claim,
    place: UniqueArc<MaybeUninit<Ticket>>,
}

struct Claim {
    queue: Arc<Queue>,
    request: Arc<Request>,
    given: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.given {
            self.request.give_back();
        }
    }
}

impl Prepared {
    fn new(
        function: &Function,
        command: Command,
        buffer: Option<(Arc<Buffer>, u32)>,
        patience: Patience<'_>,
    ) -> Result<Self> {
        let queue = function.service.queue.clone();
        // After an outage there is none: the session has ended, and the device must be checked.
        let pass = queue.pass().map_err(|_| EIO)?;
        let channel = Some(function.channel.clone());
        let memory = patience.allocate(Memory::new)?;
        let claim = Claim {
            queue,
            request: Request::new(memory, command, buffer, channel, pass)?,
            given: false,
        };
        Ok(Self {
            claim,
            place: patience.allocate(UniqueArc::new_uninit)?,
        })
    }

    /// Returns the class of slots that the command needs.
    pub(crate) fn class(&self) -> Class {
        self.claim.request.class()
    }

    /// Submits the command if there is room for it. Never sleeps.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is no room, see [`Function::wait_for_room`]. `EIO` while the queue is off
    /// or in an outage. `ENOTCONN` if the management function is gone.
    pub(crate) fn submit(mut self) -> Result<Arc<Ticket>> {
        let ticket = self.claim.queue.try_push(&self.claim.request)?;
        self.claim.given = true;
        Ok(self.place.write(ticket).into())
    }
}

impl Function {
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
        Prepared::new(
            self,
            command,
            Some((buffer.clone(), len)),
            Patience::Killable,
        )
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
        Prepared::new(
            self,
            command,
            Some((buffer.clone(), len)),
            Patience::Killable,
        )
    }

    /// Prepares a LOAD_COMMIT: the device verifies the whole stream and installs it.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the allocation fails, `EIO` after an outage.
    pub(crate) fn prepare_commit(&self) -> Result<Prepared> {
        let command = Command::load_commit(self.channel.number);
        Prepared::new(self, command, None, Patience::Killable)
    }

    /// Prepares a LOAD_ABORT, which ends the load session if there is one, for a clean-up within
    /// `budget`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the allocation fails, even from the kernel's reserves; `EIO` after an outage.
    pub(crate) fn prepare_abort(&self, budget: &Budget) -> Result<Prepared> {
        let command = Command::load_abort(self.channel.number);
        Prepared::new(self, command, None, Patience::Within(budget))
    }

    /// Sets the threads to wake when a command of the session has ended, or when the device has
    /// more to read. `None` removes them.
    pub(crate) fn set_reader(&self, reader: Option<Arc<dyn Reader>>) {
        self.channel.set_reader(reader);
    }
}
