// SPDX-License-Identifier: GPL-2.0

//! Decides whether commands that the device has dropped, in an abort of their function or in a
//! reset of the queue, are submitted again or end. Without side effects.
//!
//! The vendor numbers the *kinds* of its commands: commands of a kind undo or repeat one another,
//! and the device executes those of one function in the order of submission. Commands of different
//! kinds affect different parts of the device.
//!
//! * A command whose deadline had passed ends with `ETIMEDOUT`.
//! * An idempotent command for which a thread waits is submitted again, at most [`MOST`] times, and
//!   the thread notices nothing. There is one exception: a later command of the same function and
//!   kind was dropped too and is not submitted again. That one may have been executed, and this one
//!   would undo it, as a command that stops a function would undo a later one that starts it.
//!   Commands that are submitted again keep their order, so one does not undo another. A later
//!   command of the kind cannot have completed, because the device executes the kind in order.
//! * All other commands end with `EIO`, and their owner finds out what the device did.

use kernel::prelude::*;

/// Maximum number of times that one command is submitted again.
pub(crate) const MOST: u32 = 2;

/// Description of a command that was dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropped {
    /// Position in the order of submission, from 1.
    pub(crate) order: u64,
    /// Number of the command's function.
    pub(crate) function: u16,
    /// Number of the command's kind.
    pub(crate) kind: usize,
    /// The device may execute the command twice.
    pub(crate) idempotent: bool,
    /// A thread waits for the reply.
    pub(crate) waited_for: bool,
    /// The deadline had passed when the abort or the reset began.
    pub(crate) late: bool,
    /// Number of times that the command was submitted again before.
    pub(crate) again: u32,
}

/// Outcome for a dropped command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// The command is submitted again.
    Again,
    /// The command ends with `EIO`.
    Failed,
    /// The command ends with `ETIMEDOUT`.
    TimedOut,
}

impl Fate {
    /// Returns the error that ends the command, if it ends.
    pub(crate) fn error(self) -> Option<Error> {
        match self {
            Self::Again => None,
            Self::Failed => Some(EIO),
            Self::TimedOut => Some(ETIMEDOUT),
        }
    }
}

impl Dropped {
    /// Returns whether the command may be submitted again, leaving other commands aside.
    fn may_be_given_again(&self) -> bool {
        self.idempotent && self.waited_for && !self.late && self.again < MOST
    }
}

/// Decides about commands that were dropped at one time. The caller passes all of them to
/// [`Self::hear`], in any order, and then asks for the [`Self::fate`] of each.
pub(crate) struct Judge {
    kinds: usize,
    /// By function and kind, the order of the newest command that may not be submitted again, or 0.
    passed: KVec<u64>,
}

impl Judge {
    /// Creates a judge for functions below `functions` and kinds below `kinds`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the product overflows, `ENOMEM` if the allocation fails.
    pub(crate) fn new(functions: usize, kinds: usize) -> Result<Self> {
        let count = functions.checked_mul(kinds).ok_or(EINVAL)?;
        Ok(Self {
            kinds,
            passed: KVec::from_elem(0, count, GFP_KERNEL)?,
        })
    }

    /// Forgets all commands, before the first of a new case.
    pub(crate) fn open(&mut self) {
        self.passed.iter_mut().for_each(|newest| *newest = 0);
    }

    /// Returns the place of a command in `passed`, if its function and its kind exist.
    fn place(&self, dropped: &Dropped) -> Option<usize> {
        let first = usize::from(dropped.function).checked_mul(self.kinds)?;
        (dropped.kind < self.kinds).then(|| first.checked_add(dropped.kind))?
    }

    /// Notes a command.
    pub(crate) fn hear(&mut self, dropped: &Dropped) {
        let place = self.place(dropped);
        if let Some(newest) = place.and_then(|at| self.passed.get_mut(at)) {
            if !dropped.may_be_given_again() {
                *newest = dropped.order.max(*newest);
            }
        }
    }

    /// Decides about a command, after all have been noted.
    pub(crate) fn fate(&self, dropped: &Dropped) -> Fate {
        let newest = self.place(dropped).and_then(|at| self.passed.get(at));
        // A command that may be submitted again, but is barred by a newer one, need not bar others:
        // the newer one bars everything before both.
        let passed = newest.is_none_or(|newest| dropped.order <= *newest);
        if dropped.late {
            Fate::TimedOut
        } else if dropped.may_be_given_again() && !passed {
            Fate::Again
        } else {
            Fate::Failed
        }
    }
}

#[kunit_tests(ext_cmdq_fate)]
mod tests {
    use super::*;
    use Fate::{
        Again,
        Failed,
        TimedOut, //
    };

    /// Kinds of commands.
    const LEVEL: usize = 0;
    const SAVE: usize = 1;
    const LOG: usize = 2;

    fn dropped(function: u16, kind: usize) -> Dropped {
        Dropped {
            order: 0,
            function,
            kind,
            idempotent: true,
            waited_for: true,
            late: false,
            again: 0,
        }
    }

    /// Returns a command that the device must not execute twice.
    fn once(function: u16, kind: usize) -> Dropped {
        Dropped {
            idempotent: false,
            ..dropped(function, kind)
        }
    }

    /// Returns a command for which no thread waits.
    fn left(command: Dropped) -> Dropped {
        Dropped {
            waited_for: false,
            ..command
        }
    }

    /// Returns the fates of commands, given in the order of submission.
    fn judge<const N: usize>(mut commands: [Dropped; N]) -> Result<[Fate; N]> {
        let mut judge = Judge::new(4, 3)?;
        judge.open();
        for (at, command) in commands.iter_mut().enumerate() {
            command.order = at as u64 + 1;
        }
        for command in commands.iter().rev() {
            judge.hear(command);
        }
        Ok(commands.map(|command| judge.fate(&command)))
    }

    #[test]
    fn one_functions_trouble_is_not_anothers() -> Result {
        // A suspend of function 0 is overdue while a SYNC of function 1 is in flight.
        let late = Dropped {
            late: true,
            ..dropped(0, LEVEL)
        };
        assert_eq!(judge([late, dropped(1, LOG)])?, [TimedOut, Again]);
        // The log of the same function continues, too.
        assert_eq!(judge([late, dropped(0, LOG)])?, [TimedOut, Again]);
        Ok(())
    }

    #[test]
    fn only_what_can_be_executed_twice() -> Result {
        for kind in [LEVEL, SAVE, LOG] {
            for function in 0..4 {
                assert_eq!(judge([once(function, kind)])?, [Failed]);
                assert_eq!(judge([dropped(function, kind)])?, [Again]);
            }
            // Commands that are submitted again keep their order.
            assert_eq!(judge([dropped(0, kind); 5])?, [Again; 5]);
        }
        Ok(())
    }

    #[test]
    fn not_when_no_thread_waits_and_not_for_ever() -> Result {
        assert_eq!(judge([left(dropped(0, LOG))])?, [Failed]);
        for (again, want) in [(0, Again), (1, Again), (2, Failed), (u32::MAX, Failed)] {
            let command = Dropped {
                again,
                ..dropped(0, LOG)
            };
            assert_eq!(judge([command])?, [want]);
        }
        Ok(())
    }

    #[test]
    fn nothing_undoes_what_came_later() -> Result {
        let suspend = dropped(0, LEVEL);
        // The resume may have been executed: a suspend now would stop the function for good.
        assert_eq!(judge([suspend, left(dropped(0, LEVEL))])?, [Failed; 2]);
        // Both are submitted again in their order, so the resume is executed last.
        assert_eq!(judge([suspend, dropped(0, LEVEL)])?, [Again; 2]);
        // Commands of another function or kind do not matter.
        assert_eq!(judge([suspend, left(dropped(1, LEVEL))])?, [Again, Failed]);
        assert_eq!(judge([suspend, once(0, SAVE)])?, [Again, Failed]);
        // A second stop would end the new log, a second end the new session.
        for kind in [LOG, SAVE] {
            assert_eq!(judge([dropped(0, kind), once(0, kind)])?, [Failed; 2]);
            // An earlier command does not matter.
            assert_eq!(judge([once(0, kind), dropped(0, kind)])?, [Failed, Again]);
        }
        Ok(())
    }

    #[test]
    fn cases_do_not_hang_together() -> Result {
        let mut judge = Judge::new(1, 3)?;
        judge.open();
        let late = Dropped {
            order: 2,
            late: true,
            ..dropped(0, LEVEL)
        };
        let before = |function| Dropped {
            order: 1,
            ..dropped(function, LEVEL)
        };
        judge.hear(&late);
        judge.hear(&before(0));
        assert_eq!(judge.fate(&late), TimedOut);
        assert_eq!(judge.fate(&before(0)), Failed);
        judge.open();
        judge.hear(&before(0));
        assert_eq!(judge.fate(&before(0)), Again);
        // No such function exists.
        assert_eq!(judge.fate(&before(9)), Failed);
        Ok(())
    }
}
