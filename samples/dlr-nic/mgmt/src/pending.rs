// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A register bit that starts something and reads as one until that is done: CONTROL.RESET and
//! FN_ABORT. Both can be made to fail on demand.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Deserialize;

/// What a write of such a bit suffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegisterFault {
    /// Carried out after so many milliseconds; the bit reads as one meanwhile.
    Delay(u64),
    /// Not carried out, and the bit reads as one for good: until a function-level reset, or until
    /// the fault is mended, when it is carried out.
    Stuck,
    /// Not carried out; the bit reads as zero at once.
    Ignore,
}

/// What has to be done about the bit now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It reads as zero.
    Nothing,
    /// The caller carries out what it stands for, then calls [`Pending::carried_out`].
    CarryOut,
    /// It reads as one; nothing can be done about that.
    Wait,
    /// Carried out: it reads as one until the commands that were dropped have ended.
    Settle,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Idle,
    /// To be carried out then, or never.
    Held(Option<Instant>),
    CarriedOut,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<State>);

impl Pending {
    /// The bit was written. A bit that is one already stays as it is.
    pub(crate) fn begin(&self, fault: Option<RegisterFault>) {
        let mut state = self.0.lock();
        if !matches!(*state, State::Idle) {
            return;
        }
        let now = Instant::now();
        *state = match fault {
            None => State::Held(Some(now)),
            Some(RegisterFault::Delay(ms)) => {
                State::Held(now.checked_add(Duration::from_millis(ms)))
            }
            Some(RegisterFault::Stuck) => State::Held(None),
            Some(RegisterFault::Ignore) => State::Idle,
        };
    }

    /// What to do now.
    pub(crate) fn next(&self) -> Next {
        match *self.0.lock() {
            State::Idle => Next::Nothing,
            State::Held(Some(when)) if Instant::now() >= when => Next::CarryOut,
            State::Held(_) => Next::Wait,
            State::CarriedOut => Next::Settle,
        }
    }

    /// It has been carried out, but for commands that are still in execution.
    pub(crate) fn carried_out(&self) {
        *self.0.lock() = State::CarriedOut;
    }

    /// The bit reads as zero from now on.
    pub(crate) fn end(&self) {
        *self.0.lock() = State::Idle;
    }

    /// Whatever holds it up ends now.
    pub(crate) fn release(&self) {
        let mut state = self.0.lock();
        if let State::Held(when) = &mut *state {
            *when = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_is_carried_out_and_settles() {
        let bit = Pending::default();
        assert_eq!(bit.next(), Next::Nothing);
        bit.begin(None);
        assert_eq!(bit.next(), Next::CarryOut);
        bit.carried_out();
        bit.begin(None);
        assert_eq!(bit.next(), Next::Settle, "a second write changes nothing");
        bit.end();
        assert_eq!(bit.next(), Next::Nothing);
    }

    #[test]
    fn faults_hold_it_up_or_lose_it() {
        let bit = Pending::default();
        bit.begin(Some(RegisterFault::Ignore));
        assert_eq!(bit.next(), Next::Nothing);
        bit.begin(Some(RegisterFault::Delay(30)));
        assert_eq!(bit.next(), Next::Wait);
        std::thread::sleep(Duration::from_millis(31));
        assert_eq!(bit.next(), Next::CarryOut);
        bit.end();
        for forever in [RegisterFault::Stuck, RegisterFault::Delay(u64::MAX)] {
            bit.begin(Some(forever));
            assert_eq!(bit.next(), Next::Wait);
            bit.release();
            assert_eq!(bit.next(), Next::CarryOut);
            bit.end();
        }
    }
}
