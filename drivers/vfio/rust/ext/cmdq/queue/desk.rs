// SPDX-License-Identifier: GPL-2.0

//! State of a recovery, which one thread at a time advances under `Queue::desk`.

use super::{
    super::{
        device::{
            Command,
            Device, //
        },
        fate::{
            Dropped,
            Judge, //
        },
        life::{
            Life,
            Millis, //
        },
        request::Request, //
    },
    state::State, //
};
use crate::ext::throttle::Throttle;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// State that the steps of a recovery need.
pub(super) struct Desk<D: Device> {
    judge: Judge,
    /// Commands that were dropped, and their description at that time, because a waiter may leave
    /// while the driver decides about them. Empty between two steps.
    pub(super) dropped: KVec<(Arc<Request<D>>, Dropped)>,
    /// Time at which the abort of a function is overdue.
    pub(super) abort_until: KVec<Millis>,
    pub(super) throttle: Throttle,
}

impl<D: Device> Desk<D> {
    /// Allocates the state for `slots` slots and `functions` functions.
    pub(super) fn new(slots: usize, functions: usize) -> Result<Self> {
        Ok(Self {
            judge: Judge::new(functions, D::Command::KINDS)?,
            // Room for the commands of all slots, or for all that the line submits again.
            dropped: KVec::with_capacity(slots.saturating_add(functions), GFP_KERNEL)?,
            abort_until: KVec::from_elem(0, functions, GFP_KERNEL)?,
            throttle: Throttle::new(),
        })
    }

    /// Takes the commands that `of` chooses from their slots. Returns the number of those that go
    /// to the line, to be submitted again; the others end. `lost` means that the device has lost
    /// what it did for its functions, so that no command is submitted again.
    pub(super) fn judge(
        &mut self,
        state: &mut State<D>,
        of: impl Fn(&Request<D>) -> bool,
        lost: bool,
    ) -> usize {
        let Self { judge, dropped, .. } = self;
        let State {
            slots,
            shares,
            line,
            ..
        } = state;
        judge.open();
        slots.remove_if(
            |request| of(request),
            |request| {
                shares.give(request.function(), request.class());
                let mut what = request.dropped();
                what.waited_for &= !lost;
                judge.hear(&what);
                // There is room for as many as there are slots.
                if let Err(error) = dropped.push_within_capacity((request, what)) {
                    error.0 .0.finish(Err(EIO));
                }
            },
        );
        let mut again = 0usize;
        for (request, what) in dropped.iter() {
            let error = match judge.fate(what).error() {
                None if line.again(request.order(), request.clone()).is_ok() => {
                    request.count_again();
                    again = again.saturating_add(1);
                    continue;
                }
                None => EIO,
                Some(error) => error,
            };
            request.give_back();
            request.finish(Err(error));
        }
        again
    }

    /// Begins an outage in `state`: commands in flight, and those that were to be submitted again,
    /// end with `EIO`. Those in flight keep their slots, because the device may access their
    /// buffers. Those that joined the line wait on.
    pub(super) fn halt(&mut self, state: &mut State<D>) {
        state.life = Life::Held;
        for request in state.slots.iter() {
            request.finish(Err(EIO));
        }
        self.end_again(state, EIO);
    }

    /// Ends the commands that were to be submitted again with `error`, unless they have ended. They
    /// may have no waiter that would remove them from the line.
    pub(super) fn end_again(&mut self, state: &mut State<D>, error: Error) {
        while let Some(request) = state.line.take_again() {
            request.give_back();
            request.finish(Err(error));
            let what = request.dropped();
            // There is room for as many as the line has room for.
            let _ = self.dropped.push_within_capacity((request, what));
        }
    }
}

#[kunit_tests(ext_cmdq_desk)]
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

    fn request(number: u16) -> Result<Arc<Request<Fake>>> {
        Order::new(number, Class::State).request(Pass::Check)
    }

    /// Only the callback that ends the outage would submit them again, and it may wait for a device
    /// lock whose holder waits for their waiters.
    #[test]
    fn v7_an_outage_ends_what_is_to_be_submitted_again() -> Result {
        let mut desk = Desk::new(4, 2)?;
        let mut state = State::new(2, 2)?;
        state.life = Life::Up;
        let [in_flight, again, waiting] = [request(0)?, request(1)?, request(1)?];
        assert!(state.slots.insert(in_flight.clone()).is_ok());
        assert!(state.line.again(1, again.clone()).is_ok());
        state.line.join(Place::new(GFP_KERNEL)?, waiting.clone());
        desk.halt(&mut state);
        assert_eq!(state.life, Life::Held);
        for ended in [&in_flight, &again] {
            assert!(ended.is_done());
            assert_eq!(ended.failure(), EIO);
        }
        assert!(!waiting.is_done());
        // The device keeps what it has, and nothing but `waiting` is submitted after the outage.
        assert_eq!((state.slots.used(), desk.dropped.len()), (1, 1));
        assert!(state.line.take_again().is_none());
        assert!(state
            .line
            .take(|_| true)
            .is_some_and(|r| Arc::ptr_eq(&r, &waiting)));
        assert!(state.line.is_empty());
        Ok(())
    }
}
