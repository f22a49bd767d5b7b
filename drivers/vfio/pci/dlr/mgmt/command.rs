// SPDX-License-Identifier: GPL-2.0

//! A command of the admin queue, from its creation to its completion.

use super::{
    channel::Channel,
    class::Class,
    memory::Buffer,
    stats::Stats, //
};
use crate::{
    kext::{
        cmdq::fate::Dropped,
        completion::Completion,
        trust::Pass, //
    },
    proto::admin::{
        self,
        Command,
        Kind, //
    },
};
use core::mem::MaybeUninit;
use kernel::{
    alloc::Flags,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SetOnce,
        UniqueArc, //
    },
    time::{
        msecs_to_jiffies,
        Instant,
        Jiffies,
        Monotonic, //
    },
};

/// Reply to a successful command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reply {
    /// Result of the command; for SAVE_READ, the number of bytes.
    pub(crate) result: u32,
    /// SAVE_READ: the device has nothing more to deliver for now.
    pub(crate) empty: bool,
    /// SAVE_READ: the device has delivered the last byte of the stream.
    pub(crate) end: bool,
}

/// A command, shared by the queue and the threads that wait for it.
///
/// The queue's reference keeps the buffer alive until the device is done with it, even if no thread
/// waits any more. Dropping the last reference may free the buffer, so it must not happen under a
/// spin lock.
#[pin_data]
pub(super) struct Request {
    pub(super) command: Command,
    pass: Pass,
    buffer: Option<(Arc<Buffer>, u32)>,
    /// DMA address of the buffer.
    address: u64,
    /// The function whose sleepers are woken when the command ends.
    channel: Option<Arc<Channel>>,
    start: Instant<Monotonic>,
    /// Time that the device has, in milliseconds from `start`. Set at submission.
    allowed_ms: Atomic<u32>,
    /// Position in the order of submission. `order`, `late` and `again` are written under
    /// `Queue::state`.
    order: Atomic<u64>,
    /// The deadline had passed when an abort or a reset began.
    late: Atomic<bool>,
    /// Number of times that the command was submitted again.
    again: Atomic<u32>,
    /// No thread waits for the command any more.
    left: Atomic<bool>,
    outcome: SetOnce<Result<Reply>>,
    /// Completed when the command has a slot, or has ended without one.
    #[pin]
    pub(super) admitted: Completion,
    #[pin]
    pub(super) done: Completion,
}

/// Memory for one [`Request`].
pub(super) struct Memory(UniqueArc<MaybeUninit<Request>>);

impl Memory {
    /// Allocates the memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the allocation fails.
    pub(super) fn new(flags: Flags) -> Result<Self> {
        Ok(Self(UniqueArc::new_uninit(flags)?))
    }
}

impl Request {
    /// Creates a command with the first `len` bytes of a buffer, if it has one. The command owns
    /// the buffer until [`Self::give_back`].
    ///
    /// # Errors
    ///
    /// `EBUSY` if another command owns the buffer.
    pub(super) fn new(
        memory: Memory,
        command: Command,
        buffer: Option<(Arc<Buffer>, u32)>,
        channel: Option<Arc<Channel>>,
        pass: Pass,
    ) -> Result<Arc<Self>> {
        let address = match &buffer {
            Some((buffer, _)) => buffer.claim()?,
            None => 0,
        };
        let request = memory.0.pin_init_with(pin_init!(Self {
            command,
            pass,
            buffer,
            address,
            channel,
            start: Instant::now(),
            allowed_ms: Atomic::new(u32::MAX),
            order: Atomic::new(0),
            late: Atomic::new(false),
            again: Atomic::new(0),
            left: Atomic::new(false),
            outcome: SetOnce::new(),
            admitted <- Completion::new(),
            done <- Completion::new(),
        }))?;
        Ok(request.into())
    }

    /// Returns the number of the command's function.
    pub(super) fn function(&self) -> u16 {
        self.command.function()
    }

    /// Returns the permission to submit the command.
    pub(super) fn pass(&self) -> Pass {
        self.pass
    }

    /// Returns the class of slots that the command needs.
    pub(super) fn class(&self) -> Class {
        Class::of(&self.command)
    }

    /// Encodes the entry of the submission ring.
    pub(super) fn encode(&self, id: u16) -> [u64; admin::SQE_WORDS] {
        let len = self.buffer.as_ref().map_or(0, |(_, len)| *len);
        self.command.encode(id, self.address, len)
    }

    /// Ends the command with the device's completion. Does not sleep. The caller holds
    /// `Queue::state`.
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
        if let (Kind::Page, Some(channel)) = (self.command.kind(), &self.channel) {
            channel.set_page_live(outcome.is_ok());
        }
        self.finish(outcome);
    }

    /// Returns the buffer to its owner.
    pub(super) fn give_back(&self) {
        if let Some((buffer, _)) = &self.buffer {
            buffer.release();
        }
    }

    /// Sets the outcome, unless there is one, and wakes the waiters. Does not sleep.
    pub(super) fn finish(&self, outcome: Result<Reply>) {
        self.outcome.populate(outcome);
        self.admitted.complete_all();
        self.done.complete_all();
        if let Some(channel) = &self.channel {
            channel.command_ended(&self.command);
        }
    }

    /// Sets the order of the command and its deadline, `ms` milliseconds from now, just before the
    /// device gets it. The caller holds `Queue::state`.
    pub(super) fn submitted(&self, order: u64, ms: u32) {
        let waited = u32::try_from(self.start.elapsed().as_millis()).unwrap_or(u32::MAX);
        self.allowed_ms.store(waited.saturating_add(ms), Relaxed);
        self.order.store(order, Relaxed);
        self.admitted.complete_all();
    }

    /// Returns the position in the order of submission.
    pub(super) fn order(&self) -> u64 {
        self.order.load(Relaxed)
    }

    /// Returns the time to the deadline, in milliseconds.
    pub(super) fn remaining_ms(&self) -> u32 {
        let elapsed = self.start.elapsed().as_millis();
        let left = i64::from(self.allowed_ms.load(Relaxed)).saturating_sub(elapsed);
        u32::try_from(left.max(0)).unwrap_or(0)
    }

    /// Returns the time to the deadline, in jiffies.
    pub(super) fn remaining(&self) -> Jiffies {
        msecs_to_jiffies(self.remaining_ms())
    }

    /// Returns whether the deadline has passed.
    pub(super) fn is_overdue(&self) -> bool {
        self.remaining_ms() == 0
    }

    /// Returns whether the command has ended.
    pub(super) fn is_done(&self) -> bool {
        self.outcome.as_ref().is_some()
    }

    /// Returns the error that the command ended with.
    pub(super) fn failure(&self) -> Error {
        self.outcome.copy().and_then(|o| o.err()).unwrap_or(EIO)
    }

    /// Marks the command as late if its deadline has passed, before an abort or a reset that drops
    /// it. Returns whether this call has marked it. The caller holds `Queue::state`.
    pub(super) fn note_if_late(&self) -> bool {
        let noted = !self.is_done() && !self.late.load(Relaxed) && self.is_overdue();
        if noted {
            self.late.store(true, Relaxed);
        }
        noted
    }

    /// Describes the command for [`crate::kext::cmdq::fate`]. The caller holds `Queue::state`.
    pub(super) fn dropped(&self) -> Dropped {
        Dropped {
            order: self.order(),
            function: self.function(),
            kind: self.command.kind() as usize,
            idempotent: self.command.is_idempotent(),
            waited_for: !self.left.load(Relaxed) && !self.is_done(),
            late: self.late.load(Relaxed),
            again: self.again.load(Relaxed),
        }
    }

    /// Returns the outcome of the command, or `None` before it has ended.
    pub(super) fn outcome(&self) -> Option<Result<Reply>> {
        self.outcome.copy()
    }

    /// Notes that no thread waits for the command any more.
    pub(super) fn leave(&self) {
        self.left.store(true, Relaxed);
    }

    /// Returns how often the command was submitted again.
    pub(super) fn times_again(&self) -> u32 {
        self.again.load(Relaxed)
    }

    /// Counts one more submission. The caller holds `Queue::state`.
    pub(super) fn count_again(&self) {
        self.again
            .store(self.again.load(Relaxed).saturating_add(1), Relaxed);
    }
}

#[kunit_tests(dlr_mgmt_command)]
mod tests {
    use super::*;

    fn answer(status: u16) -> admin::Completion {
        admin::Completion {
            result: 0,
            empty: false,
            end: false,
            sq_head: 0,
            id: 0,
            status,
        }
    }

    /// Otherwise the bytes that a page had before a reset would be taken for those of now.
    #[test]
    fn v8_only_a_page_that_the_device_has_taken_is_current() -> Result {
        let channel = Channel::new(0)?;
        let stats = Stats::new();
        let complete = |command: Command, status| -> Result {
            let memory = Memory::new(GFP_KERNEL)?;
            Request::new(memory, command, None, Some(channel.clone()), Pass::Check)?
                .complete(&answer(status), &stats);
            Ok(())
        };
        let page = || Command::status_page(0, 0x1000);
        assert!(!channel.is_page_live());
        complete(page(), 0)?;
        assert!(channel.is_page_live());
        // Another command says nothing about the page.
        complete(Command::save_end(0), 1)?;
        assert!(channel.is_page_live());
        complete(page(), 1)?;
        assert!(!channel.is_page_live());
        complete(Command::save_end(0), 0)?;
        assert!(!channel.is_page_live());
        Ok(())
    }
}
