// SPDX-License-Identifier: GPL-2.0

//! The admin queue: its state and its completions.
//!
//! [`submission`] passes commands to the device. [`recovery`] and [`abort`] deal with commands that
//! the device does not complete. [`outage`] keeps threads from the hardware, and [`end`] ends the
//! queue.

use super::{
    channel::Channel,
    command::Request,
    hardware::{
        self,
        Hardware, //
    },
    stats::Stats, //
};
use crate::{
    kext::{
        budget::Budget,
        cmdq::life::{
            Life,
            Millis, //
        },
    },
    proto::{
        admin,
        regs, //
    },
};
use desk::Desk;
use kernel::{
    io::Io,
    new_mutex, new_spinlock_irq,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic, //
        },
        Arc,
        Mutex,
        SpinLockIrq, //
    },
    time::{
        Instant,
        Monotonic, //
    },
};

use state::{
    bit,
    Functions,
    State, //
};

mod abort;
mod desk;
mod end;
mod outage;
mod recovery;
mod state;
mod submission;

/// MSI-X vector of completions.
pub(super) const VECTOR: u32 = 0;
/// Number of completions that are taken in one hold of `Queue::state`.
const BATCH: usize = 16;

/// The admin queue of a management function.
#[pin_data]
pub(super) struct Queue {
    pub(super) hw: Arc<Hardware>,
    pub(super) stats: Stats,
    /// One channel per data function. Their clients are told when logs or the service end.
    pub(super) channels: KVec<Arc<Channel>>,
    limits: hardware::Limits,
    start: Instant<Monotonic>,
    /// Set with [`Life::Down`], under `state`. It is read without that lock, because each idle call
    /// of a VMM asks for it several times.
    down: Atomic<bool>,
    /// Held for one step by the thread that advances a recovery; never across a wait for the
    /// device.
    #[pin]
    desk: Mutex<Desk>,
    #[pin]
    state: SpinLockIrq<State>,
}

impl Queue {
    /// Creates a queue that is not enabled yet.
    pub(super) fn new(
        hw: Arc<Hardware>,
        channels: KVec<Arc<Channel>>,
        limits: hardware::Limits,
    ) -> Result<Arc<Self>> {
        let functions = channels.len();
        let slots = 1usize.checked_shl(limits.order).ok_or(EINVAL)?;
        let state = State::new(limits.order, functions)?;
        let desk = Desk::new(slots, functions)?;
        Arc::pin_init(
            pin_init!(Self {
                hw,
                stats: Stats::new(),
                channels,
                limits,
                start: Instant::now(),
                down: Atomic::new(false),
                desk <- new_mutex!(desk, "dlr_mgmt::Queue::desk"),
                state <- new_spinlock_irq!(state, "dlr_mgmt::Queue::state"),
            }),
            GFP_KERNEL,
        )
    }

    /// Enables the new queue, and waits until the device uses it.
    pub(super) fn start(&self) -> Result {
        let hw = self.hw.enter().ok_or(ENOTCONN)?;
        hardware::enable_queue(&hw, VECTOR)?;
        self.state.lock().life = Life::Up;
        Ok(())
    }

    /// Returns whether the management function is gone for good.
    pub(super) fn is_down(&self) -> bool {
        // ORDERING: Pairs with the release in `go_down`.
        self.down.load(Acquire)
    }

    /// Returns the number of commands that the device has not completed.
    pub(super) fn in_flight(&self) -> usize {
        self.state.lock().slots.used()
    }

    /// Runs `f` with `Queue::state` held: no command is submitted, completed or dropped meanwhile.
    pub(super) fn with_state<R>(&self, f: impl FnOnce() -> R) -> R {
        let _state = self.state.lock();
        f()
    }

    /// Returns the time since the queue was created.
    fn now(&self) -> Millis {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(0)
    }

    /// Takes all completions, without waiting for more. Called by a thread whose wait is over, in
    /// case an interrupt was lost.
    pub(super) fn look(&self) {
        self.collect(Life::Up);
    }

    /// Takes all completions. Called by the thread of the interrupt, which also recovers the queue
    /// after a completion that matches no command, because no other thread may be waiting.
    pub(super) fn take_completions(&self) {
        self.look();
        if self.state.lock().life == Life::Suspect {
            // The next thread that waits for a command continues what this budget does not allow.
            self.settle(&Budget::new());
        }
    }

    /// Takes all completions while the queue is in the state `life`.
    fn collect(&self, life: Life) {
        loop {
            let mut batch: [Option<Arc<Request>>; BATCH] = [const { None }; BATCH];
            let taken = self.take_batch(life, &mut batch);
            // Outside the lock: dropping the last reference to a request frees its buffer.
            drop(batch);
            if taken < BATCH {
                return;
            }
        }
    }

    fn take_batch(&self, life: Life, batch: &mut [Option<Arc<Request>>; BATCH]) -> usize {
        let Some(hw) = self.hw.enter() else {
            return 0;
        };
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.life != life {
            return 0;
        }
        let mut taken = 0usize;
        let mut room: Functions = 0;
        for place in batch.iter_mut() {
            let Some(words) = state.cq.pop(&hw.data().cq, admin::phase) else {
                break;
            };
            let answer = admin::Completion::decode(words);
            let request = if state.sq.consumed(answer.sq_head) {
                state.slots.remove(answer.id)
            } else {
                None
            };
            let Some(request) = request else {
                state.strange = Some(answer);
                if life == Life::Up {
                    state.life = Life::Suspect;
                }
                taken = 0;
                break;
            };
            room |= state.give(request.function(), request.class());
            request.complete(&answer, &self.stats);
            *place = Some(request);
            taken += 1;
        }
        if life == Life::Up && batch.iter().any(Option::is_some) {
            state.failures = 0;
            state.silent = 0;
            hw.bar().write_reg(regs::CQ_HEAD::from_raw(state.cq.head()));
        }
        self.pump(&hw, state);
        drop(guard);
        for channel in &self.channels {
            if bit(channel.number) & room != 0 {
                channel.room.signal();
            }
        }
        taken
    }
}
