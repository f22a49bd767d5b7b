// SPDX-License-Identifier: GPL-2.0

//! Decides what becomes of commands that the device has dropped, in an abort of their function or
//! in a reset of the queue. Without side effects. The rules are in section "Time" of
//! `dlr-contract.rst`.
//!
//! * A command whose deadline had passed ends with `ETIMEDOUT`.
//! * An idempotent command for which a thread waits is submitted again, at most [`MOST`] times, and
//!   the thread notices nothing. There is one exception: a later command of the same function and
//!   kind was dropped too and is not submitted again. That one may have been executed, and this one
//!   would undo it, as a SUSPEND would undo a later RESUME. Commands that are submitted again keep
//!   their order, so one does not undo another. A later command of the kind cannot have completed,
//!   because the device executes the row in order.
//! * All other commands end with `EIO`, and their owner finds out what the device did.

use crate::proto::admin::{
    Kind,
    KINDS, //
};
use kernel::prelude::*;

/// Maximum number of times that one command is submitted again.
pub(super) const MOST: u32 = 2;

/// Description of a command that was dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropped {
    /// Position in the order of submission, from 1.
    pub(super) order: u64,
    /// Number of the command's function.
    pub(super) function: u16,
    /// Kind of the command. All commands of a kind are in one row.
    pub(super) kind: Kind,
    /// The device may execute the command twice.
    pub(super) idempotent: bool,
    /// A thread waits for the reply.
    pub(super) waited_for: bool,
    /// The deadline had passed when the abort or the reset began.
    pub(super) late: bool,
    /// Number of times that the command was submitted again before.
    pub(super) again: u32,
}

/// Outcome for a dropped command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// The command is submitted again.
    Again,
    /// The command ends with `EIO`.
    Failed,
    /// The command ends with `ETIMEDOUT`.
    TimedOut,
}

impl Fate {
    /// Returns the error that ends the command, if it ends.
    pub(super) fn error(self) -> Option<Error> {
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
pub(super) struct Judge {
    /// By function and kind, the order of the newest command that may not be submitted again, or 0.
    passed: KVec<[u64; KINDS]>,
}

impl Judge {
    /// Creates a judge for functions below `functions`.
    pub(super) fn new(functions: usize) -> Result<Self> {
        Ok(Self {
            passed: KVec::from_elem([0; KINDS], functions, GFP_KERNEL)?,
        })
    }

    /// Forgets all commands, before the first of a new case.
    pub(super) fn open(&mut self) {
        self.passed.iter_mut().for_each(|kinds| *kinds = [0; KINDS]);
    }

    /// Notes a command.
    pub(super) fn hear(&mut self, dropped: &Dropped) {
        let kinds = self.passed.get_mut(usize::from(dropped.function));
        let newest = kinds.and_then(|kinds| kinds.get_mut(dropped.kind as usize));
        if let Some(newest) = newest {
            if !dropped.may_be_given_again() {
                *newest = dropped.order.max(*newest);
            }
        }
    }

    /// Decides about a command, after all have been noted.
    pub(super) fn fate(&self, dropped: &Dropped) -> Fate {
        let kinds = self.passed.get(usize::from(dropped.function));
        let newest = kinds.and_then(|kinds| kinds.get(dropped.kind as usize));
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

#[kunit_tests(dlr_mgmt_fate)]
mod tests {
    use super::*;
    use crate::proto::{
        admin::Command,
        FnState,
        SyncScope, //
    };
    use Fate::{
        Again,
        Failed,
        TimedOut, //
    };

    fn dropped(command: Command) -> Dropped {
        Dropped {
            order: 0,
            function: command.function(),
            kind: command.kind(),
            idempotent: command.is_idempotent(),
            waited_for: true,
            late: false,
            again: 0,
        }
    }

    /// Returns the fates of commands, given in the order of submission.
    fn judge<const N: usize>(mut commands: [Dropped; N]) -> Result<[Fate; N]> {
        let mut judge = Judge::new(4)?;
        judge.open();
        for (at, command) in commands.iter_mut().enumerate() {
            command.order = at as u64 + 1;
        }
        for command in commands.iter().rev() {
            judge.hear(command);
        }
        Ok(commands.map(|command| judge.fate(&command)))
    }

    fn sync(function: u16) -> Result<Dropped> {
        Ok(dropped(Command::log_sync(function, SyncScope::All, 1)?))
    }

    fn suspend(function: u16) -> Dropped {
        dropped(Command::suspend(function, FnState::Stopped))
    }

    fn resume(function: u16) -> Dropped {
        dropped(Command::resume(function, FnState::Running))
    }

    #[test]
    fn one_functions_trouble_is_not_anothers() -> Result {
        // SUSPEND of function 0 is overdue while a SYNC of function 1 is in flight (issue 7, M3).
        let late = Dropped {
            late: true,
            ..suspend(0)
        };
        assert_eq!(judge([late, sync(1)?])?, [TimedOut, Again]);
        // The log of the same function continues, too.
        assert_eq!(judge([late, sync(0)?])?, [TimedOut, Again]);
        Ok(())
    }

    #[test]
    fn only_what_can_be_executed_twice() -> Result {
        let fates = judge([
            dropped(Command::save_begin(0, None)),
            dropped(Command::load_write(1)),
            dropped(Command::load_commit(1)),
            dropped(Command::save_read(2, true)),
            dropped(Command::load_begin(3)),
        ])?;
        assert_eq!(fates, [Failed; 5]);
        let fates = judge([
            dropped(Command::identify_fn(0)),
            dropped(Command::status_page(0, 1)),
            dropped(Command::attest(0, 1)),
            dropped(Command::save_end(0)),
            dropped(Command::load_abort(0)),
            dropped(Command::log_add(0)),
            sync(0)?,
            dropped(Command::log_stop(0)),
        ])?;
        assert_eq!(fates, [Again; 8]);
        Ok(())
    }

    #[test]
    fn not_when_no_thread_waits_and_not_for_ever() -> Result {
        let left = Dropped {
            waited_for: false,
            ..sync(0)?
        };
        assert_eq!(judge([left])?, [Failed]);
        for (again, want) in [(0, Again), (1, Again), (2, Failed), (u32::MAX, Failed)] {
            let command = Dropped { again, ..sync(0)? };
            assert_eq!(judge([command])?, [want]);
        }
        Ok(())
    }

    #[test]
    fn nothing_undoes_what_came_later() -> Result {
        let left = |command: Dropped| Dropped {
            waited_for: false,
            ..command
        };
        // The RESUME may have been executed: a SUSPEND now would stop the function for good.
        assert_eq!(judge([suspend(0), left(resume(0))])?, [Failed, Failed]);
        // Both are submitted again in their order, so the RESUME is executed last.
        assert_eq!(judge([suspend(0), resume(0)])?, [Again, Again]);
        // Commands of another function or kind do not matter.
        assert_eq!(judge([suspend(0), left(resume(1))])?, [Again, Failed]);
        assert_eq!(
            judge([suspend(0), dropped(Command::save_begin(0, None))])?,
            [Again, Failed]
        );
        // A second LOG_STOP would end the new log, a second SAVE_END the new session.
        let start = Dropped {
            idempotent: false,
            ..sync(0)?
        };
        assert_eq!(judge([dropped(Command::log_stop(0)), start])?, [Failed; 2]);
        let begin = dropped(Command::save_begin(0, None));
        assert_eq!(judge([dropped(Command::save_end(0)), begin])?, [Failed; 2]);
        // An earlier command does not matter.
        assert_eq!(
            judge([begin, dropped(Command::save_end(0))])?,
            [Failed, Again]
        );
        Ok(())
    }

    #[test]
    fn cases_do_not_hang_together() -> Result {
        let mut judge = Judge::new(1)?;
        judge.open();
        let late = Dropped {
            order: 2,
            late: true,
            ..resume(0)
        };
        let before = |function| Dropped {
            order: 1,
            ..suspend(function)
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
