// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Whether a function answers: not while it recovers from a reset, not when it is gone.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Here,
    /// In a reset until then.
    Until(Instant),
    /// A VF after its PF has cleared VF Enable.
    Gone,
}

/// See the module. What is absent reads as ones and takes no writes.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    /// How long a function-level reset takes.
    reset_time: Duration,
}

impl Presence {
    /// Nothing answers.
    pub(crate) fn is_absent(&self) -> bool {
        let mut inner = self.lock();
        match inner.state {
            State::Here => false,
            State::Gone => true,
            State::Until(when) if Instant::now() < when => true,
            State::Until(_) => {
                inner.state = State::Here;
                false
            }
        }
    }

    /// The function is no more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.lock().state, State::Gone)
    }

    /// From now on each function-level reset takes so long.
    pub(crate) fn set_reset_time(&self, time: Duration) {
        self.lock().reset_time = time;
    }

    /// A function-level reset begins. What is gone stays gone.
    pub(crate) fn reset(&self) {
        let mut inner = self.lock();
        let time = inner.reset_time;
        if !matches!(inner.state, State::Gone) && !time.is_zero() {
            // A time beyond the end of the clock is for ever.
            inner.state = (Instant::now().checked_add(time)).map_or(State::Gone, State::Until);
        }
    }

    /// The function is no more, until [`Presence::come_back`].
    pub(crate) fn go(&self) {
        self.lock().state = State::Gone;
    }

    /// The function answers, also when it was gone or in a reset.
    pub(crate) fn come_back(&self) {
        self.lock().state = State::Here;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}
