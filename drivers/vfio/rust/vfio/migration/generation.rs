// SPDX-License-Identifier: GPL-2.0

//! Detection of resets that run at the same time as an arc or a session.
//!
//! A reset of the function does not take the state lock (contract K2). So it may run between two
//! commands of an arc, and commands may reach the device after the reset and before `reset_done`.
//! The reset sets the migration state to RUNNING, but those commands may have left the device in
//! another state.
//!
//! For the same reason a reset ends a session on the device before the driver ends it. A command
//! that fails in between fails because the session is over, which [`SessionEpoch`] tells.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Arc, //
    }, //
};

/// Set in [`Resets`] during a reset.
const BUSY: u32 = 1;

/// The number of resets of a function, in steps of 2, and [`BUSY`]. The PCI core serialises resets.
pub(crate) struct Resets(Atomic<u32>);

/// The value of [`Resets`] between two resets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Resets {
    /// Creates a count of zero.
    pub(crate) fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Notes that a reset begins.
    pub(crate) fn prepare(&self) {
        let now = self.0.load(Acquire);
        self.0.store(now.wrapping_add(2) | BUSY, Release);
    }

    /// Notes that the reset has ended.
    pub(crate) fn done(&self) {
        let now = self.0.load(Acquire);
        self.0.store(now & !BUSY, Release);
    }

    /// Returns the current generation, or `None` during a reset.
    pub(crate) fn generation(&self) -> Option<Generation> {
        let now = self.0.load(Acquire);
        (now & BUSY == 0).then_some(Generation(now))
    }

    /// Returns whether no reset has begun since `generation`.
    pub(crate) fn none_since(&self, generation: Option<Generation>) -> bool {
        generation.is_some() && self.generation() == generation
    }
}

/// The epoch of a session on the device, which ends with the next reset of the function.
pub(crate) struct SessionEpoch {
    resets: Arc<Resets>,
    began: Option<Generation>,
}

impl SessionEpoch {
    /// Makes the epoch of a session that begins in the generation `began`.
    pub(crate) fn new(resets: &Arc<Resets>, began: Option<Generation>) -> Self {
        Self {
            resets: resets.clone(),
            began,
        }
    }

    /// Returns whether a reset has ended the session. It is true before any command fails because
    /// of that reset.
    pub(crate) fn is_over(&self) -> bool {
        !self.resets.none_since(self.began)
    }
}

#[kunit_tests(vfio_migration_generation)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_over_once_a_reset_begins() -> Result {
        let resets = Arc::new(Resets::new(), GFP_KERNEL)?;
        let before = SessionEpoch::new(&resets, resets.generation());
        assert!(!before.is_over());
        resets.prepare();
        assert!(before.is_over());
        // A session that begins during a reset is over, too.
        let beside = SessionEpoch::new(&resets, resets.generation());
        resets.done();
        assert!(before.is_over());
        assert!(beside.is_over());
        assert!(!SessionEpoch::new(&resets, resets.generation()).is_over());
        Ok(())
    }

    #[test]
    fn a_reset_ends_a_generation() {
        let resets = Resets::new();
        let first = resets.generation();
        assert!(resets.none_since(first));
        resets.prepare();
        assert!(!resets.none_since(first));
        assert!(resets.generation().is_none());
        resets.done();
        assert!(!resets.none_since(first));
        assert!(resets.none_since(resets.generation()));
    }

    #[test]
    fn what_is_seen_during_a_reset_is_never_current() {
        let resets = Resets::new();
        resets.prepare();
        let seen = resets.generation();
        assert!(!resets.none_since(seen));
        resets.done();
        assert!(!resets.none_since(seen));
    }
}
