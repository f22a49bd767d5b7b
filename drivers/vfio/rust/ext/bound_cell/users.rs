// SPDX-License-Identifier: GPL-2.0

//! The count of the users of a [`BoundCell`](super::BoundCell).

use crate::ext::completion::Completion;
#[cfg(CONFIG_KUNIT = "y")]
use crate::ext::completion::Wait;
use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Release, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
};

/// Added to the count when the bound cell is revoked.
const REVOKED: i64 = 1 << 32;
/// Largest number of users at once. Only leaked guards can reach it; they must not count up to
/// [`REVOKED`].
const MAX_USERS: i64 = i32::MAX as i64;

/// Interval at which [`Users::pause`] checks whether the others have left.
const PAUSE_POLL: Delta = Delta::from_millis(1);

/// Counts the users of a bound cell, refuses new ones, and waits for those inside.
///
/// `tools/dlr-loom` runs this file under loom.
#[pin_data]
pub(super) struct Users {
    count: Atomic<i64>,
    paused: Atomic<bool>,
    #[pin]
    left: Completion,
}

impl Users {
    /// Creates a count of zero that is not revoked.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            count: Atomic::new(0),
            paused: Atomic::new(false),
            left <- Completion::new(),
        })
    }

    /// Counts one more user. Returns `false` and counts none when revoked, while paused, or at
    /// [`MAX_USERS`]. Can be called from any context.
    pub(super) fn enter(&self) -> bool {
        if !self.enter_in_pause() {
            return false;
        }
        // ORDERING: After the full `fetch_add` that counted this user, see `pause`.
        if !self.paused.load(Acquire) {
            return true;
        }
        self.leave();
        false
    }

    /// Like [`Self::enter`], but also while paused.
    pub(super) fn enter_in_pause(&self) -> bool {
        // ORDERING: Full, pairs with the one in `revoke`: either `revoke` counts this user, or this
        // user sees [`REVOKED`].
        if self.count.fetch_add(1, Full) < MAX_USERS {
            return true;
        }
        self.leave();
        false
    }

    /// Counts one user less. Can be called from any context.
    pub(super) fn leave(&self) {
        // The count includes threads between the `fetch_add` in `enter` and this, which are far
        // fewer than `REVOKED - MAX_USERS`.
        if self.count.fetch_sub(1, Full) == REVOKED + 1 {
            self.left.complete_all();
        }
    }

    /// Makes [`Self::enter`] fail until [`Self::unpause`], and waits until the caller, which has
    /// entered once, is the only user. Sleeps. Returns `false` at once while paused: the caller
    /// whose pause it is may wait for this one to leave.
    #[must_use]
    pub(super) fn pause(&self) -> bool {
        // ORDERING: Full, pairs with the full `fetch_add` of a user: either `enter` sees the mark,
        // or the loop below sees that user.
        let was_paused = self.paused.xchg(true, Full);
        if was_paused {
            return false;
        }
        // ORDERING: Acquire, so that what a user did is over once it is no longer counted.
        while self.count.load(Acquire) % REVOKED > 1 {
            fsleep(PAUSE_POLL);
        }
        true
    }

    /// Ends a pause: [`Self::enter`] succeeds again.
    pub(super) fn unpause(&self) {
        // ORDERING: Release, so that a user that enters sees what was done during the pause.
        self.paused.store(false, Release);
    }

    /// Refuses new users and waits for those inside. Sleeps. Called once.
    pub(super) fn revoke(&self) {
        if self.count.fetch_add(REVOKED, Full) != 0 {
            self.left.wait();
        }
    }
}

#[kunit_tests(ext_bound_cell)]
mod tests {
    use super::*;
    use kernel::{
        sync::{
            atomic::Relaxed,
            Arc, //
        },
        workqueue, //
    };

    /// After a revocation no user accesses the hardware, so that for example an FLR is safe.
    #[test]
    fn l6_a_revocation_waits_for_the_last_user() -> Result {
        let users = Arc::pin_init(Users::new(), GFP_KERNEL)?;
        let at_the_hardware = Arc::new(Atomic::new(2), GFP_KERNEL)?;
        for ms in [20, 60] {
            assert!(users.enter());
            let (users, at_the_hardware) = (users.clone(), at_the_hardware.clone());
            workqueue::system_unbound().try_spawn(GFP_KERNEL, move || {
                fsleep(Delta::from_millis(ms));
                at_the_hardware.fetch_sub(1, Relaxed);
                users.leave();
            })?;
        }
        users.revoke();
        assert_eq!(at_the_hardware.load(Relaxed), 0);
        Ok(())
    }

    /// Each of two pauses would wait for the other to leave.
    #[test]
    fn a_pause_in_a_pause_is_refused() -> Result {
        let users = Arc::pin_init(Users::new(), GFP_KERNEL)?;
        assert!(users.enter_in_pause());
        assert!(users.pause());
        let refused = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        let (other, told) = (users.clone(), refused.clone());
        workqueue::system_unbound().try_spawn(GFP_KERNEL, move || {
            if other.enter_in_pause() {
                if !other.pause() {
                    told.complete_all();
                }
                other.leave();
            }
        })?;
        assert_eq!(refused.wait_timeout(1000), Wait::Done);
        // The pause goes on until its caller ends it.
        assert!(!users.enter());
        users.unpause();
        assert!(users.pause());
        Ok(())
    }

    #[test]
    fn no_user_enters_once_revoked() -> Result {
        let users = KBox::pin_init(Users::new(), GFP_KERNEL)?;
        assert!(users.enter());
        users.leave();
        users.revoke();
        assert!(!users.enter());
        assert_eq!(users.count.load(Relaxed), REVOKED);
        Ok(())
    }

    /// Leaked guards neither revoke the bound cell nor let a revocation end early.
    #[test]
    fn s6_guards_that_stay_never_look_like_a_revocation() -> Result {
        let users = KBox::pin_init(Users::new(), GFP_KERNEL)?;
        users.count.store(MAX_USERS - 1, Relaxed);
        assert!(users.enter());
        for _ in 0..3 {
            assert!(!users.enter());
            assert_eq!(users.count.load(Relaxed), MAX_USERS);
        }
        users.count.fetch_add(REVOKED, Relaxed);
        for _ in 0..3 {
            assert!(!users.enter());
            users.leave();
            assert_eq!(users.left.wait_timeout(1), Wait::TimedOut);
        }
        Ok(())
    }
}
