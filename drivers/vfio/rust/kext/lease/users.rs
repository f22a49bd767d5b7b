// SPDX-License-Identifier: GPL-2.0

//! The count of the users of a [`Lease`](super::Lease).

use crate::kext::completion::Completion;
#[cfg(CONFIG_KUNIT = "y")]
use crate::kext::completion::Wait;
use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full, //
    },
};

/// Added to the count when the lease is revoked.
const REVOKED: i64 = 1 << 32;
/// Largest number of users at once. Only leaked guards can reach it; they must not count up to
/// [`REVOKED`].
const MAX_USERS: i64 = i32::MAX as i64;

/// Counts the users of a lease, refuses new ones, and waits for those inside.
#[pin_data]
pub(super) struct Users {
    count: Atomic<i64>,
    #[pin]
    left: Completion,
}

impl Users {
    /// Creates a count of zero that is not revoked.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            count: Atomic::new(0),
            left <- Completion::new(),
        })
    }

    /// Counts one more user. Returns `false` and counts none when revoked or at [`MAX_USERS`]. Can
    /// be called from any context.
    pub(super) fn enter(&self) -> bool {
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

    /// Returns the number of users inside.
    pub(super) fn inside(&self) -> i64 {
        self.count.load(Acquire) % REVOKED
    }

    /// Refuses new users and waits for those inside. Sleeps. Called once.
    pub(super) fn revoke(&self) {
        if self.count.fetch_add(REVOKED, Full) != 0 {
            self.left.wait();
        }
    }
}

#[kunit_tests(kext_lease)]
mod tests {
    use super::*;
    use kernel::{
        sync::{
            atomic::Relaxed,
            Arc, //
        },
        time::{
            delay::fsleep,
            Delta, //
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

    /// Leaked guards neither revoke the lease nor let a revocation end early.
    #[test]
    fn guards_that_stay_never_look_like_a_revocation() -> Result {
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
