// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a layer works with, and what it counts.

use std::{fmt, path::PathBuf};

use anyhow::Result;

use crate::{
    artefacts::{Artefacts, Workshop},
    e2e::{blame::EmulatorFault, census::Census},
};

/// How many tests ended how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: u32,
    /// Failed.
    pub failed: u32,
    /// Skipped by the test itself, visibly.
    pub skipped: u32,
    /// What failed, one line each.
    pub failures: Vec<String>,
    /// Guests, and those of them whose end was excused.
    pub census: Census,
}

impl Tally {
    pub(super) fn pass(&mut self) {
        self.passed += 1;
    }

    pub(super) fn fail(&mut self, what: impl Into<String>) {
        self.failed += 1;
        self.failures.push(what.into());
    }

    /// Counts a check that is one test.
    pub(super) fn check(&mut self, name: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.pass(),
            Err(e) => self.fail(format!("{name}: {e:#}")),
        }
    }

    /// Counts guests, and fails if too many of them were excused.
    pub(super) fn count_guests(&mut self, census: Census) {
        if census.excused > census.limit() {
            self.fail(format!(
                "{census} ({EmulatorFault}): at most {} are to be expected",
                census.limit()
            ));
        }
        self.census.add(census);
    }

    /// What is to be said of guests, if there were any.
    pub fn guests(&self) -> Option<String> {
        (self.census.guests > 0).then(|| format!("{} ({EmulatorFault})", self.census))
    }

    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
        self.census.add(other.census);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// What the layers work with.
pub(super) struct Context<'a> {
    pub(super) workshop: &'a Workshop,
    pub(super) logs: PathBuf,
    /// Only tests whose name contains this.
    pub(super) only: Option<&'a str>,
}

impl Context<'_> {
    /// What boxes need; an error counts as a failure of the layer.
    pub(super) fn artefacts(&self) -> Result<Artefacts> {
        self.workshop.artefacts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_the_agreed_form() {
        let mut tally = Tally::default();
        tally.pass();
        assert_eq!(tally.to_string(), "1 passed, 0 failed");
        tally.fail("x");
        tally.skipped = 2;
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 2 skipped");
        assert_eq!(tally.guests(), None);
        tally.count_guests(Census {
            guests: 5,
            excused: 0,
        });
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 2 skipped");
        let guests = tally.guests().unwrap_or_default();
        assert!(guests.starts_with("0 of 5 guests excused"), "{guests}");
    }

    #[test]
    fn more_excused_guests_than_three_in_a_hundred_are_a_failure() {
        for (excused, failed) in [(0, 0), (1, 0), (2, 1)] {
            let mut own = Tally::default();
            let guests = 40;
            own.count_guests(Census { guests, excused });
            let mut sum = Tally::default();
            sum.add(own);
            assert_eq!((sum.failed, sum.census.excused), (failed, excused));
        }
    }
}
