// SPDX-License-Identifier: GPL-2.0

//! A command queue: its state and its completions.
//!
//! [`submission`] passes commands to the device. [`recovery`] and [`abort`] deal with commands that
//! the device does not complete. [`outage`] keeps threads from the hardware, [`function`] carries
//! out what the PCI core asks of the management function, and [`end`] ends the queue.

use super::{
    channel::Channel,
    device::{
        with_margin,
        Access,
        Device,
        Hardware,
        Limits, //
    },
    life::{
        Life,
        Millis, //
    },
    request::Request,
    stats::Stats, //
};
use crate::ext::budget::Budget;
use desk::Desk;
use kernel::{
    io::poll::read_poll_timeout,
    new_mutex, new_spinlock_irq,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic, //
        },
        barrier::{
            dma_mb,
            Write, //
        },
        Arc,
        Mutex,
        SpinLockIrq, //
    },
    time::{
        Delta,
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
mod function;
mod outage;
mod recovery;
mod state;
mod submission;
#[cfg(CONFIG_KUNIT = "y")]
mod tests_of_queues;

/// MSI-X vector of completions.
pub(crate) const VECTOR: u32 = 0;
/// Number of completions that are taken in one hold of `Queue::state`.
const BATCH: usize = 16;
/// Interval at which a thread polls the device if it waits for nothing else.
const POLL: Delta = Delta::from_millis(1);

/// The command queue of a management function.
#[pin_data]
pub(crate) struct Queue<D: Device> {
    pub(crate) hw: Arc<D::Cell>,
    pub(crate) device: D,
    pub(crate) stats: Stats,
    /// One channel per function that is served. Their clients are told when what the device does
    /// for them ends, or the queue.
    pub(crate) channels: KVec<Arc<Channel<D::Function>>>,
    limits: Limits,
    start: Instant<Monotonic>,
    /// Set with [`Life::Down`], under `state`. It is read without that lock, because each idle call
    /// of a VMM asks for it several times.
    down: Atomic<bool>,
    /// Held for one step by the thread that advances a recovery; never across a wait for the
    /// device.
    #[pin]
    desk: Mutex<Desk<D>>,
    #[pin]
    state: SpinLockIrq<State<D>>,
}

impl<D: Device> Queue<D> {
    /// Creates a queue that is not enabled yet.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are more functions than
    /// [`MAX_FUNCTIONS`](super::device::MAX_FUNCTIONS), if their channels are not in the order of
    /// their numbers from 0 on, if `limits.order` is above
    /// [`MAX_ORDER`](super::device::MAX_ORDER), or if there are fewer slots than classes. `ENOMEM`
    /// if the allocation fails.
    pub(crate) fn new(
        hw: Arc<D::Cell>,
        device: D,
        channels: KVec<Arc<Channel<D::Function>>>,
        limits: Limits,
    ) -> Result<Arc<Self>> {
        let functions = channels.len();
        // Quotas, aborts and waits for room are found by the number.
        let numbers = channels.iter().map(|channel| usize::from(channel.number));
        if !numbers.eq(0..functions) {
            return Err(EINVAL);
        }
        let slots = 1usize.checked_shl(limits.order).ok_or(EINVAL)?;
        let state = State::new(limits.order, functions)?;
        let desk = Desk::new(slots, functions)?;
        Arc::pin_init(
            pin_init!(Self {
                hw,
                device,
                stats: Stats::new(),
                channels,
                limits,
                start: Instant::now(),
                down: Atomic::new(false),
                desk <- new_mutex!(desk, "cmdq::Queue::desk"),
                state <- new_spinlock_irq!(state, "cmdq::Queue::state"),
            }),
            GFP_KERNEL,
        )
    }

    /// Enables the new queue, and waits until the device uses it.
    ///
    /// # Errors
    ///
    /// `EIO` if the device refuses the rings or is gone, `ETIMEDOUT` if it does not answer in time,
    /// `ENOTCONN` if it was unbound.
    pub(crate) fn start(&self) -> Result {
        let hw = self.hw.enter().ok_or(ENOTCONN)?;
        Self::give_rings(&hw);
        let status = read_poll_timeout(
            || Ok(D::status(&hw)),
            |status| status.gone || status.ready || status.fatal,
            POLL,
            Delta::from_millis(with_margin(self.limits.timeout_ms).into()),
        )?;
        if status.gone || status.fatal {
            return Err(EIO);
        }
        self.state.lock().life = Life::Up;
        Ok(())
    }

    /// Gives the rings to the device, zeroed and with counts of 0.
    fn give_rings(hw: &Hardware<D>) {
        // ORDERING: The first completion must not be overwritten by a late zero.
        dma_mb(Write);
        D::begin_enable(hw, VECTOR);
    }

    /// Returns whether the management function is gone for good.
    pub(crate) fn is_down(&self) -> bool {
        // ORDERING: Pairs with the release in `go_down`.
        self.down.load(Acquire)
    }

    /// Returns the number of commands that the device has not completed.
    pub(crate) fn in_flight(&self) -> usize {
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
            let mut batch: [Option<Arc<Request<D>>>; BATCH] = [const { None }; BATCH];
            let taken = self.take_batch(life, &mut batch);
            // Outside the lock: dropping the last reference to a request frees its buffer.
            drop(batch);
            if taken < BATCH {
                return;
            }
        }
    }

    /// Moves up to [`BATCH`] completed requests to `batch` and returns their number.
    fn take_batch(&self, life: Life, batch: &mut [Option<Arc<Request<D>>>; BATCH]) -> usize {
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
            let Some(completed) = D::pop(D::completions(&hw), &mut state.cq) else {
                break;
            };
            let request = if state.sq.consumed(completed.consumed) {
                state.slots.remove(completed.id)
            } else {
                None
            };
            let Some(request) = request else {
                state.strange = Some(completed.answer);
                if life == Life::Up {
                    state.life = Life::Suspect;
                }
                taken = 0;
                break;
            };
            room |= state.give(request.function(), request.class());
            request.complete(&completed.answer, &self.device, &self.stats);
            *place = Some(request);
            taken += 1;
        }
        if life == Life::Up && batch.iter().any(Option::is_some) {
            state.failures = 0;
            state.silent = 0;
            D::set_head(&hw, state.cq.head());
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
