// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What came out of the test of a mutant.

use std::fmt;

use crate::{agent::WENT_AWAY, hostbox::DID_NOT_COME_UP};

/// How a mutant's run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its test failed.
    Caught,
    /// Its test passed.
    Survived,
    /// Its test gave no verdict.
    Silent,
    /// Its test failed because its box did not come up or went away, which says nothing of the
    /// bug.
    NoBox,
}

impl Outcome {
    /// What the test framework has printed of one test. A failure counts only if the test itself
    /// has seen it, and not if there was no box, or no box any more, to look at.
    pub(super) fn of(text: &str) -> Self {
        let of = |word: &str| {
            text.lines()
                .filter_map(|line| line.strip_prefix("test "))
                .any(|line| line.ends_with(word))
        };
        if of("... FAILED") {
            if [DID_NOT_COME_UP, WENT_AWAY]
                .iter()
                .any(|e| text.contains(e))
            {
                Self::NoBox
            } else {
                Self::Caught
            }
        } else if of("... ok") {
            Self::Survived
        } else {
            Self::Silent
        }
    }

    /// Whether the test of the mutant has noticed it.
    pub(super) fn is_caught(&self) -> bool {
        *self == Self::Caught
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caught => "caught",
            Self::Survived => "SURVIVED",
            Self::Silent => "SURVIVED: its test gave no verdict",
            Self::NoBox => "SURVIVED: the box of its test did not come up or went away",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_without_a_box_catches_nothing() {
        let of = |error: &str| {
            Outcome::of(&format!(
                "running 1 test\ntest a_test ... FAILED\n\n---- a_test stdout ----\n\
                 Error: {error}\n\nCaused by:\n    0: timed out\n"
            ))
        };
        assert_eq!(of("RESET: EIO"), Outcome::Caught);
        assert_eq!(of(DID_NOT_COME_UP), Outcome::NoBox);
        assert_eq!(of(&format!("log-stop: {WENT_AWAY}")), Outcome::NoBox);
        assert!(!Outcome::NoBox.is_caught() && !Outcome::Silent.is_caught());
        assert_eq!(Outcome::of("test a_test ... ok\n"), Outcome::Survived);
        assert_eq!(Outcome::of("running 1 test\n"), Outcome::Silent);
    }
}
