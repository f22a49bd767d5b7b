// SPDX-License-Identifier: GPL-2.0

//! State of the queue under its spin lock.

use super::super::{
    device::{
        Command,
        Device,
        MAX_FUNCTIONS,
        MAX_ORDER, //
    },
    life::{
        Life,
        Millis, //
    },
    line::Line,
    request::Request,
    ring::{
        Consumer,
        Producer, //
    },
    shares::Shares,
    slots::Slots, //
};
use crate::ext::trust::Trust;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A set of functions: one bit for each.
pub(super) type Functions = u64;

static_assert!(Functions::BITS == MAX_FUNCTIONS);

/// Returns the bit of a function, or 0 for a number that no function can have.
pub(super) fn bit(function: u16) -> Functions {
    1u64.checked_shl(function.into()).unwrap_or(0)
}

/// State of the queue, which `Queue::state` protects.
pub(super) struct State<D: Device> {
    pub(super) life: Life,
    pub(super) trust: Trust,
    pub(super) sq: Producer,
    pub(super) cq: Consumer,
    pub(super) slots: Slots<Arc<Request<D>>>,
    pub(super) shares: Shares,
    pub(super) line: Line<Arc<Request<D>>>,
    /// Functions whose commands are being aborted. The driver submits none of their commands.
    pub(super) aborting: Functions,
    /// Number of commands submitted so far.
    pub(super) submitted: u64,
    /// Number of failed recoveries and abandoned aborts since the last completion.
    pub(super) failures: u32,
    /// Number of aborts since the last completion.
    pub(super) silent: u32,
    /// The invalid completion, until it is logged.
    pub(super) strange: Option<D::Answer>,
}

impl<D: Device> State<D> {
    /// Creates the state of a queue of `1 << order` slots that is not enabled yet.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are more than [`MAX_FUNCTIONS`], or if `order` is above [`MAX_ORDER`];
    /// those of [`Shares::new`].
    pub(super) fn new(order: u32, functions: usize) -> Result<Self> {
        let slots = 1usize.checked_shl(order).ok_or(EINVAL)?;
        if functions > MAX_FUNCTIONS as usize || order > MAX_ORDER {
            return Err(EINVAL);
        }
        Ok(Self {
            life: Life::Held,
            trust: Trust::new(),
            sq: Producer::new(order),
            cq: Consumer::new(order),
            slots: Slots::new(order)?,
            shares: Shares::new(order, functions, D::Command::CLASSES)?,
            line: Line::new(slots.saturating_add(functions))?,
            aborting: 0,
            submitted: 0,
            failures: 0,
            silent: 0,
            strange: None,
        })
    }

    /// Returns whether a command of a session could be submitted now without overtaking others that
    /// wait.
    ///
    /// # Errors
    ///
    /// `EIO` while the queue is off or in an outage, `ENOTCONN` if the management function is gone.
    pub(super) fn room(
        &self,
        function: u16,
        class: <D::Command as Command>::Class,
        now: Millis,
    ) -> Result<bool> {
        match self.life {
            Life::Up => {}
            Life::Down => return Err(ENOTCONN),
            Life::Off { not_before } if now < not_before => return Err(EIO),
            // An outage ends all sessions, so that there is nothing to wait for. The callback that
            // ends the outage may even wait for a device lock whose holder waits for this thread.
            Life::Held => return Err(EIO),
            _ => return Ok(false),
        }
        let scarce = self.shares.is_scarce(class);
        let before =
            |r: &Arc<Request<D>>| r.class() == class && (scarce || r.function() == function);
        Ok(!self.slots.is_full()
            && self.sq.has_room()
            && self.shares.fits(function, class)
            && self.closed() & bit(function) == 0
            && !self.line.any(before))
    }

    /// Counts the slot that a command returns. Returns the functions that may find room now.
    pub(super) fn give(
        &mut self,
        function: u16,
        class: <D::Command as Command>::Class,
    ) -> Functions {
        self.shares.give(function, class);
        if self.shares.is_scarce(class) {
            Functions::MAX
        } else {
            bit(function)
        }
    }

    /// Returns the functions that have an overdue command in flight.
    pub(super) fn overdue(&self) -> Functions {
        let late = self.slots.iter().filter(|r| r.is_overdue());
        late.fold(0, |all, r| all | bit(r.function()))
    }

    /// Returns the functions whose commands must wait. A command behind an overdue one would wait
    /// longer, and would be aborted with it.
    pub(super) fn closed(&self) -> Functions {
        self.aborting | self.overdue()
    }

    /// Takes the next command from the line that may be submitted. Commands that have waited for
    /// the end of an outage end with `EAGAIN`, because the device was not checked since.
    pub(super) fn next(&mut self, closed: Functions) -> Option<Arc<Request<D>>> {
        if self.slots.is_full() || !self.sq.has_room() {
            return None;
        }
        let (shares, trust) = (&self.shares, &self.trust);
        self.line.each(|request| {
            if !trust.allows(request.pass()) {
                request.finish(Err(EAGAIN));
            }
        });
        self.line.take(|request| {
            !request.is_done()
                && closed & bit(request.function()) == 0
                && shares.fits(request.function(), request.class())
        })
    }
}

#[kunit_tests(ext_cmdq_state)]
mod tests {
    use super::{
        super::super::{
            fake::{
                Class,
                Fake,
                Order, //
            },
            line::Place, //
        },
        *, //
    };
    use crate::ext::trust::Pass;

    fn up(order: u32, functions: usize) -> Result<State<Fake>> {
        let mut state = State::new(order, functions)?;
        state.life = Life::Up;
        Ok(state)
    }

    /// The device that comes back may be another one. Only the check reaches it.
    #[test]
    fn l13_what_has_waited_for_the_end_of_an_outage_needs_a_new_check() -> Result {
        let mut state = up(4, 2)?;
        let pass = state.trust.pass().map_err(|_| EIO)?;
        let [resume, stop] = [
            Order::new(0, Class::State).request(pass)?,
            Order::new(1, Class::Log).request(pass)?,
        ];
        let check = Order::new(0, Class::State).request(Pass::Check)?;
        for waiting in [&resume, &check, &stop] {
            state.line.join(Place::new(GFP_KERNEL)?, waiting.clone());
        }
        state.trust.lose();
        assert!(state.next(0).is_some_and(|r| Arc::ptr_eq(&r, &check)));
        assert!(state.next(0).is_none());
        for old in [&resume, &stop] {
            assert!(old.is_done());
            assert_eq!(old.failure(), EAGAIN);
        }
        // With a check from after the outage they go.
        state.trust.regain(1);
        let pass = state.trust.pass().map_err(|_| EIO)?;
        let again = Order::new(1, Class::Log).request(pass)?;
        state.line.join(Place::new(GFP_KERNEL)?, again.clone());
        assert!(state.next(0).is_some_and(|r| Arc::ptr_eq(&r, &again)));
        Ok(())
    }

    /// Sixteen functions share four slots for state commands, and commits of a loaded state have
    /// taken them. The fifth must wait for one of these: there is room for its writes all the time.
    #[test]
    fn v2_each_command_waits_for_room_of_its_own_class() -> Result {
        let mut state = up(4, 16)?;
        for function in 1..=4 {
            state.shares.take(function, Class::State);
        }
        let commit = Order::new(0, Class::State).request(Pass::Check)?;
        let write = Order::new(0, Class::Bulk).request(Pass::Check)?;
        let room = |state: &State<Fake>, r: &Request<Fake>| state.room(r.function(), r.class(), 0);
        assert_eq!(room(&state, &commit), Ok(false));
        assert_eq!(room(&state, &write), Ok(true));
        // The end of a commit of one function wakes those of all others.
        assert_eq!(state.give(3, commit.class()), Functions::MAX);
        assert_eq!(room(&state, &commit), Ok(true));
        Ok(())
    }

    #[test]
    fn room_that_a_function_has_alone_wakes_that_function() -> Result {
        let mut state = up(10, 16)?;
        for class in [Class::Bulk, Class::State] {
            state.shares.take(5, class);
            assert_eq!(state.give(5, class), bit(5));
        }
        Ok(())
    }

    /// A reset of the channel holds device locks while an outage lasts.
    #[test]
    fn v1_no_session_waits_for_room_in_an_outage() -> Result {
        let mut state = up(4, 1)?;
        let until = 9;
        for (life, now, want) in [
            (Life::Up, 0, Ok(true)),
            (Life::Suspect, 0, Ok(false)),
            (Life::Quieting { until }, 0, Ok(false)),
            (Life::Resetting { until }, 0, Ok(false)),
            (Life::Off { not_before: 9 }, 8, Err(EIO)),
            (Life::Off { not_before: 9 }, 9, Ok(false)),
            (Life::Held, 0, Err(EIO)),
            (Life::Down, 0, Err(ENOTCONN)),
        ] {
            state.life = life;
            assert_eq!(state.room(0, Class::Bulk, now), want);
        }
        Ok(())
    }
}
