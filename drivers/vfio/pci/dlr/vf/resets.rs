// SPDX-License-Identifier: GPL-2.0

//! Whether steps on the device ran beside a reset of the function.
//!
//! The reset of a function takes no lock of ours (contract K2), so that commands of an arc may reach the
//! device after the reset and before `reset_done`, or between two steps of one arc. The state machine
//! begins anew then, but the device would be left where those commands took it.
//!
//! For the same reason the device ends a session before the driver does: what fails in between has
//! failed because the session is over ([`Life`]).

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

/// Set while a reset is under way.
const BUSY: u32 = 1;

/// Counts the resets of a function. The PCI core runs one at a time.
pub(crate) struct Resets(Atomic<u32>);

/// Value of [`Resets`] between two resets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Era(u32);

impl Resets {
    /// None yet.
    pub(super) fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// A reset is about to begin.
    pub(super) fn prepare(&self) {
        let now = self.0.load(Acquire);
        self.0.store(now.wrapping_add(2) | BUSY, Release);
    }

    /// It has ended.
    pub(super) fn done(&self) {
        let now = self.0.load(Acquire);
        self.0.store(now & !BUSY, Release);
    }

    /// The time between two resets that this is in; `None` during a reset.
    pub(super) fn era(&self) -> Option<Era> {
        let now = self.0.load(Acquire);
        (now & BUSY == 0).then_some(Era(now))
    }

    /// Whether no reset has begun since `era`.
    pub(super) fn none_since(&self, era: Option<Era>) -> bool {
        era.is_some() && self.era() == era
    }
}

/// How long what a session does reaches its device: until the next reset of the function.
pub(crate) struct Life {
    resets: Arc<Resets>,
    began: Option<Era>,
}

impl Life {
    /// From `began` on, the era of the state in which the session begins.
    pub(super) fn new(resets: &Arc<Resets>, began: Option<Era>) -> Self {
        Self {
            resets: resets.clone(),
            began,
        }
    }

    /// Whether the session ended with a reset. True before the first command that fails for that
    /// reason comes back.
    pub(super) fn is_over(&self) -> bool {
        !self.resets.none_since(self.began)
    }
}

#[kunit_tests(dlr_vf_resets)]
mod tests {
    use super::*;

    #[test]
    fn a_life_ends_as_the_reset_begins() -> Result {
        let resets = Arc::new(Resets::new(), GFP_KERNEL)?;
        let before = Life::new(&resets, resets.era());
        assert!(!before.is_over());
        resets.prepare();
        assert!(before.is_over());
        // A session that begins beside a reset does not outlive it.
        let beside = Life::new(&resets, resets.era());
        resets.done();
        assert!(before.is_over());
        assert!(beside.is_over());
        assert!(!Life::new(&resets, resets.era()).is_over());
        Ok(())
    }

    #[test]
    fn a_reset_ends_an_era() {
        let resets = Resets::new();
        let first = resets.era();
        assert!(resets.none_since(first));
        resets.prepare();
        assert!(!resets.none_since(first));
        assert!(resets.era().is_none());
        resets.done();
        assert!(!resets.none_since(first));
        assert!(resets.none_since(resets.era()));
    }

    #[test]
    fn what_is_seen_during_a_reset_is_never_current() {
        let resets = Resets::new();
        resets.prepare();
        let seen = resets.era();
        assert!(!resets.none_since(seen));
        resets.done();
        assert!(!resets.none_since(seen));
    }
}
