// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Layers that are runs of cargo.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{ensure, Result};

use super::{
    pool,
    results::{count, NO_BACKTRACE},
    tally::{Context, Tally},
    width,
};
use crate::{
    artefacts::{programs::members, Artefacts},
    e2e::census::{Census, CENSUS},
    progress,
};

/// This crate: its integration tests start host boxes.
const BOX_TESTS: &str = "dlr-testing";

/// Its tests with guests. Each of their boxes wants the processors for itself: guests on KVM that QEMU
/// emulates keep time only where there is time. The kernel that checks itself is too slow for them.
const WITH_GUESTS: &[&str] = &["migrate", "scenarios"];

/// Its tests without guests that take longest, to be begun first: otherwise the last one runs alone.
const LONGEST: &[&str] = &["check", "faults", "mirror", "check_pair", "removal"];

/// Those that ask how fast a box is, and therefore have the machine for themselves: a log whose drain is
/// late overflows.
const ALONE: &[&str] = &["mirror_sees_no_overflow_while_dma_is_held_back"];

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

/// The integration tests of this crate: those without guests side by side, the others one after the
/// other.
pub(super) fn box_tests(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    let tree = context.workshop.tree();
    ensure!(
        members(tree)?.contains(BOX_TESTS) && tree.join("tools/testing/tests").is_dir(),
        "there are no tests that start host boxes"
    );
    let artefacts = context.artefacts()?;
    ensure!(artefacts.module.is_some(), "there is no driver to test");
    let start = Instant::now();
    let which = context.only.map_or(pool::Which::All, pool::Which::Named);
    let environment = artefacts.environment();
    let width = match context.workshop.is_debug() {
        true => width::debug_boxes(),
        false => width::boxes(),
    };
    guestless(
        context,
        environment,
        which,
        "tests-without-guests",
        width,
        tally,
    )?;
    println!("without guests: {} s", start.elapsed().as_secs());
    if !context.workshop.is_debug() {
        let start = Instant::now();
        with_guests(context, &artefacts, tally)?;
        println!("with guests: {} s", start.elapsed().as_secs());
    }
    if tally.passed + tally.failed + tally.skipped == 0 {
        tally.fail(match context.only {
            Some(only) => format!("there is no test whose name contains `{only}`"),
            None => "no test ran in a host box".into(),
        });
    }
    Ok(())
}

/// Runs tests without guests, `width` of them at a time; `log` names the file with what they print.
pub(super) fn guestless(
    context: &Context<'_>,
    environment: Vec<(&'static str, PathBuf)>,
    which: pool::Which<'_>,
    log: &str,
    width: usize,
    tally: &mut Tally,
) -> Result<()> {
    let mut build = command(context)?;
    build.args(["test", "--no-run", "--package", BOX_TESTS, "--test", "*"]);
    build.args(["--message-format", "json-render-diagnostics"]);
    let built = build.stderr(Stdio::inherit()).output()?;
    ensure!(
        built.status.success(),
        "the tests in host boxes do not build"
    );
    let mut programs = pool::programs(&String::from_utf8_lossy(&built.stdout))?;
    programs.retain(|program| !WITH_GUESTS.contains(&program.name.as_str()));
    let rank = |name: &str| {
        LONGEST
            .iter()
            .position(|l| *l == name)
            .unwrap_or(LONGEST.len())
    };
    programs.sort_by_key(|program| (rank(&program.name), program.name.clone()));
    let run = pool::Run {
        folder: &context.workshop.tree().join("tools/testing"),
        environment,
        which,
        alone: ALONE,
        log: &context.logs.join(format!("{log}.log")),
        width,
    };
    run.all(&programs, tally)
}

fn with_guests(context: &Context<'_>, artefacts: &Artefacts, tally: &mut Tally) -> Result<()> {
    let guests = context.logs.join("guests");
    fs::write(&guests, "")?;
    let mut command = command(context)?;
    command
        .args(["test", "--no-fail-fast", "--package", BOX_TESTS])
        .args(WITH_GUESTS.iter().flat_map(|name| ["--test", name]))
        .args(["--", "--test-threads=1"])
        .args(context.only)
        .env(NO_BACKTRACE.0, NO_BACKTRACE.1)
        .env(CENSUS, &guests)
        .envs(artefacts.environment());
    run_cargo(context, tally, "tests with guests", &mut command)?;
    let census = Census::read(&fs::read_to_string(&guests)?);
    if context.only.is_none() && census.guests == 0 {
        tally.fail("no guest was counted");
    }
    tally.count_guests(census);
    Ok(())
}

/// Where [`run_cargo`] keeps what is printed.
fn log_of(context: &Context<'_>, name: &str) -> PathBuf {
    context.logs.join(format!("{}.log", name.replace(' ', "-")))
}

/// Runs a test command, shows what it prints and counts what it says.
fn run_cargo(
    context: &Context<'_>,
    tally: &mut Tally,
    name: &str,
    command: &mut Command,
) -> Result<()> {
    let log = log_of(context, name);
    let good = progress::tee(command, &log)?;
    let counted = count(&fs::read_to_string(&log)?);
    if !good && counted.failed == 0 {
        tally.fail(format!("{name}: cargo failed, see {}", log.display()));
    }
    tally.add(counted);
    Ok(())
}

/// [`run_cargo`] of tests of which there have to be some.
fn tests(
    context: &Context<'_>,
    tally: &mut Tally,
    name: &str,
    command: &mut Command,
) -> Result<()> {
    let mut own = Tally::default();
    run_cargo(context, &mut own, name, command)?;
    if own.passed + own.failed == 0 {
        own.fail(format!("{name}: there is no test"));
    }
    tally.add(own);
    Ok(())
}
