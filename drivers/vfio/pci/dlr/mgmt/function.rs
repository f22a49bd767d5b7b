// SPDX-License-Identifier: GPL-2.0

//! What the driver of a data function can ask of the management function.

use super::{
    channel::{
        Channel,
        Client, //
    },
    command::{
        Reply,
        Ticket, //
    },
    memory::Buffer,
    service::{
        status_page_command,
        Service, //
    }, //
};
use crate::mgmt::ring::Words;
use crate::proto::{
    admin::Command,
    identify::Cap,
    status_page,
    FnInfo,
    FnState,
    StatusPage, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// How long an update of a status page may be under way ("Status page" in `dlr-contract.rst`).
const MAX_UPDATE: Delta = Delta::from_millis(1000);
/// Pause before a page is looked at again that was being updated.
const PAUSE: Delta = Delta::from_micros(50);

/// A data function. Cheap to clone. Dead for ever once its management function is unbound: look for the
/// new one with [`find`](super::find).
///
/// Errors common to all calls that talk to the device: what the device answered (see
/// [`status_to_result`](crate::proto::admin::status_to_result)), `ETIMEDOUT` and `EIO` after a reset of the
/// queue, `EINTR` for a fatal signal (the command goes on), `ENOTCONN` once the management function is gone.
#[derive(Clone)]
pub(crate) struct Function {
    pub(super) service: Arc<Service>,
    pub(super) channel: Arc<Channel>,
    pub(super) info: FnInfo,
}

impl Function {
    pub(super) fn new(service: Arc<Service>, channel: Arc<Channel>, info: FnInfo) -> Self {
        Self {
            service,
            channel,
            info,
        }
    }

    /// Whether the management function is gone for good.
    pub(crate) fn is_gone(&self) -> bool {
        self.service.is_gone()
    }

    /// What it can do; asked when the management function was bound.
    pub(crate) fn info(&self) -> &FnInfo {
        &self.info
    }

    /// Replaces who is told about interrupts and the end of the service. A call of the old one may still be
    /// under way when this returns.
    pub(crate) fn set_client(&self, client: Option<Arc<dyn Client>>) {
        self.channel.set_client(client);
    }

    /// A look at the status page: memory reads. Sleeps if the device is just updating it, and is in no
    /// hurry.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` when the function has none, `EIO` when an update does not end, `ENOTCONN`.
    pub(crate) fn status(&self) -> Result<StatusPage> {
        if !self.info.caps.contains(Cap::StatusPage) {
            return Err(EOPNOTSUPP);
        }
        let begin = Instant::<Monotonic>::now();
        loop {
            // Before the look: one that comes after the end of the time still counts.
            let late = begin.elapsed() > MAX_UPDATE;
            if let Some(status) = self.glance()? {
                return Ok(status);
            }
            if late {
                return Err(EIO);
            }
            fsleep(PAUSE);
        }
    }

    /// The status page, unless the device is updating it. Keeps nobody from revoking the hardware.
    fn glance(&self) -> Result<Option<StatusPage>> {
        if self.is_gone() {
            return Err(ENOTCONN);
        }
        let hw = self.service.queue.hw.enter().ok_or(ENOTCONN)?;
        let first = usize::from(self.channel.number) * status_page::WORDS;
        let pages = &hw.data().pages;
        // Within bounds: there is a page for every function. An odd number would make the page unstable.
        Ok(StatusPage::snapshot(|i| pages.get(first + i).unwrap_or(1)))
    }

    /// A step down. Complete when every DMA write that the new state forbids is visible and logged.
    pub(crate) fn suspend(&self, to: FnState) -> Result {
        self.run(Command::suspend(self.channel.number, to))
    }

    /// A step up.
    pub(crate) fn resume(&self, to: FnState) -> Result {
        self.run(Command::resume(self.channel.number, to))
    }

    /// After a reset of the function beside which commands ran: ends whatever session they began, and lets
    /// the function run again. Signals do not end the wait.
    pub(crate) fn recover(&self) -> Result {
        let number = self.channel.number;
        let step_up = Command::resume(number, FnState::RunningP2p);
        // Each of them may fail, or do nothing, when there is nothing to do.
        for command in [
            Command::save_end(number),
            Command::load_abort(number),
            step_up,
        ] {
            let _ = self.clean_up(command);
        }
        self.clean_up(Command::resume(number, FnState::Running))
    }

    /// A zeroed DMA buffer for save and load.
    ///
    /// # Errors
    ///
    /// `ENOTCONN`, `ENOMEM`, `EINVAL` for a length of 0.
    pub(crate) fn alloc_buffer(&self, len: usize) -> Result<Arc<Buffer>> {
        let hw = self.service.queue.hw.enter().ok_or(ENOTCONN)?;
        self.service.memory.alloc(hw.device(), len)
    }

    /// Starts a save session; in any state of the function.
    pub(crate) fn save_begin(&self) -> Result {
        if self.info.caps.contains(Cap::StatusPage) {
            // Again, because somebody may have reset the management function since (sysfs): the queue
            // recovers from that by itself, a frozen page would be noticed by nobody.
            let number = self.channel.number;
            self.run(status_page_command(&self.service.queue, number)?)?;
        }
        self.run(Command::save_begin(self.channel.number))
    }

    /// Asks for the next bytes of the stream, as many as the buffer takes. Reads are answered in the order
    /// of submission. `fin`, with the function stopped: everything up to the trailer.
    ///
    /// # Errors
    ///
    /// `EBUSY` when the buffer is in flight.
    pub(crate) fn submit_read(&self, buffer: &Arc<Buffer>, fin: bool) -> Result<Ticket> {
        let command = Command::save_read(self.channel.number, fin);
        self.submit_buffer(command, buffer, buffer.len())
    }

    /// Ends the save session, finished or not. Signals do not end the wait.
    pub(crate) fn save_end(&self) -> Result {
        self.clean_up(Command::save_end(self.channel.number))
    }

    /// Starts a load session; the function must be stopped.
    pub(crate) fn load_begin(&self) -> Result {
        self.run(Command::load_begin(self.channel.number))
    }

    /// Gives the device the first `len` bytes of the buffer as the next bytes of the stream.
    ///
    /// # Errors
    ///
    /// `EBUSY` when the buffer is in flight, `EINVAL` when it is shorter or `len` is 0.
    pub(crate) fn submit_load(&self, buffer: &Arc<Buffer>, len: usize) -> Result<Ticket> {
        let command = Command::load_write(self.channel.number);
        self.submit_buffer(command, buffer, len)
    }

    /// The trailer has been written: the device verifies everything and installs it.
    pub(crate) fn load_commit(&self) -> Result {
        self.run(Command::load_commit(self.channel.number))
    }

    /// Forgets the load session, if there is one. Signals do not end the wait.
    pub(crate) fn load_abort(&self) -> Result {
        self.clean_up(Command::load_abort(self.channel.number))
    }

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
        self.service
            .queue
            .submit(command, Some((buffer.clone(), len)), None)
    }

    pub(super) fn run(&self, command: Command) -> Result {
        let reply: Result<Reply> = self.service.queue.submit(command, None, None)?.wait();
        reply.map(drop)
    }

    pub(super) fn clean_up(&self, command: Command) -> Result {
        self.service
            .queue
            .submit(command, None, None)?
            .wait_uninterruptible()
            .map(drop)
    }
}
