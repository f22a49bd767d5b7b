// SPDX-License-Identifier: GPL-2.0

//! How long a call waits for a device, and what ends the wait.

use super::{
    budget::Budget,
    completion::{
        Completion,
        Wait, //
    },
    gfp, //
};
use kernel::{
    alloc::Flags,
    prelude::*,
    time::{
        msecs_to_jiffies,
        Jiffies, //
    },
};

/// Limit of a wait.
#[derive(Clone, Copy)]
pub(crate) enum Patience<'a> {
    /// The wait ends at the deadline of a command or for a fatal signal.
    Killable,
    /// Like [`Self::Killable`], but any signal ends the wait.
    Interruptible,
    /// The wait ends when the budget is used up. Signals do not end it.
    Within(&'a Budget),
}

impl Patience<'_> {
    /// Returns the longest wait that is left, in jiffies.
    pub(crate) fn limit(&self) -> Jiffies {
        match self {
            Self::Killable | Self::Interruptible => Jiffies::MAX,
            Self::Within(budget) => msecs_to_jiffies(budget.left_ms()),
        }
    }

    /// Allocates memory for a command. Within a budget, for a clean-up, a second attempt may use
    /// the kernel's reserves: a use of the device that is not ended would last until a reset.
    ///
    /// # Errors
    ///
    /// The error of `allocate`.
    pub(crate) fn allocate<T, E>(&self, allocate: impl Fn(Flags) -> Result<T, E>) -> Result<T, E> {
        match (allocate(gfp::USER), self) {
            (Err(_), Self::Within(_)) => allocate(gfp::LAST_RESORT),
            (result, _) => result,
        }
    }

    /// Waits for `done` for at most `time`.
    pub(crate) fn wait(&self, done: &Completion, time: Jiffies) -> Wait {
        match self {
            Self::Killable => done.wait_killable_timeout(time),
            Self::Interruptible => done.wait_interruptible_timeout(time),
            Self::Within(_) => done.wait_timeout(time),
        }
    }

    /// Returns whether a budget is used up.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Within(budget) if budget.left_ms() == 0)
    }
}

#[kunit_tests(ext_patience)]
mod tests {
    use super::*;

    #[test]
    fn killable_waits_have_the_devices_time() {
        assert!(!Patience::Killable.is_over());
        assert_eq!(Patience::Killable.limit(), Jiffies::MAX);
        let budget = Budget::new();
        let patience = Patience::Within(&budget);
        assert!(!patience.is_over());
        assert!(patience.limit() <= msecs_to_jiffies(5000));
    }

    #[test]
    fn m5_a_users_command_needs_memory_and_a_clean_up_has_a_last_resort() {
        let budget = Budget::new();
        let none = |flags: Flags| {
            assert!(flags == gfp::USER || flags == gfp::LAST_RESORT);
            Err::<(), _>(ENOMEM)
        };
        let reserves = |flags: Flags| (flags == gfp::LAST_RESORT).then_some(1).ok_or(ENOMEM);
        let plenty = |flags: Flags| (flags == gfp::USER).then_some(2).ok_or(ENOMEM);
        for user in [Patience::Killable, Patience::Interruptible] {
            assert_eq!(user.allocate(none), Err(ENOMEM));
            assert_eq!(user.allocate(reserves), Err(ENOMEM));
            assert_eq!(user.allocate(plenty), Ok(2));
        }
        let clean_up = Patience::Within(&budget);
        assert_eq!(clean_up.allocate(none), Err(ENOMEM));
        assert_eq!(clean_up.allocate(reserves), Ok(1));
        assert_eq!(clean_up.allocate(plenty), Ok(2));
    }
}
