// SPDX-License-Identifier: GPL-2.0

//! Handles by which the driver of a data function uses the management function.

use super::{
    channel::{
        Channel,
        Claim, //
    },
    class::Class,
    device::Ticket,
    service::{
        page_command,
        Service, //
    },
};
use crate::{
    ext::{
        budget::Budget,
        cmdq::{
            buffer::Buffer,
            channel::Client, //
        },
        patience::Patience, //
    },
    proto::{
        admin::Command,
        identify::Cap,
        FnInfo,
        FnState, //
    },
};
use core::ops::Deref;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Handle of a data function. A clone is another reference to the same [`Parts`], because each idle
/// call of a VMM takes one under a lock. It stays dead once its management function is
/// unbound: the pairing of the data function then creates a new one.
///
/// # Errors
///
/// All calls that submit a command can fail with
///
/// * the errno of the command's status, see
///   [`status_to_result`](crate::proto::admin::status_to_result),
/// * `ETIMEDOUT` if the device did not complete the command in time,
/// * `EIO` if the device dropped the command because of another one, or the queue did not recover,
/// * `EINTR` if a fatal signal came, in which case the command goes on,
/// * `ENOTCONN` if the management function is gone.
#[derive(Clone)]
pub(crate) struct Function(Arc<Parts>);

/// What a [`Function`] refers to.
pub(crate) struct Parts {
    pub(super) service: Arc<Service>,
    pub(super) channel: Arc<Channel>,
    pub(super) info: FnInfo,
}

impl Deref for Function {
    type Target = Parts;

    #[inline]
    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Function {
    /// Claims data function `number` of `service` for its driver, until the claim is dropped.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the NIC has no such function, `EBUSY` while another claim exists, `ENOMEM`.
    pub(crate) fn claim(service: &Arc<Service>, number: u32) -> Result<(Self, Claim)> {
        let (channel, info) = service.channel(number)?;
        let claim = Claim::new(channel.clone())?;
        // The last owner may have been unbound between a close and the next open, which would have
        // ended its closing budget.
        channel.end_closing();
        let parts = Parts {
            service: service.clone(),
            channel,
            info,
        };
        Ok((Self(Arc::new(parts, GFP_KERNEL)?), claim))
    }

    /// Returns whether the management function is gone for good.
    pub(crate) fn is_gone(&self) -> bool {
        self.service.is_gone()
    }

    /// Returns the function's capabilities and limits, read when the management function was bound.
    pub(crate) fn info(&self) -> &FnInfo {
        &self.info
    }

    /// Replaces the callbacks for interrupts and the end of the service. A call to the old client
    /// may still be running when this returns.
    pub(crate) fn set_client(&self, client: Option<Arc<dyn Client>>) {
        self.channel.set_client(client);
    }

    /// Suspends the function by one step. When this succeeds, every DMA write that the new state
    /// forbids is visible and logged.
    pub(crate) fn suspend(&self, to: FnState) -> Result {
        self.run(Command::suspend(self.channel.number, to))
    }

    /// See [`Channel::begin_closing`].
    pub(crate) fn begin_closing(&self) {
        self.channel.begin_closing();
    }

    /// See [`Channel::end_closing`].
    pub(crate) fn end_closing(&self) {
        self.channel.end_closing();
    }

    /// Returns the budget for a clean-up that begins now.
    pub(crate) fn budget(&self) -> Budget {
        self.channel.budget()
    }

    /// Resumes the function by one step.
    pub(crate) fn resume(&self, to: FnState) -> Result {
        self.run(Command::resume(self.channel.number, to))
    }

    /// Like [`Self::suspend`], to undo a step: ignores signals and takes no longer than `budget`.
    pub(crate) fn suspend_within(&self, to: FnState, budget: &Budget) -> Result {
        self.clean_up(Command::suspend(self.channel.number, to), budget)
    }

    /// Like [`Self::resume`], to undo a step: ignores signals and takes no longer than `budget`.
    pub(crate) fn resume_within(&self, to: FnState, budget: &Budget) -> Result {
        self.clean_up(Command::resume(self.channel.number, to), budget)
    }

    /// Recovers from a reset of the function that raced with commands: ends any session that they
    /// began and resumes the function. Ignores signals and takes no longer than one [`Budget`] for
    /// all commands.
    pub(crate) fn recover(&self) -> Result {
        let budget = self.budget();
        let number = self.channel.number;
        let step_up = Command::resume(number, FnState::RunningP2p);
        // Each of these may fail if there is nothing to end or resume.
        for command in [
            Command::save_end(number),
            Command::load_abort(number),
            step_up,
        ] {
            let _ = self.clean_up(command, &budget);
        }
        self.clean_up(Command::resume(number, FnState::Running), &budget)
    }

    /// Allocates a zeroed DMA buffer for save and load.
    ///
    /// # Errors
    ///
    /// `ENOTCONN`, `EIO` in an outage, `ENOMEM`, `EINVAL` if `len` is 0.
    pub(crate) fn alloc_buffer(&self, len: usize) -> Result<Arc<Buffer>> {
        let hw = self.service.queue.enter()?;
        Buffer::new(&hw, len)
    }

    /// Starts a save session, in any state of the function.
    pub(crate) fn save_begin(&self) -> Result {
        if self.info.caps.contains(Cap::StatusPage) {
            // The device may have lost the address of the page without the driver's knowledge. The
            // driver would then read a page that the device does not update.
            let command = page_command(&self.channel);
            let channel = Some(&self.channel);
            self.submit(command, None, channel, Patience::Killable)?
                .wait()?;
        }
        let vector = self.service.log_vector(self.channel.number);
        self.run(Command::save_begin(self.channel.number, Some(vector)))
    }

    /// Sleeps until [`Prepared::submit`](super::Prepared::submit) of a command of this class is
    /// worth another try. The caller must not hold a lock that a reset takes.
    ///
    /// # Errors
    ///
    /// `EINTR` if a fatal signal came, `EIO` while the queue is off or in an outage, `ENOTCONN`.
    pub(crate) fn wait_for_room(&self, class: Class) -> Result {
        let queue = &self.service.queue;
        queue.wait_for_room(self.channel.number, class, Patience::Killable)
    }

    /// Like [`Self::wait_for_room`], for a SAVE_READ, but any signal ends the wait with
    /// `ERESTARTSYS`.
    pub(crate) fn wait_for_room_interruptible(&self) -> Result {
        let queue = &self.service.queue;
        let patience = Patience::Interruptible;
        let result = queue.wait_for_room(self.channel.number, Class::Bulk, patience);
        result.map_err(|error| match error {
            error if error == EINTR => ERESTARTSYS,
            error => error,
        })
    }

    /// Ends the save session, whether all of it was read or not. Ignores signals and takes no
    /// longer than one [`Budget`].
    pub(crate) fn save_end(&self) -> Result {
        self.save_end_within(&self.budget())
    }

    /// Like [`Self::save_end`], within the `budget` of a longer clean-up.
    pub(crate) fn save_end_within(&self, budget: &Budget) -> Result {
        self.clean_up(Command::save_end(self.channel.number), budget)
    }

    /// Starts a load session; the function must be stopped.
    pub(crate) fn load_begin(&self) -> Result {
        self.run(Command::load_begin(self.channel.number))
    }

    /// Ends the load session, if there is one. Ignores signals and takes no longer than one
    /// [`Budget`].
    pub(crate) fn load_abort(&self) -> Result {
        self.load_abort_within(&self.budget())
    }

    /// Like [`Self::load_abort`], within the `budget` of a longer clean-up.
    pub(crate) fn load_abort_within(&self, budget: &Budget) -> Result {
        self.clean_up(Command::load_abort(self.channel.number), budget)
    }

    /// Runs ATTEST: after it the function shows `nonce` in `DLR_DVSEC_NONCE_LO` and the word behind
    /// it, until the next ATTEST, an FLR of the function or a reset of the management function. 0
    /// removes the nonce. Ignores signals and takes no longer than `budget`.
    pub(crate) fn attest(&self, nonce: u64, budget: &Budget) -> Result {
        // Probe calls this with the device lock of the data function held. The recovery from a PCI
        // error takes that lock, so the wait must be limited.
        self.clean_up(Command::attest(self.channel.number, nonce), budget)
    }

    /// Submits a command with the first `len` bytes of `buffer` to a device that was checked.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `len` is 0 or beyond the end of the buffer, and those of [`Self::submit`].
    pub(super) fn submit_buffer(
        &self,
        command: Command,
        buffer: &Arc<Buffer>,
        len: usize,
    ) -> Result<Ticket> {
        if len == 0 || len > buffer.len() {
            return Err(EINVAL);
        }
        let len = u32::try_from(len)?;
        self.submit(command, Some((buffer, len)), None, Patience::Killable)
    }

    /// Submits a command to a device that was checked. `channel` is notified of the end of the
    /// command.
    pub(super) fn submit(
        &self,
        command: Command,
        buffer: Option<(&Arc<Buffer>, u32)>,
        channel: Option<&Arc<Channel>>,
        patience: Patience<'_>,
    ) -> Result<Ticket> {
        loop {
            let pass = self.service.ready(patience)?;
            let buffer = buffer.map(|(buffer, len)| (buffer.clone(), len));
            let queue = &self.service.queue;
            match queue.submit(command, buffer, channel.cloned(), pass, patience) {
                // An outage came after the check.
                Err(error) if error == EAGAIN => (),
                result => return result,
            }
        }
    }

    /// Runs a command; a fatal signal ends the wait.
    pub(super) fn run(&self, command: Command) -> Result {
        self.run_with(command, Patience::Killable)
    }

    /// Runs a command of a clean-up. Signals end neither the submission nor the wait.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT` when `budget` is used up, too. The device may have executed the command, or may
    /// still do so.
    pub(super) fn clean_up(&self, command: Command, budget: &Budget) -> Result {
        self.run_with(command, Patience::Within(budget))
    }

    /// Submits a command and waits for its end.
    fn run_with(&self, command: Command, patience: Patience<'_>) -> Result {
        let ticket = self.submit(command, None, None, patience)?;
        ticket.wait_with(patience).map(drop)
    }
}
