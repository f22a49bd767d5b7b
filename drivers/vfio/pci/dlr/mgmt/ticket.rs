// SPDX-License-Identifier: GPL-2.0

//! Waits for submitted commands.

use super::{
    command::{
        Reply,
        Request, //
    },
    queue::Queue, //
};
use crate::kext::{
    budget::Budget,
    completion::Wait,
    patience::Patience, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A submitted command. Dropping the ticket gives up the reply, but the command goes on.
pub(crate) struct Ticket {
    pub(super) queue: Arc<Queue>,
    pub(super) request: Arc<Request>,
}

impl Ticket {
    /// Returns whether the command has ended, so that [`Self::wait`] does not sleep.
    pub(crate) fn is_done(&self) -> bool {
        self.request.is_done()
    }

    /// Waits for the reply. May be called more than once.
    ///
    /// # Errors
    ///
    /// * The errno of the command's status, see
    ///   [`status_to_result`](crate::proto::admin::status_to_result).
    /// * `EINTR` if a fatal signal came; the command goes on.
    /// * `ETIMEDOUT` if the device did not complete the command in time, and the commands of its
    ///   function were aborted.
    /// * `EIO` if the device dropped the command because of another one and it could not be
    ///   submitted again, or if an outage ended it.
    /// * `ENOTCONN` if the management function is gone.
    pub(crate) fn wait(&self) -> Result<Reply> {
        self.wait_with(Patience::Killable)
    }

    /// As [`Self::wait`], but any signal ends the wait with `ERESTARTSYS`.
    pub(crate) fn wait_interruptible(&self) -> Result<Reply> {
        self.wait_with(Patience::Interruptible).map_err(|error| {
            if error == EINTR {
                ERESTARTSYS
            } else {
                error
            }
        })
    }

    /// As [`Self::wait`], but ignores signals and waits no longer than `budget`.
    ///
    /// # Errors
    ///
    /// Also `ETIMEDOUT` if the budget is used up first; the command goes on.
    pub(crate) fn wait_within(&self, budget: &Budget) -> Result<Reply> {
        self.wait_with(Patience::Within(budget))
    }

    /// As [`Self::wait`], with the given `patience`.
    ///
    /// # Errors
    ///
    /// Also `ETIMEDOUT` if a budget is used up first; the command goes on.
    pub(super) fn wait_with(&self, patience: Patience<'_>) -> Result<Reply> {
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

    /// Gives up the reply, and returns how often the command was submitted again after an abort or
    /// a reset of the queue. The command is not submitted again after this call.
    ///
    /// For a LOG_SYNC, each submission may have posted one more marker, see
    /// `RingTracker::sync_once` in `vfio/dirty/ring/sync.rs`.
    pub(crate) fn retire(self) -> u32 {
        // ORDERING: A recovery decides and counts under this lock, so the count is final.
        self.queue.with_state(|| {
            self.request.leave();
            self.request.times_again()
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.request.leave();
    }
}
