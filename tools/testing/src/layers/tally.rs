// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a layer works with, and what it counts.

use std::{fmt, path::PathBuf};

use anyhow::Result;

use crate::artefacts::{Artefacts, Workshop};

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

    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
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
    }
}
