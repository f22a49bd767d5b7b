// SPDX-License-Identifier: GPL-2.0

//! The admin queue: submission and completion. [`recovery`] has the rest: deadlines and resets.

use super::{
    channel::Channel,
    command::{
        Request,
        Ticket, //
    },
    hardware::{
        self,
        Hardware, //
    },
    memory::Buffer,
    ring::{
        Consumer,
        Producer, //
    },
    slots::Slots,
    stats::Stats, //
};
use crate::{
    kext::completion::{
        Event,
        Wait, //
    },
    proto::admin::{
        self,
        Command, //
    },
};
use kernel::{
    io::Io,
    new_mutex,
    new_spinlock_irq,
    prelude::*,
    sync::{
        barrier::{
            dma_mb,
            Write, //
        },
        Arc,
        Mutex,
        SpinLockIrq, //
    },
    time::msecs_to_jiffies, //
};

mod recovery;

/// Vector of completions.
pub(super) const VECTOR: u32 = 0;
/// Completions taken in one hold of the lock.
const BATCH: usize = 16;
/// How long a thread without a slot sleeps before it looks again, in milliseconds.
const SLOT_POLL_MS: u32 = 100;

/// Whether commands can be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    /// Yes.
    Up,
    /// Soon again.
    Resetting,
    /// Never again.
    Down,
}

struct State {
    life: Life,
    sq: Producer,
    cq: Consumer,
    slots: Slots<Arc<Request>>,
}

/// The admin queue of a management function.
#[pin_data]
pub(super) struct Queue {
    pub(super) hw: Arc<Hardware>,
    pub(super) stats: Stats,
    /// Whom to tell when the queue dies.
    pub(super) channels: KVec<Arc<Channel>>,
    limits: hardware::Limits,
    /// One reset at a time.
    #[pin]
    reset: Mutex<()>,
    #[pin]
    state: SpinLockIrq<State>,
    /// A slot became free, perhaps.
    #[pin]
    room: Event,
}

impl Queue {
    /// A queue that is not enabled yet.
    pub(super) fn new(
        hw: Arc<Hardware>,
        channels: KVec<Arc<Channel>>,
        limits: hardware::Limits,
    ) -> Result<Arc<Self>> {
        let state = State {
            life: Life::Resetting,
            sq: Producer::new(limits.order),
            cq: Consumer::new(limits.order),
            slots: Slots::new(limits.order)?,
        };
        Arc::pin_init(
            pin_init!(Self {
                hw,
                stats: Stats::new(),
                channels,
                limits,
                reset <- new_mutex!((), "dlr_mgmt::Queue::reset"),
                state <- new_spinlock_irq!(state, "dlr_mgmt::Queue::state"),
                room <- Event::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Enables a new queue.
    pub(super) fn start(&self) -> Result {
        let hw = self.hw.enter().ok_or(ENOTCONN)?;
        hardware::enable_queue(&hw, VECTOR)?;
        self.state.lock().life = Life::Up;
        Ok(())
    }

    /// Whether the management function is gone for good.
    pub(super) fn is_down(&self) -> bool {
        self.state.lock().life == Life::Down
    }

    /// Commands that the device has not completed.
    pub(super) fn in_flight(&self) -> usize {
        self.state.lock().slots.used()
    }

    /// Gives a command to the device. Sleeps while all slots are taken.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` once the management function is gone, `EBUSY` when the buffer is in flight, `EINTR`,
    /// `ENOMEM`.
    pub(super) fn submit(
        self: &Arc<Self>,
        command: Command,
        buffer: Option<(Arc<Buffer>, u32)>,
        channel: Option<Arc<Channel>>,
    ) -> Result<Ticket> {
        let request = Request::new(command, buffer, channel)?;
        let address = match request.buffer() {
            Some((buffer, _)) => buffer.claim()?,
            None => 0,
        };
        loop {
            match self.try_submit(&request, address) {
                Ok(true) => {
                    return Ok(Ticket {
                        queue: self.clone(),
                        request,
                    })
                }
                Ok(false) => self.reclaim(),
                Err(error) => {
                    request.give_back();
                    return Err(error);
                }
            }
            // More than one thread may sleep here and the event wakes one: hence the short time.
            if self
                .room
                .wait_killable_timeout(msecs_to_jiffies(SLOT_POLL_MS))
                == Wait::Killed
            {
                request.give_back();
                return Err(EINTR);
            }
        }
    }

    /// Gives a command to the device and sets its deadline, if there is room and no other is overdue.
    fn try_submit(&self, request: &Arc<Request>, address: u64) -> Result<bool> {
        let hw = self.hw.enter().ok_or(ENOTCONN)?;
        let mut guard = self.state.lock();
        let state = &mut *guard;
        match state.life {
            Life::Up => {}
            Life::Resetting => return Ok(false),
            Life::Down => return Err(ENOTCONN),
        }
        // Whoever waited for it has gone: a SYNC whose marker came, a signal. Each would make the deadlines
        // of all that follow longer.
        if state.slots.iter().any(|r| r.remaining() == 0) {
            return Ok(false);
        }
        let function = request.command.function();
        let ahead = state
            .slots
            .iter()
            .filter(|r| r.command.function() == function)
            .count();
        let Ok(id) = state.slots.insert(request.clone()) else {
            return Ok(false);
        };
        // Commands of one function are executed one after the other.
        let turns = u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1);
        request.allow(
            self.limits
                .timeout_ms
                .saturating_mul(turns)
                .saturating_add(super::MARGIN_MS),
        );
        let len = request.buffer().map_or(0, |(_, len)| len);
        let entry = request.command.encode(id, address, len);
        let tail = match state.sq.push(&hw.data().sq, &entry) {
            Ok(tail) => tail,
            Err(error) => {
                state.slots.remove(id);
                return Err(error);
            }
        };
        // ORDERING: The entry and the command's buffer before the doorbell; pairs with the device's
        // fetch of the entry.
        dma_mb(Write);
        hw.bar().write32(tail, crate::proto::regs::SQ_TAIL);
        self.stats.commands.count();
        Ok(true)
    }

    /// Takes all completions that are there. From the interrupt's thread, and from those who waited long
    /// enough to think that an interrupt was lost.
    pub(super) fn take_completions(&self) {
        loop {
            let mut batch: [Option<Arc<Request>>; BATCH] = [const { None }; BATCH];
            let Some((taken, garbage)) = self.take_batch(&mut batch) else {
                return;
            };
            // Outside of the lock: the last reference of a request frees its buffer.
            drop(batch);
            if taken != 0 {
                self.room.signal();
            }
            if garbage {
                self.stats.garbage.count();
                self.restart(None);
                return;
            }
            if taken < BATCH {
                return;
            }
        }
    }

    /// `None` when the queue is not in use.
    fn take_batch(&self, batch: &mut [Option<Arc<Request>>; BATCH]) -> Option<(usize, bool)> {
        let hw = self.hw.enter()?;
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.life != Life::Up {
            return None;
        }
        let mut taken = 0;
        let mut garbage = false;
        for place in batch.iter_mut() {
            let Some(words) = state.cq.pop(&hw.data().cq) else {
                break;
            };
            let answer = admin::Completion::decode(words);
            let request = if state.sq.can_have_consumed(answer.sq_head) {
                state.slots.remove(answer.id)
            } else {
                None
            };
            let Some(request) = request else {
                dev_err!(hw.device(), "completion makes no sense: {answer:?}\n");
                garbage = true;
                break;
            };
            request.complete(&answer, &self.stats);
            *place = Some(request);
            taken += 1;
        }
        if taken != 0 {
            hw.bar()
                .write32(state.cq.head(), crate::proto::regs::CQ_HEAD);
        }
        Some((taken, garbage))
    }
}
