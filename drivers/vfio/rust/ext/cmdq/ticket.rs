// SPDX-License-Identifier: GPL-2.0

//! Waits for submitted commands.

use super::{
    channel::Channel,
    device::Device,
    queue::Queue,
    request::Request, //
};
use crate::ext::{
    budget::Budget,
    completion::Wait,
    patience::Patience, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::msecs_to_jiffies, //
};

/// A submitted command. Dropping the ticket gives up the reply, but the command goes on.
pub(crate) struct Ticket<D: Device> {
    pub(super) queue: Arc<Queue<D>>,
    pub(super) request: Arc<Request<D>>,
}

impl<D: Device> Ticket<D> {
    /// Returns whether the command has ended, so that [`Self::wait`] does not sleep.
    pub(crate) fn is_done(&self) -> bool {
        self.request.is_done()
    }

    /// Waits for the reply. May be called more than once.
    ///
    /// # Errors
    ///
    /// * The errno of the command's status, see [`Device::outcome`].
    /// * `EINTR` if a fatal signal came; the command goes on.
    /// * `ETIMEDOUT` if the device did not complete the command in time, and the commands of its
    ///   function were aborted.
    /// * `EIO` if the device dropped the command because of another one and it could not be
    ///   submitted again, or if an outage ended it.
    /// * `ENOTCONN` if the management function is gone.
    pub(crate) fn wait(&self) -> Result<D::Reply> {
        self.wait_with(Patience::Killable)
    }

    /// Like [`Self::wait`], but any signal ends the wait with `ERESTARTSYS`.
    pub(crate) fn wait_interruptible(&self) -> Result<D::Reply> {
        self.wait_with(Patience::Interruptible).map_err(|error| {
            if error == EINTR {
                ERESTARTSYS
            } else {
                error
            }
        })
    }

    /// Like [`Self::wait`], but ignores signals and waits no longer than `budget`.
    ///
    /// # Errors
    ///
    /// Those of [`Self::wait`], and `ETIMEDOUT` if the budget is used up first; the command goes
    /// on.
    pub(crate) fn wait_within(&self, budget: &Budget) -> Result<D::Reply> {
        self.wait_with(Patience::Within(budget))
    }

    /// Like [`Self::wait`], with the given `patience`.
    ///
    /// # Errors
    ///
    /// Those of [`Self::wait`], and `ETIMEDOUT` if a budget is used up first; the command goes on.
    pub(crate) fn wait_with(&self, patience: Patience<'_>) -> Result<D::Reply> {
        loop {
            if let Some(outcome) = self.request.outcome() {
                return outcome;
            }
            // If no time remains, a recovery is under way. This thread advances it once per jiffy.
            let time = self.request.remaining().min(patience.limit());
            match patience.wait(&self.request.done, time) {
                Wait::Done => (),
                Wait::Killed => {
                    self.queue.stats.killed.count();
                    return Err(EINTR);
                }
                Wait::TimedOut if self.request.is_overdue() => {
                    self.queue.step();
                    if patience.is_over() && !self.is_done() {
                        return Err(ETIMEDOUT);
                    }
                }
                Wait::TimedOut if patience.is_over() => {
                    // The interrupt of a completion may have been lost.
                    self.queue.look();
                    if !self.is_done() {
                        return Err(ETIMEDOUT);
                    }
                }
                Wait::TimedOut => (),
            }
        }
    }

    /// Sleeps until the event of `channel` is signalled, for `most_ms` milliseconds and to the
    /// deadline of the command at most. Returns whether the command has ended. A caller that must
    /// do something while the command is in flight, such as making room for what the command posts,
    /// does it and calls again.
    ///
    /// # Errors
    ///
    /// `EINTR` if a fatal signal came; the command goes on.
    pub(crate) fn wait_a_while(
        &self,
        channel: &Channel<D::Function>,
        most_ms: u32,
    ) -> Result<bool> {
        if self.is_done() {
            return Ok(true);
        }
        // If no time remains, a recovery is under way, during which the caller goes on.
        let time = self.request.remaining().min(msecs_to_jiffies(most_ms));
        if channel.event.wait_killable_timeout(time) == Wait::Killed {
            self.queue.stats.killed.count();
            return Err(EINTR);
        }
        if !self.is_done() && self.request.is_overdue() {
            self.queue.step();
        }
        Ok(self.is_done())
    }

    /// Gives up the reply, and returns how often the command was submitted again after an abort or
    /// a reset of the queue. The command is not submitted again after this call.
    pub(crate) fn retire(self) -> u32 {
        // ORDERING: A recovery decides and counts under this lock, so the count is final.
        self.queue.with_state(|| {
            self.request.leave();
            self.request.times_again()
        })
    }
}

impl<D: Device> Drop for Ticket<D> {
    fn drop(&mut self) {
        self.request.leave();
    }
}
