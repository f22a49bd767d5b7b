// SPDX-License-Identifier: GPL-2.0

//! A command of the queue, from its creation to its completion.

use super::{
    buffer::Buffer,
    channel::Channel,
    device::{
        Command,
        Device, //
    },
    fate::Dropped,
    stats::Stats, //
};
use crate::ext::{
    completion::Completion,
    trust::Pass, //
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

/// A command, shared by the queue and the threads that wait for it.
///
/// The queue's reference keeps the buffer alive until the device is done with it, even if no thread
/// waits any more. Dropping the last reference may free the buffer, so it must not happen under a
/// spin lock.
#[pin_data]
pub(super) struct Request<D: Device> {
    pub(super) command: D::Command,
    pass: Pass,
    buffer: Option<(Arc<Buffer>, u32)>,
    /// DMA address of the buffer.
    address: u64,
    /// The function whose sleepers are woken when the command ends.
    channel: Option<Arc<Channel<D::Function>>>,
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
    outcome: SetOnce<Result<D::Reply>>,
    /// Completed when the command has a slot, or has ended without one.
    #[pin]
    pub(super) admitted: Completion,
    #[pin]
    pub(super) done: Completion,
}

/// Memory for one [`Request`].
pub(super) struct Memory<D: Device>(UniqueArc<MaybeUninit<Request<D>>>);

impl<D: Device> Memory<D> {
    /// Allocates the memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the allocation fails.
    pub(super) fn new(flags: Flags) -> Result<Self> {
        Ok(Self(UniqueArc::new_uninit(flags)?))
    }
}

impl<D: Device> Request<D> {
    /// Creates a command with the first `len` bytes of a buffer, if it has one. The command owns
    /// the buffer until [`Self::give_back`].
    ///
    /// # Errors
    ///
    /// `EINVAL` if the buffer is shorter than `len`, so that the device could access memory behind
    /// it. `EBUSY` if another command owns the buffer.
    pub(super) fn new(
        memory: Memory<D>,
        command: D::Command,
        buffer: Option<(Arc<Buffer>, u32)>,
        channel: Option<Arc<Channel<D::Function>>>,
        pass: Pass,
    ) -> Result<Arc<Self>> {
        let address = match &buffer {
            Some((buffer, len)) if *len as usize > buffer.len() => return Err(EINVAL),
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
    pub(super) fn class(&self) -> <D::Command as Command>::Class {
        self.command.class()
    }

    /// Returns the DMA address and the length of the buffer, or zeros.
    pub(super) fn buffer(&self) -> (u64, u32) {
        let len = self.buffer.as_ref().map_or(0, |(_, len)| *len);
        (self.address, len)
    }

    /// Ends the command with the device's completion. Does not sleep. The caller holds
    /// `Queue::state`.
    pub(super) fn complete(&self, answer: &D::Answer, device: &D, stats: &Stats) {
        self.give_back();
        let outcome = D::outcome(answer);
        if outcome.is_err() {
            stats.errors.count();
        }
        let channel = self.channel.as_deref();
        device.completed(&self.command, channel, self.start, &outcome);
        self.finish(outcome);
    }

    /// Returns the buffer to its owner.
    pub(super) fn give_back(&self) {
        if let Some((buffer, _)) = &self.buffer {
            buffer.release();
        }
    }

    /// Sets the outcome, unless there is one, and wakes the waiters. Does not sleep.
    pub(super) fn finish(&self, outcome: Result<D::Reply>) {
        self.outcome.populate(outcome);
        self.admitted.complete_all();
        self.done.complete_all();
        if let Some(channel) = &self.channel {
            channel.command_ended(self.command.wakes_reader());
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

    /// Describes the command for [`fate`](super::fate). The caller holds `Queue::state`.
    pub(super) fn dropped(&self) -> Dropped {
        Dropped {
            order: self.order(),
            function: self.function(),
            kind: self.command.kind(),
            idempotent: self.command.is_idempotent(),
            waited_for: !self.left.load(Relaxed) && !self.is_done(),
            late: self.late.load(Relaxed),
            again: self.again.load(Relaxed),
        }
    }

    /// Returns the outcome of the command, or `None` before it has ended.
    pub(super) fn outcome(&self) -> Option<Result<D::Reply>> {
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
