// SPDX-License-Identifier: GPL-2.0

//! Commands of sessions: allocated first, and submitted later without sleeping.
//!
//! A reset ends sessions, and its caller may hold any lock. So a session must not sleep under the
//! lock that says whether it is alive. On the other hand, a command of a session that has ended
//! must not reach the device, which may already have the next session. Both hold if the memory is
//! allocated outside that lock ([`Prepared::new`]), and the command is submitted under it
//! ([`Prepared::submit`]).

use super::{
    buffer::Buffer,
    channel::Channel,
    device::{
        Command,
        Device, //
    },
    queue::Queue,
    request::{
        Memory,
        Request, //
    },
    ticket::Ticket, //
};
use crate::ext::patience::Patience;
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
pub(crate) struct Prepared<D: Device> {
    claim: Claim<D>,
    place: UniqueArc<MaybeUninit<Ticket<D>>>,
}

/// A request that owns its buffer, which this returns when dropped.
struct Claim<D: Device> {
    queue: Arc<Queue<D>>,
    request: Arc<Request<D>>,
    /// The request was submitted, so the device owns the buffer.
    given: bool,
}

impl<D: Device> Drop for Claim<D> {
    fn drop(&mut self) {
        if !self.given {
            self.request.give_back();
        }
    }
}

impl<D: Device> Prepared<D> {
    /// Prepares a command with the first bytes of a buffer, if it has one. `channel` is notified of
    /// the end of the command.
    ///
    /// # Errors
    ///
    /// `EBUSY` if another command owns the buffer, `ENOMEM`, `EIO` after an outage.
    pub(crate) fn new(
        queue: &Arc<Queue<D>>,
        channel: &Arc<Channel<D::Function>>,
        command: D::Command,
        buffer: Option<(Arc<Buffer>, u32)>,
        patience: Patience<'_>,
    ) -> Result<Self> {
        // There is no pass after an outage: the session has ended, and the device must be checked.
        let pass = queue.pass().map_err(|_| EIO)?;
        let channel = Some(channel.clone());
        let memory = patience.allocate(Memory::new)?;
        let claim = Claim {
            queue: queue.clone(),
            request: Request::new(memory, command, buffer, channel, pass)?,
            given: false,
        };
        Ok(Self {
            claim,
            place: patience.allocate(UniqueArc::new_uninit)?,
        })
    }

    /// Returns the class of slots that the command needs.
    pub(crate) fn class(&self) -> <D::Command as Command>::Class {
        self.claim.request.class()
    }

    /// Submits the command if there is room for it. Never sleeps.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is no room, see [`Queue::wait_for_room`]. `EIO` in an outage, after an
    /// outage that came since [`Self::new`], and during the pause of a queue that is off.
    /// `ENOTCONN` if the management function is gone.
    pub(crate) fn submit(mut self) -> Result<Arc<Ticket<D>>> {
        let ticket = self.claim.queue.try_push(&self.claim.request)?;
        self.claim.given = true;
        Ok(self.place.write(ticket).into())
    }
}
