// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Layers that are runs of cargo.

use std::{fs, process::Command};

use anyhow::{ensure, Result};

use super::{Context, Tally};
use crate::{artefacts::programs::members, progress};

/// This crate: its integration tests start host boxes.
const BOX_TESTS: &str = "dlr-testing";

/// Its tests that need no guest: with the kernel that checks itself guests take too long.
const GUESTLESS: &[&str] = &[
    "check",
    "check_pair",
    "driver_life",
    "faults",
    "mirror",
    "mtty",
    "removal",
];

fn command(context: &Context<'_>) -> Result<Command> {
    let mut command = context.workshop.cargo()?;
    command.env("CARGO_TERM_COLOR", "never");
    Ok(command)
}

/// `cargo fmt --check`.
pub(super) fn format(context: &Context<'_>) -> Result<()> {
    let mut command = command(context)?;
    command.args(["fmt", "--all", "--check"]);
    progress::step("rustfmt", &mut command, &context.logs.join("rustfmt.log"))
}

/// `cargo clippy` with every warning an error.
pub(super) fn clippy(context: &Context<'_>) -> Result<()> {
    let mut command = command(context)?;
    command.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    progress::step("clippy", &mut command, &context.logs.join("clippy.log"))
}

/// All tests of user space that need no host box.
pub(super) fn host_tests(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    let mut others = command(context)?;
    others.args([
        "test",
        "--workspace",
        "--no-fail-fast",
        "--exclude",
        BOX_TESTS,
    ]);
    tests(context, tally, "host tests", &mut others)?;
    let mut own = command(context)?;
    own.args([
        "test",
        "--no-fail-fast",
        "--package",
        BOX_TESTS,
        "--lib",
        "--bins",
    ]);
    tests(context, tally, "tests of the test bed", &mut own)
}

/// The integration tests of this crate, one after the other: each box wants
/// both processors.
pub(super) fn box_tests(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    let tree = context.workshop.tree();
    ensure!(
        members(tree)?.contains(BOX_TESTS) && tree.join("tools/testing/tests").is_dir(),
        "there are no tests that start host boxes"
    );
    let artefacts = context.artefacts()?;
    ensure!(artefacts.module.is_some(), "there is no driver to test");
    let chosen = match context.workshop.is_debug() {
        true => GUESTLESS,
        false => &["*"],
    };
    let mut command = command(context)?;
    command
        .args(["test", "--no-fail-fast", "--package", BOX_TESTS])
        .args(chosen.iter().flat_map(|name| ["--test", name]))
        .args(["--", "--test-threads=1"])
        .args(context.only)
        .envs(artefacts.environment());
    tests(context, tally, "tests in host boxes", &mut command)
}

/// Runs a test command, shows what it prints and counts what it says.
fn tests(
    context: &Context<'_>,
    tally: &mut Tally,
    name: &str,
    command: &mut Command,
) -> Result<()> {
    let log = context.logs.join(format!("{}.log", name.replace(' ', "-")));
    let good = progress::tee(command, &log)?;
    let counted = count(&fs::read_to_string(&log)?);
    if !good && counted.failed == 0 {
        tally.fail(format!("{name}: cargo failed, see {}", log.display()));
    }
    if good && context.only.is_none() && counted.passed == 0 {
        tally.fail(format!("{name}: no test ran"));
    }
    tally.add(counted);
    Ok(())
}

/// Sums the `test result:` lines and gathers the names of failed tests.
fn count(log: &str) -> Tally {
    let mut tally = Tally::default();
    for line in log.lines() {
        if let Some(rest) = line.strip_prefix("test result: ") {
            for part in rest.split([';', '.']) {
                let mut words = part.split_whitespace();
                let number = words.next().and_then(|n| n.parse::<u32>().ok());
                match (number, words.next()) {
                    (Some(n), Some("passed")) => tally.passed += n,
                    (Some(n), Some("failed")) => tally.failed += n,
                    (Some(n), Some("ignored")) => tally.skipped += n,
                    _ => {}
                }
            }
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            tally.failures.push(name.trim_end().to_string());
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_binaries_are_summed() {
        let tally = count(
            "test a::b   ... ok\ntest a::c   ... FAILED\n\
             test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; \
             finished in 0.00s\n\
             test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!((tally.passed, tally.failed, tally.skipped), (4, 1, 2));
        assert_eq!(tally.failures, ["a::c"]);
    }
}
