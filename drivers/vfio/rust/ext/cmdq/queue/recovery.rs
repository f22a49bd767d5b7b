// SPDX-License-Identifier: GPL-2.0

//! Recovery of the queue from a device that does not answer as it should.
//!
//! An overdue command leads to an abort of its function's commands ([`abort`]), which affects no
//! other function. If the abort is overdue too, or the state of the queue is unknown, the whole
//! queue is reset. [`life`] decides about the steps, [`fate`] about the commands.
//!
//! [`abort`]: super::abort
//! [`life`]: crate::ext::cmdq::life
//! [`fate`]: crate::ext::cmdq::fate

use super::{
    super::{
        device::{
            with_margin,
            Access,
            Device,
            Hardware, //
        },
        life::{
            self,
            Attempt,
            Millis,
            Seen,
            Step, //
        },
        request::{
            Memory,
            Request, //
        },
        ring::{
            Consumer,
            Producer,
            Words, //
        },
    },
    desk::Desk,
    end::end_all,
    Life,
    Queue,
    POLL, //
};
use crate::ext::{
    budget::Budget,
    gfp::DEVICE,
    trust::Pass, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::delay::fsleep, //
};

impl<D: Device> Queue<D> {
    /// Advances the recovery from overdue commands by one step. A thread that waits for a command
    /// calls this after the command's deadline, repeatedly, with a short sleep in between. Does not
    /// wait for the device, but may take locks that sleep.
    pub(in super::super) fn step(&self) {
        self.look();
        if let (Some(mut desk), Some(hw)) = (self.desk.try_lock(), self.hw.enter()) {
            let now = self.now();
            let life = self.state.lock().life;
            match life {
                Life::Up => self.step_aborts(&mut desk, &hw, now),
                Life::Suspect => self.begin(&mut desk, &hw, Attempt::Handshake),
                Life::Off { not_before } if now >= not_before => {
                    let failures = self.state.lock().failures;
                    self.begin(&mut desk, &hw, life::attempt(failures));
                }
                Life::Off { .. } | Life::Held | Life::Down => {}
                life => self.step_life(&mut desk, &hw, life, now),
            }
        }
    }

    /// Advances a recovery of the queue to its end, as far as `budget` allows.
    pub(super) fn settle(&self, budget: &Budget) {
        loop {
            self.step();
            if !self.state.lock().life.is_moving() || budget.is_over() {
                return;
            }
            fsleep(POLL);
        }
    }

    /// Recovers the queue after [`Self::halt`], by a reset of the whole function, and sets up again
    /// what the reset has ended ([`Device::set_up`]). Waits for the device, within `budget`.
    ///
    /// # Errors
    ///
    /// `EIO` if the device does not follow, `ETIMEDOUT` if it has not followed yet, `ENOTCONN` if
    /// the function is gone.
    pub(super) fn bring_back(&self, budget: &Budget) -> Result {
        {
            let mut desk = self.desk.lock();
            let hw = self.hw.enter().ok_or(ENOTCONN)?;
            self.begin(&mut desk, &hw, Attempt::Reset);
        }
        self.settle(budget);
        match self.state.lock().life {
            Life::Up => Ok(()),
            Life::Down => Err(ENOTCONN),
            life if life.is_moving() => Err(ETIMEDOUT),
            _ => Err(EIO),
        }
    }

    /// Returns the time at which a step that begins now is overdue.
    pub(super) fn deadline(&self) -> Millis {
        let time = with_margin(self.limits.timeout_ms);
        self.now().saturating_add(time.into())
    }

    /// Returns whether a message may be printed. Before the first one after a pause, prints the
    /// number of suppressed messages.
    pub(super) fn may_say(&self, desk: &mut Desk<D>, hw: &Hardware<D>) -> bool {
        match desk.throttle.allow(self.now()) {
            Some(0) => true,
            Some(kept_back) => {
                dev_warn!(D::Cell::device(hw), "{kept_back} messages suppressed\n");
                true
            }
            None => false,
        }
    }

    /// Drops the requests that [`Desk::judge`] has ended, without the spin lock, and wakes the
    /// threads that wait for room.
    pub(super) fn after_judgement(&self, desk: &mut Desk<D>, again: usize) {
        self.stats.again.add(i64::try_from(again).unwrap_or(0));
        desk.dropped.clear();
        for channel in &self.channels {
            channel.room.signal();
        }
    }

    /// Begins a recovery. Tells the clients if it ends what the device does for them.
    pub(super) fn begin(&self, desk: &mut Desk<D>, hw: &Hardware<D>, attempt: Attempt) {
        let until = self.deadline();
        let strange;
        let ends;
        {
            let mut state = self.state.lock();
            if state.life == Life::Down {
                return;
            }
            ends = life::ends_uses(attempt, state.life);
            strange = state.strange.take();
            state.life = match attempt {
                Attempt::Handshake => Life::Quieting { until },
                Attempt::Reset => Life::Resetting { until },
            };
            if attempt == Attempt::Reset {
                self.forget();
            }
            for request in state.slots.iter() {
                if request.note_if_late() {
                    self.stats.timeouts.count();
                }
            }
        }
        if let Some(answer) = strange {
            self.stats.garbage.count();
            if self.may_say(desk, hw) {
                dev_err!(D::Cell::device(hw), "invalid completion: {answer:?}\n");
            }
        }
        let reset = attempt == Attempt::Reset;
        // The desk is held, so no thread advances the recovery meanwhile, and the device begins no
        // log or session that the reset does not end.
        if ends {
            self.tell_ended();
        } else if reset {
            // A session that began just before the outage may have got its reader since.
            self.channels
                .iter()
                .for_each(|channel| channel.end_reader());
        }
        if self.may_say(desk, hw) {
            let what = if reset { "function" } else { "command queue" };
            dev_warn!(D::Cell::device(hw), "resetting the {what}\n");
        }
        if reset {
            self.stats.function_resets.count();
            D::begin_reset(hw);
        } else {
            self.stats.resets.count();
            D::begin_handshake(hw);
        }
    }

    /// Advances the recovery of the queue by one step.
    fn step_life(&self, desk: &mut Desk<D>, hw: &Hardware<D>, life: Life, now: Millis) {
        let status = D::status(hw);
        let seen = Seen {
            ready: status.ready,
            fatal: status.fatal,
            gone: status.gone,
            resetting: D::is_resetting(hw),
        };
        match life::next(life, seen, now) {
            Step::Wait => {}
            Step::Enable { reset } => self.enable(hw, life, reset),
            Step::Run { reset } => self.run(desk, hw, reset),
            Step::Fail => self.fail(desk, hw),
        }
    }

    /// Enables the queue again, after the device has let go of rings and buffers.
    fn enable(&self, hw: &Hardware<D>, life: Life, reset: bool) {
        // The completions that the device posted before are valid.
        self.collect(life);
        let ring = D::completions(hw);
        for i in 0..ring.len() {
            ring.set(i, 0);
        }
        {
            let mut state = self.state.lock();
            if state.life != life {
                return;
            }
            state.sq = Producer::new(self.limits.order);
            state.cq = Consumer::new(self.limits.order);
            state.aborting = 0;
            // A bad completion from before the reset does not matter any more.
            state.strange = None;
            let until = self.deadline();
            state.life = Life::Enabling { until, reset };
        }
        Self::give_rings(hw);
    }

    /// Ends a recovery: the queue works again.
    fn run(&self, desk: &mut Desk<D>, hw: &Hardware<D>, reset: bool) {
        let mut first = KVec::new();
        if reset && self.set_up(&mut first).is_err() {
            // Without these commands, the driver would use memory that the device no longer
            // updates.
            self.fail(desk, hw);
            return;
        }
        let mut again = 0;
        {
            let mut state = self.state.lock();
            if matches!(state.life, Life::Enabling { .. }) {
                state.life = Life::Up;
                state.silent = 0;
                if reset {
                    // Completions from before the reset were taken since it began.
                    self.forget();
                }
                again = desk.judge(&mut state, |_| true, reset);
                for request in &first {
                    // The line has room for one request of each function.
                    let _ = state.line.again(0, request.clone());
                }
                self.pump(hw, &mut state);
            }
        }
        self.after_judgement(desk, again);
    }

    /// Notes that a reset has ended what the device did for the functions. The caller holds
    /// `Queue::state`.
    fn forget(&self) {
        self.channels.iter().for_each(|channel| D::forget(channel));
    }

    /// Creates the commands that set up again what the reset has ended. No thread waits for them.
    fn set_up(&self, requests: &mut KVec<Arc<Request<D>>>) -> Result {
        for channel in &self.channels {
            if let Some(command) = D::set_up(channel) {
                // Not charged to the caller's memory cgroup: it acts for all functions, and may be
                // an interrupt thread.
                let memory = Memory::new(DEVICE)?;
                let channel = Some(channel.clone());
                let request = Request::new(memory, command, None, channel, Pass::Check)?;
                requests.push(request, DEVICE)?;
            }
        }
        Ok(())
    }

    /// Ends a recovery that the device has not followed. Commands in flight end, but the device
    /// keeps their buffers until a later recovery succeeds.
    fn fail(&self, desk: &mut Desk<D>, hw: &Hardware<D>) {
        let pause;
        {
            let mut state = self.state.lock();
            if !state.life.is_moving() {
                return;
            }
            state.failures = state.failures.saturating_add(1);
            if matches!(
                state.life,
                Life::Resetting { .. } | Life::Enabling { reset: true, .. }
            ) {
                // What the reset has ended must be set up again, which a handshake would not do.
                state.failures = state.failures.max(life::RESET_AFTER);
            }
            pause = life::pause_ms(state.failures);
            state.life = Life::Off {
                not_before: self.now().saturating_add(pause),
            };
            for request in state.slots.iter().filter(|r| r.dropped().late) {
                request.finish(Err(ETIMEDOUT));
            }
            end_all(&mut state, EIO);
            // Waiters remove their own commands from the line.
            desk.end_again(&mut state, EIO);
        }
        self.after_judgement(desk, 0);
        if self.may_say(desk, hw) {
            dev_err!(
                D::Cell::device(hw),
                "the command queue did not recover; next attempt in {pause} ms at the earliest\n"
            );
        }
    }

    /// Tells the clients that what the device did for them has ended.
    pub(super) fn tell_ended(&self) {
        self.channels.iter().for_each(|channel| channel.ended());
    }
}
