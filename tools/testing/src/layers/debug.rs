// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A part of the tests on a kernel that checks itself: KASAN, lockdep, kmemleak and more, with several
//! processors, a vIOMMU and interrupts, which the native kernel that checks itself does not have.
//! `make test-debug` runs all tests without guests there, which takes too long for `make test`.

use anyhow::{ensure, Result};

use super::{
    cargo, kunit, pool,
    tally::{Context, Tally},
};
use crate::artefacts::Workshop;

/// The tests in boxes that run there, the longest first.
const TESTS: &[&str] = &[
    "functions_without_some_abilities_pass",
    "mirror_loses_nothing_with_a_legacy_container",
    "every_fault_ends_as_documented",
];

/// Cells that the last of them has time for.
const FAULT_CELLS: (&str, &str) = ("DLR_FAULT_CELLS", "40");

/// The driver's own tests, and [`TESTS`].
pub(super) fn run(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    let workshop = Workshop::open()?.debug();
    let context = Context {
        workshop: &workshop,
        logs: context.logs.clone(),
        only: None,
    };
    kunit::run(&context, "kunit-debug", tally)?;
    let artefacts = context.artefacts()?;
    ensure!(artefacts.module.is_some(), "there is no driver to test");
    let (name, cells) = FAULT_CELLS;
    let mut environment = artefacts.environment();
    environment.push((name, cells.into()));
    cargo::guestless(
        &context,
        environment,
        pool::Which::These(TESTS),
        "tests-debug",
        tally,
    )
}
