// SPDX-License-Identifier: GPL-2.0

//! A device in plain memory, for tests of the queue: the test executes the commands.

use super::{
    board::{
        Board,
        Ring,
        Slot, //
    },
    channel::Channel,
    device::{
        Command,
        Completed,
        Device,
        Status, //
    },
    request::{
        Memory,
        Request, //
    },
    ring::{
        Consumer,
        Producer, //
    },
};
use crate::ext::trust::Pass;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    time::{
        Instant,
        Monotonic, //
    },
};

/// Class of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// Commands of which a session has many in flight.
    Bulk,
    /// Other commands of sessions.
    State,
    /// Commands of logs.
    Log,
    /// The end of a log.
    LogEnd,
}

impl From<Class> for usize {
    fn from(class: Class) -> Self {
        class as Self
    }
}

/// A command, which the device may execute twice.
#[derive(Clone, Copy)]
pub(super) struct Order {
    function: u16,
    class: Class,
}

impl Order {
    /// Creates a command.
    pub(super) fn new(function: u16, class: Class) -> Self {
        Self { function, class }
    }

    /// Creates a request for it, without a buffer.
    pub(super) fn request(self, pass: Pass) -> Result<Arc<Request<Fake>>> {
        Request::new(Memory::new(GFP_KERNEL)?, self, None, None, pass)
    }
}

impl Command for Order {
    const CLASSES: usize = Class::LogEnd as usize + 1;
    const KINDS: usize = Self::CLASSES;

    type Class = Class;

    fn function(&self) -> u16 {
        self.function
    }

    fn class(&self) -> Class {
        self.class
    }

    fn kind(&self) -> usize {
        self.class.into()
    }

    fn row(&self) -> usize {
        usize::from(matches!(self.class, Class::Log | Class::LogEnd))
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    fn wakes_reader(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "ORDER"
    }
}

/// State that the driver keeps for a function.
pub(super) struct Kept {
    /// A command sets something up again after a reset of the device.
    pub(super) set_up: Atomic<bool>,
    /// Number of resets of the device.
    pub(super) resets: Atomic<u32>,
}

/// The device. All its aborts are confirmed at once.
pub(super) struct Fake;

impl Fake {
    /// Creates the channels of `count` functions.
    pub(super) fn channels(count: u16) -> Result<KVec<Arc<Channel<Kept>>>> {
        let mut channels = KVec::new();
        for number in 0..count {
            let kept = Kept {
                set_up: Atomic::new(false),
                resets: Atomic::new(0),
            };
            channels.push(Channel::new(number, kept)?, GFP_KERNEL)?;
        }
        Ok(channels)
    }
}

impl Device for Fake {
    type Command = Order;
    type Reply = ();
    type Answer = u16;
    type Function = Kept;
    type Cell = Slot;
    type Ring = Ring;

    fn submissions(hw: &Board) -> &Ring {
        &hw.sq
    }

    fn completions(hw: &Board) -> &Ring {
        &hw.cq
    }

    fn push(
        ring: &Ring,
        sq: &mut Producer,
        command: &Order,
        id: u16,
        _buffer: (u64, u32),
    ) -> Result {
        sq.push(ring, &[u64::from(command.function) << 16 | u64::from(id)])
    }

    fn pop(ring: &Ring, cq: &mut Consumer) -> Option<Completed<u16>> {
        let [word] = cq.pop::<1>(ring, |word| word >> 63 != 0)?;
        Some(Completed {
            id: word as u16,
            consumed: (word >> 16) as u16,
            answer: (word >> 32) as u16,
        })
    }

    fn outcome(answer: &u16) -> Result {
        match *answer {
            0 => Ok(()),
            _ => Err(EINVAL),
        }
    }

    fn set_tail(hw: &Board, tail: u32) {
        hw.tail.store(tail, Relaxed);
    }

    fn set_head(_hw: &Board, _head: u32) {}

    fn status(hw: &Board) -> Status {
        Status {
            ready: hw.ready.load(Relaxed) || hw.deaf.load(Relaxed),
            fatal: false,
            gone: false,
        }
    }

    fn begin_enable(hw: &Board, _vector: u32) {
        for count in [&hw.tail, &hw.fetched, &hw.posted] {
            count.store(0, Relaxed);
        }
        hw.ready.store(true, Relaxed);
    }

    fn begin_handshake(hw: &Board) {
        hw.ready.store(false, Relaxed);
    }

    fn begin_reset(hw: &Board) {
        hw.ready.store(false, Relaxed);
    }

    fn is_resetting(_hw: &Board) -> bool {
        false
    }

    fn reset(hw: &Board, _ms: u32) -> Result {
        Self::begin_reset(hw);
        Ok(())
    }

    fn answers(_hw: &Board) -> bool {
        true
    }

    fn begin_abort(_hw: &Board, _function: u16) {}

    fn is_aborting(_hw: &Board, _function: u16) -> bool {
        false
    }

    fn completed(
        &self,
        _command: &Order,
        _channel: Option<&Channel<Kept>>,
        _start: Instant<Monotonic>,
        _outcome: &Result,
    ) {
    }

    fn raised(&self) {}

    fn set_up(channel: &Channel<Kept>) -> Option<Order> {
        let set_up = channel.set_up.load(Relaxed);
        set_up.then(|| Order::new(channel.number, Class::State))
    }

    /// A recovery calls this at its begin and at its end.
    fn forget(function: &Kept) {
        function.resets.fetch_add(1, Relaxed);
    }

    fn halt(_function: &Kept) {}

    fn free(_function: &Kept) {}
}
