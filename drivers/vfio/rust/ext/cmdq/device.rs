// SPDX-License-Identifier: GPL-2.0

//! The traits by which the driver of a management function describes its device to the
//! [`Queue`](super::queue::Queue): how commands are laid out, what they are, and which registers
//! move the queue.

use super::{
    channel::Channel,
    ring::{
        Consumer,
        Producer,
        Words, //
    },
};
use crate::ext::bound_cell::{
    self,
    BoundCell, //
};
use core::{
    fmt::Debug,
    ops::Deref, //
};
use kernel::{
    prelude::*,
    time::{
        Instant,
        Monotonic, //
    },
};

/// Margin that is added to every deadline of the device for the latency of the driver, in
/// milliseconds.
const MARGIN_MS: u32 = 500;

/// Returns a time of the device with the margin of the driver, in milliseconds.
pub(crate) fn with_margin(ms: u32) -> u32 {
    ms.saturating_add(MARGIN_MS)
}

/// Maximum number of functions that one management function serves.
pub(crate) const MAX_FUNCTIONS: u32 = u64::BITS;

/// Largest log2 of the number of slots of a ring. Ids of commands have 16 bits, of which at least
/// one is left to tell a command from the one before it in its slot.
pub(crate) const MAX_ORDER: u32 = 15;

/// Constants of the queue that the device states. They do not change while it is bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    /// Log2 of the number of slots of each ring, at most [`MAX_ORDER`].
    pub(crate) order: u32,
    /// Longest time of a command, an abort, a handshake or a reset, in milliseconds.
    pub(crate) timeout_ms: u32,
}

/// State of the queue according to the registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Status {
    /// The device uses the queue.
    pub(crate) ready: bool,
    /// The queue needs a reset handshake before the device can use it.
    pub(crate) fatal: bool,
    /// The registers read as all ones, as they do if the device is gone.
    pub(crate) gone: bool,
}

/// A completion that the device has posted.
pub(crate) struct Completed<A> {
    /// Id of the command.
    pub(crate) id: u16,
    /// Low 16 bits of the device's consumer count of the submission ring.
    pub(crate) consumed: u16,
    /// The decoded entry.
    pub(crate) answer: A,
}

/// A command without its id and its buffer.
///
/// # Examples
///
/// From `drivers/vfio/pci/dlr/mgmt/device.rs`:
///
/// ```ignore
/// impl device::Command for Command {
///     const CLASSES: usize = CLASSES;
///     const KINDS: usize = KINDS;
///
///     type Class = Class;
///
///     fn function(&self) -> u16 {
///         Command::function(self)
///     }
///
///     // …
/// }
/// ```
pub(crate) trait Command: Send + Sync + 'static {
    /// Number of classes, see [`Shares`](super::shares::Shares).
    const CLASSES: usize;
    /// Number of kinds, see [`fate`](super::fate).
    const KINDS: usize;

    /// Class of slots. As a number it is below [`Self::CLASSES`].
    type Class: Copy + PartialEq + Into<usize> + Send + Sync;

    /// Returns the number of the function that the command is for.
    fn function(&self) -> u16;

    /// Returns the class of slots that the command needs.
    fn class(&self) -> Self::Class;

    /// Returns the kind of the command, a number below [`Self::KINDS`].
    fn kind(&self) -> usize;

    /// Returns the row of the command. The device executes the commands of a function and a row one
    /// after the other, and the time of each begins when the one before it ends.
    fn row(&self) -> usize;

    /// Returns whether the device may execute the command twice.
    fn is_idempotent(&self) -> bool;

    /// Returns whether the end of the command wakes the reader of the function's session
    /// ([`Reader`](super::channel::Reader)). Otherwise it signals the event of the channel.
    fn wakes_reader(&self) -> bool;

    /// Returns the name of the command, for messages.
    fn name(&self) -> &'static str;
}

/// Access to the hardware until the management function is unbound. It is a trait so that the tests
/// of the queue need no device.
pub(crate) trait Access: Send + Sync + 'static {
    /// The device, its registers and the memory that it shares with the driver.
    type Hardware;

    /// An access to the hardware, while it exists.
    type Guard<'a>: Deref<Target = Self::Hardware>
    where
        Self: 'a;

    /// See [`BoundCell::enter`].
    fn enter(&self) -> Option<Self::Guard<'_>>;

    /// See [`BoundCell::enter_in_pause`].
    fn enter_in_pause(&self) -> Option<Self::Guard<'_>>;

    /// See [`BoundCell::pause`].
    fn pause(&self) -> Option<Self::Guard<'_>>;

    /// See [`BoundCell::unpause`].
    fn unpause(&self);

    /// See [`BoundCell::revoke_after`].
    fn revoke_after(&self, last: impl FnOnce(&Self::Hardware));

    /// Returns the device, for messages.
    fn device(hw: &Self::Hardware) -> &kernel::device::Device;
}

impl<T: Send + Sync + 'static, const SIZE: usize> Access for BoundCell<T, SIZE> {
    type Hardware = bound_cell::Hardware<T, SIZE>;
    type Guard<'a> = bound_cell::Guard<'a, T, SIZE>;

    fn enter(&self) -> Option<Self::Guard<'_>> {
        BoundCell::enter(self)
    }

    fn enter_in_pause(&self) -> Option<Self::Guard<'_>> {
        BoundCell::enter_in_pause(self)
    }

    fn pause(&self) -> Option<Self::Guard<'_>> {
        BoundCell::pause(self)
    }

    fn unpause(&self) {
        BoundCell::unpause(self);
    }

    fn revoke_after(&self, last: impl FnOnce(&Self::Hardware)) {
        BoundCell::revoke_after(self, last);
    }

    fn device(hw: &Self::Hardware) -> &kernel::device::Device {
        hw.device()
    }
}

/// The hardware of a [`Device`].
pub(crate) type Hardware<D> = <<D as Device>::Cell as Access>::Hardware;

/// An access to the hardware of a [`Device`].
pub(crate) type Guard<'a, D> = <<D as Device>::Cell as Access>::Guard<'a>;

/// A management function: its registers, and what its driver does when the queue completes commands
/// or is reset.
///
/// The functions with `hw` access registers only and do not wait, except for [`Self::reset`].
///
/// # Examples
///
/// From `drivers/vfio/pci/dlr/mgmt/device.rs`:
///
/// ```ignore
/// impl device::Device for Management {
///     // …
///     fn pop(ring: &Coherent<[u64]>, cq: &mut Consumer) -> Option<Completed<Completion>> {
///         let answer = Completion::decode(cq.pop(ring, admin::phase)?);
///         Some(Completed {
///             id: answer.id,
///             consumed: answer.sq_head,
///             answer,
///         })
///     }
///
///     // …
///     fn set_tail(hw: &Mapped, tail: u32) {
///         hw.bar().write_reg(regs::SQ_TAIL::from_raw(tail));
///     }
///
///     // …
/// }
/// ```
pub(crate) trait Device: Send + Sync + Sized + 'static {
    /// A command.
    type Command: Command;

    /// Reply to a command that has succeeded.
    type Reply: Copy + Send + Sync;

    /// A decoded completion.
    type Answer: Copy + Debug + Send + Unpin;

    /// State that the driver keeps for each function, see [`Channel`].
    type Function: Send + Sync + 'static;

    /// Access to the hardware.
    type Cell: Access;

    /// Memory of the rings.
    type Ring: Words + ?Sized;

    /// Returns the submission ring.
    fn submissions(hw: &Hardware<Self>) -> &Self::Ring;

    /// Returns the completion ring.
    fn completions(hw: &Hardware<Self>) -> &Self::Ring;

    /// Writes the entry of a command into the submission ring. `buffer` is the DMA address and the
    /// length of its buffer; without one both are 0.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::push`].
    fn push(
        ring: &Self::Ring,
        sq: &mut Producer,
        command: &Self::Command,
        id: u16,
        buffer: (u64, u32),
    ) -> Result;

    /// Takes the next entry of the completion ring, if the device has written it.
    fn pop(ring: &Self::Ring, cq: &mut Consumer) -> Option<Completed<Self::Answer>>;

    /// Returns the reply of a completion, or the errno of its status.
    fn outcome(answer: &Self::Answer) -> Result<Self::Reply>;

    /// Tells the device the producer count of the submission ring. `dma_mb()` has ordered the
    /// entries before this.
    fn set_tail(hw: &Hardware<Self>, tail: u32);

    /// Tells the device the consumer count of the completion ring.
    fn set_head(hw: &Hardware<Self>, head: u32);

    /// Reads the state of the queue.
    fn status(hw: &Hardware<Self>) -> Status;

    /// Gives the rings to the device, which raises `vector` for completions. Both rings start at
    /// count 0. `dma_mb()` has ordered the zeroing of the completion ring before this. The device
    /// has taken the rings when [`Self::status`] is ready.
    fn begin_enable(hw: &Hardware<Self>, vector: u32);

    /// Begins the reset handshake. When the status is not ready any more, the device accesses
    /// neither the rings nor the buffer of any command.
    fn begin_handshake(hw: &Hardware<Self>);

    /// Begins the reset of the whole function. When [`Self::is_resetting`] returns `false`, the
    /// device accesses no memory and raises no vector, and all that it did for its functions has
    /// ended.
    fn begin_reset(hw: &Hardware<Self>);

    /// Returns whether such a reset is under way. Always true for a device that is gone.
    fn is_resetting(hw: &Hardware<Self>) -> bool;

    /// Resets the whole function, and waits for `ms` milliseconds at most.
    ///
    /// # Errors
    ///
    /// `EIO` if the device is gone, `ETIMEDOUT` if the reset has not ended in time.
    fn reset(hw: &Hardware<Self>, ms: u32) -> Result;

    /// Returns whether the device answers. The queue need not be ready.
    fn answers(hw: &Hardware<Self>) -> bool;

    /// Begins an abort: the device drops the commands of a function. Does nothing for a function
    /// that the device does not have.
    fn begin_abort(hw: &Hardware<Self>, function: u16);

    /// Returns whether an abort of the function is under way. Always true for a device that is
    /// gone, and for a function that the device does not have.
    fn is_aborting(hw: &Hardware<Self>, function: u16) -> bool;

    /// Called when the device has completed a command, which was created at `start`, with this
    /// outcome. `channel` is the one that is notified of its end. The spin lock of the queue is
    /// held, and the waiters are not woken yet; must not sleep.
    fn completed(
        &self,
        command: &Self::Command,
        channel: Option<&Channel<Self::Function>>,
        start: Instant<Monotonic>,
        outcome: &Result<Self::Reply>,
    );

    /// Called when a vector of functions was raised.
    fn raised(&self);

    /// Returns the command that sets up again what a reset of the whole function has ended and the
    /// driver keeps for as long as it is bound. The queue submits it before all others.
    fn set_up(channel: &Channel<Self::Function>) -> Option<Self::Command>;

    /// Called when a reset of the whole function begins, while the device may still write memory of
    /// the function, and again when the reset has ended. The reset ends what the device did for the
    /// function, so the driver's knowledge of it is out of date. Must be idempotent and free
    /// nothing. The spin lock of the queue is held; must not sleep.
    fn forget(function: &Self::Function);

    /// Called when an outage has begun: no thread accesses the hardware until its end, and the
    /// device will have forgotten what it did for this function. May sleep.
    fn halt(function: &Self::Function);

    /// Called when the management function was unbound, to free DMA memory. May sleep.
    fn free(function: &Self::Function);
}
