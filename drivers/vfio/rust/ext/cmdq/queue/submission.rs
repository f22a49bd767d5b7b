// SPDX-License-Identifier: GPL-2.0

//! Submission of commands: at once, or when there is a slot for them.

use super::{
    super::{
        buffer::Buffer,
        channel::Channel,
        device::{
            with_margin,
            Access,
            Command,
            Device,
            Hardware, //
        },
        line::Place,
        request::{
            Memory,
            Request, //
        },
        ticket::Ticket, //
    },
    Life,
    Queue,
    State, //
};
use crate::ext::{
    completion::Wait,
    patience::Patience,
    trust::Pass, //
};
use kernel::{
    prelude::*,
    sync::{
        barrier::{
            dma_mb,
            Write, //
        },
        Arc, //
    },
    time::{
        msecs_to_jiffies,
        Jiffies, //
    },
};

/// Longest sleep of a thread that waits for a slot while no command has a deadline, in
/// milliseconds.
const IDLE_MS: u32 = 1_000;

/// Longest wait of a command for the end of an outage, in milliseconds.
const OUTAGE_MS: u64 = 10_000;

impl<D: Device> Queue<D> {
    /// Submits a request if there is room for it. Never sleeps.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is no room, `EIO` while the queue is off, in an outage or after one,
    /// `ENOTCONN` if the management function is gone.
    pub(in super::super) fn try_push(
        self: &Arc<Self>,
        request: &Arc<Request<D>>,
    ) -> Result<Ticket<D>> {
        self.try_place(request)?;
        Ok(Ticket {
            queue: self.clone(),
            request: request.clone(),
        })
    }

    /// Submits a request if there is room for it.
    fn try_place(&self, request: &Arc<Request<D>>) -> Result {
        let hw = self.enter()?;
        let mut state = self.state.lock();
        if !state.trust.allows(request.pass()) {
            // An outage has ended the session of the command.
            return Err(EIO);
        }
        if !state.room(request.function(), request.class(), self.now())? {
            return Err(EBUSY);
        }
        self.place(&hw, &mut state, request.clone());
        self.ring_doorbell(&hw, &state);
        Ok(())
    }

    /// Sleeps until [`Self::try_push`] of a command of this function and class is worth another
    /// try.
    ///
    /// # Errors
    ///
    /// `EINTR` if a signal ends `patience`, `ETIMEDOUT` if its time is over, `EIO` while the queue
    /// is off or in an outage, `ENOTCONN` if the management function is gone.
    pub(crate) fn wait_for_room(
        &self,
        function: u16,
        class: <D::Command as Command>::Class,
        patience: Patience<'_>,
    ) -> Result {
        let channel = self.channels.get(usize::from(function)).ok_or(ENODEV)?;
        loop {
            if self.state.lock().room(function, class, self.now())? {
                return Ok(());
            }
            let time = self.nap().min(patience.limit());
            match channel.room.wait_by(|room| patience.wait(room, time)) {
                Wait::Killed => return Err(EINTR),
                Wait::TimedOut if patience.is_over() => return Err(ETIMEDOUT),
                Wait::TimedOut => self.step(),
                Wait::Done => (),
            }
        }
    }

    /// Submits a command. Sleeps while there is no slot for it; waiting threads are served in the
    /// order of their arrival.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if an outage came after the check from which `pass` is, `EINVAL` if the buffer is
    /// too short, `EBUSY` if another command owns it, `ENOMEM`, `EINTR` or `ETIMEDOUT` if
    /// `patience` ends, `EIO` while the queue is off or if an outage lasts too long, `ENOTCONN` if
    /// the management function is gone.
    pub(crate) fn submit(
        self: &Arc<Self>,
        command: D::Command,
        buffer: Option<(Arc<Buffer>, u32)>,
        channel: Option<Arc<Channel<D::Function>>>,
        pass: Pass,
        patience: Patience<'_>,
    ) -> Result<Ticket<D>> {
        if patience.is_over() {
            return Err(ETIMEDOUT);
        }
        let place = patience.allocate(Place::new)?;
        let memory = patience.allocate(Memory::new)?;
        let request = Request::new(memory, command, buffer, channel, pass)?;
        self.line_up(place, &request, patience)
            .inspect_err(|_| request.give_back())?;
        Ok(Ticket {
            queue: self.clone(),
            request,
        })
    }

    /// Waits in the line until the command has a slot, or has ended without one.
    fn line_up(
        &self,
        place: Place<Arc<Request<D>>>,
        request: &Arc<Request<D>>,
        patience: Patience<'_>,
    ) -> Result {
        // Commands that have ended, but are still in their slots, would lengthen the deadline of
        // this one, see `place`. A prepared command, and one that waits in the line, may still get
        // the longer one.
        self.look();
        let turn = self.join(place, request)?;
        let mut outage_began = None;
        let error = loop {
            let time = self.nap().min(patience.limit());
            match patience.wait(&request.admitted, time) {
                Wait::Done => break EIO,
                Wait::Killed => {
                    self.stats.killed.count();
                    break EINTR;
                }
                Wait::TimedOut if patience.is_over() => break ETIMEDOUT,
                // The callback that ends the outage may itself wait for a device lock whose holder
                // waits for this command: the removal of a data function waits for its user.
                Wait::TimedOut if self.outage_is_long(&mut outage_began) => break EIO,
                Wait::TimedOut => self.step(),
            }
        };
        // Drop `waiting` after the lock, see `Request`.
        let waiting = self.state.lock().line.leave(turn);
        match (waiting, request.is_done()) {
            // The command has got a slot, perhaps just now.
            (None, _) => Ok(()),
            (Some(_), true) => Err(request.failure()),
            (Some(_), false) => Err(error),
        }
    }

    /// Returns whether an outage has lasted for [`OUTAGE_MS`] since `began`, which this sets when
    /// it first sees the outage.
    fn outage_is_long(&self, began: &mut Option<u64>) -> bool {
        if !self.is_halted() {
            *began = None;
            return false;
        }
        let now = self.now();
        now.saturating_sub(*began.get_or_insert(now)) >= OUTAGE_MS
    }

    /// Adds a request to the line and submits what has room. Returns its turn in the line.
    fn join(&self, place: Place<Arc<Request<D>>>, request: &Arc<Request<D>>) -> Result<u64> {
        let mut state = self.state.lock();
        match state.life {
            Life::Down => return Err(ENOTCONN),
            Life::Off { not_before } if self.now() < not_before => return Err(EIO),
            _ => {}
        }
        let turn = state.line.join(place, request.clone());
        // In an outage `enter` fails, and the command waits for the end of the outage.
        if let Some(hw) = self.hw.enter() {
            self.pump(&hw, &mut state);
        }
        Ok(turn)
    }

    /// Returns how long a thread that waits for a slot may sleep: until a command is overdue, or
    /// for a jiffy if a recovery needs steps.
    fn nap(&self) -> Jiffies {
        let state = self.state.lock();
        if state.life.is_moving() || state.aborting != 0 || matches!(state.life, Life::Off { .. }) {
            return 1;
        }
        let left = state.slots.iter().map(|r| r.remaining_ms()).min();
        msecs_to_jiffies(left.unwrap_or(IDLE_MS).min(IDLE_MS))
    }

    /// Submits as many waiting commands as possible.
    pub(super) fn pump(&self, hw: &Hardware<D>, state: &mut State<D>) {
        if state.life != Life::Up {
            return;
        }
        if !state.sq.has_room() && state.slots.used() == 0 {
            // Aborts have dropped so many commands in a row that the driver does not know how far
            // the device has read the ring, and no completion will tell.
            state.life = Life::Suspect;
            return;
        }
        if state.line.is_empty() {
            return;
        }
        let closed = state.closed();
        let before = state.submitted;
        while let Some(request) = state.next(closed) {
            self.place(hw, state, request);
        }
        if state.submitted != before {
            self.ring_doorbell(hw, state);
        }
    }

    /// Puts a command into a slot and into the ring, and sets its deadline. The caller has checked
    /// that there is room.
    fn place(&self, hw: &Hardware<D>, state: &mut State<D>, request: Arc<Request<D>>) {
        let (function, row) = (request.function(), request.command.row());
        let ahead = state.slots.iter();
        let ahead = ahead.filter(|r| r.function() == function && r.command.row() == row);
        // The device executes a row one command after the other. The time of each begins when the
        // one before it ends.
        let turns = u32::try_from(ahead.count()).unwrap_or(u32::MAX);
        let time = self.limits.timeout_ms;
        let allowed = with_margin(time.saturating_mul(turns.saturating_add(1)));
        state.submitted = state.submitted.wrapping_add(1);
        request.submitted(state.submitted, allowed);
        state.shares.take(function, request.class());
        match state.slots.insert(request.clone()) {
            Ok(id) => {
                let (ring, buffer) = (D::submissions(hw), request.buffer());
                if D::push(ring, &mut state.sq, &request.command, id, buffer).is_err() {
                    // `push` fails only if the ring is smaller than its order says. The handshake
                    // then fails the command.
                    state.life = Life::Suspect;
                }
            }
            // `insert` fails only without a free slot. The submitter has a reference, so this does
            // not drop the last one.
            Err(_) => {
                state.shares.give(function, request.class());
                request.give_back();
                request.finish(Err(EIO));
            }
        }
        self.stats.commands.count();
    }

    /// Tells the device about new entries.
    fn ring_doorbell(&self, hw: &Hardware<D>, state: &State<D>) {
        // ORDERING: Orders the writes of the entries and of the commands' buffers before the
        // doorbell. Pairs with the device's fetch of the entries.
        dma_mb(Write);
        D::set_tail(hw, state.sq.tail());
    }
}
