// SPDX-License-Identifier: GPL-2.0

//! One command from submission to completion.

use super::{
    channel::Channel,
    memory::Buffer,
    queue::Queue,
    stats::Stats, //
};
use crate::{
    kext::completion::{
        Completion,
        Wait, //
    },
    proto::admin::{
        self,
        Command, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SetOnce, //
    },
    time::{
        msecs_to_jiffies,
        Instant,
        Jiffies,
        Monotonic, //
    },
};

/// Answer of a successful command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reply {
    /// Depends on the command; bytes for SAVE_READ.
    pub(crate) result: u32,
    /// SAVE_READ: nothing more just now.
    pub(crate) empty: bool,
    /// SAVE_READ: the last byte has been delivered.
    pub(crate) end: bool,
}

/// What the queue's slot and the waiters share.
///
/// The slot's reference keeps the buffer until the device is done with it, whoever still waits.
#[pin_data]
pub(super) struct Request {
    pub(super) command: Command,
    buffer: Option<(Arc<Buffer>, u32)>,
    /// Who else wants to know when it completes.
    channel: Option<Arc<Channel>>,
    start: Instant<Monotonic>,
    /// How long the device may take, in milliseconds from `start`. Set at submission.
    allowed_ms: Atomic<u32>,
    outcome: SetOnce<Result<Reply>>,
    #[pin]
    done: Completion,
}

impl Request {
    /// A command with the first `len` bytes of a buffer, if it has one.
    pub(super) fn new(
        command: Command,
        buffer: Option<(Arc<Buffer>, u32)>,
        channel: Option<Arc<Channel>>,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                command,
                buffer,
                channel,
                start: Instant::now(),
                allowed_ms: Atomic::new(u32::MAX),
                outcome: SetOnce::new(),
                done <- Completion::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// The buffer and how much of it the command uses.
    pub(super) fn buffer(&self) -> Option<(&Buffer, u32)> {
        self.buffer.as_ref().map(|(buffer, len)| (&**buffer, *len))
    }

    /// The device has answered. From any context that may take spin locks.
    pub(super) fn complete(&self, answer: &admin::Completion, stats: &Stats) {
        self.give_back();
        let outcome = admin::status_to_result(answer.status).map(|()| Reply {
            result: answer.result,
            empty: answer.empty,
            end: answer.end,
        });
        if outcome.is_err() {
            stats.errors.count();
        } else if self.command.is_log_sync() {
            let ns = self.start.elapsed().as_nanos();
            stats.syncs.count();
            stats.sync_ns.add(ns);
            stats.sync_max_ns.at_least(ns);
        }
        self.finish(outcome);
    }

    /// The buffer is the driver's again.
    pub(super) fn give_back(&self) {
        if let Some((buffer, _)) = &self.buffer {
            buffer.release();
        }
    }

    /// Wakes the waiters; the first outcome counts. From any context that may take spin locks.
    pub(super) fn finish(&self, outcome: Result<Reply>) {
        self.outcome.populate(outcome);
        self.done.complete_all();
        if let Some(channel) = &self.channel {
            channel.event.signal();
        }
    }

    /// Sets the deadline, from when the request was made.
    pub(super) fn allow(&self, ms: u32) {
        let waited = u32::try_from(self.start.elapsed().as_millis()).unwrap_or(u32::MAX);
        self.allowed_ms.store(waited.saturating_add(ms), Relaxed);
    }

    /// Time to the deadline.
    pub(super) fn remaining(&self) -> Jiffies {
        let elapsed = self.start.elapsed().as_millis();
        let left = i64::from(self.allowed_ms.load(Relaxed)).saturating_sub(elapsed);
        msecs_to_jiffies(u32::try_from(left.max(0)).unwrap_or(0))
    }

    /// Whether the outcome is there.
    pub(super) fn is_done(&self) -> bool {
        self.outcome.as_ref().is_some()
    }
}

/// A command in flight. Dropping it forgets the answer and nothing else.
pub(crate) struct Ticket {
    pub(super) queue: Arc<Queue>,
    pub(super) request: Arc<Request>,
}

impl Ticket {
    /// Whether [`Self::wait`] would not sleep.
    pub(crate) fn is_done(&self) -> bool {
        self.request.is_done()
    }

    /// Waits for the answer. May be called more than once.
    ///
    /// # Errors
    ///
    /// * What the device said, see [`admin::status_to_result`].
    /// * `EINTR`: a fatal signal; the command goes on.
    /// * `ETIMEDOUT`: no answer in time. The queue has been reset.
    /// * `EIO`: the queue was reset because of another command.
    /// * `ENOTCONN`: the management function is gone.
    pub(crate) fn wait(&self) -> Result<Reply> {
        self.wait_with(|done, left| done.wait_killable_timeout(left))
    }

    /// As [`Self::wait`], but signals do not end it. For cleaning up.
    pub(super) fn wait_uninterruptible(&self) -> Result<Reply> {
        self.wait_with(|done, left| done.wait_timeout(left))
    }

    fn wait_with(&self, wait: impl Fn(&Completion, Jiffies) -> Wait) -> Result<Reply> {
        loop {
            match wait(&self.request.done, self.request.remaining()) {
                Wait::Done => return self.request.outcome.copy().unwrap_or(Err(EIO)),
                Wait::Killed => {
                    self.queue.stats.killed.count();
                    return Err(EINTR);
                }
                Wait::TimedOut => self.queue.overdue(&self.request),
            }
        }
    }
}
