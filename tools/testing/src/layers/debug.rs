// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A part of the tests on a kernel that checks itself: KASAN, lockdep, kmemleak and more, with several
//! processors, a vIOMMU and interrupts, which the native kernel that checks itself does not have.
//! `make test-debug` runs all tests without guests there, which takes too long for `make test`.

use anyhow::{ensure, Context as _, Result};

use super::{
    abreast::{self, Job},
    cargo, kunit, pool,
    tally::{Context, Tally},
    width,
};
use crate::{
    artefacts::{module::Project, Workshop},
    splat, BoxConfig, HostBox,
};

/// The tests in boxes that run there.
const TESTS: &[&str] = &[
    "functions_without_some_abilities_pass",
    "mirror_loses_nothing_with_a_legacy_container",
    "every_fault_ends_as_documented",
];

/// Cells that the last of them has time for.
const FAULT_CELLS: (&str, &str) = ("DLR_FAULT_CELLS", "40");

/// Wrongs of the control module, and what the kernel has to say of each. lockdep is first, because it
/// switches itself off when anything else went wrong.
const WRONGS: &[(&str, &str)] = &[
    ("lock-order", "possible circular locking dependency"),
    (
        "sleep-in-atomic",
        "sleeping function called from invalid context",
    ),
    ("use-after-free", "BUG: KASAN: slab-use-after-free"),
];

/// Where the box finds the control module.
const CONTROL: &str = "modules/dlr_control.ko";

/// The control, the driver's own tests, and [`TESTS`].
pub(super) fn run(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    let workshop = Workshop::open()?.debug();
    let context = Context {
        workshop: &workshop,
        logs: context.logs.clone(),
        only: None,
    };
    let artefacts = context.artefacts()?;
    ensure!(artefacts.module.is_some(), "there is no driver to test");
    let (name, cells) = FAULT_CELLS;
    let mut environment = artefacts.environment();
    environment.push((name, cells.into()));
    let context = &context;
    let one = |test: &'static str| {
        let environment = environment.clone();
        Job::new(test, move |tally| {
            let which = pool::Which::These(&[test]);
            cargo::guestless(context, environment, which, test, 1, tally)
        })
    };
    let mut jobs: Vec<_> = TESTS.iter().map(|test| one(test)).collect();
    jobs.push(Job::new("kunit-debug", |tally| {
        kunit::run_debug(context, tally)
    }));
    let control = |_: &str| control(context);
    jobs.push(Job::one("control", "what the debug kernel sees", control));
    abreast::run(jobs, width::debug_boxes(), tally, |line| println!("{line}"))
}

/// Each wrong has to be seen, or the tests could not see it in the driver.
fn control(context: &Context<'_>) -> Result<()> {
    let project = Project::control(context.workshop.tree());
    let module = context.workshop.build_project(&project, "control", "")?;
    let config = BoxConfig::new("debug-control").file(CONTROL, module);
    let host = HostBox::start_with(config, context.artefacts()?)?;
    host.check_leaks().context("before any wrong")?;
    let do_wrong = |wrong: &str| {
        host.run(&format!(
            "insmod /dlr/{CONTROL} wrong={wrong} && rmmod dlr_control"
        ))
    };
    for (wrong, words) in WRONGS {
        let before = host.kernel_log()?.len();
        do_wrong(wrong)?;
        let log = host.kernel_log()?;
        let new = log.get(before..).unwrap_or_default();
        ensure!(
            splat::complaints(new, &[])
                .iter()
                .any(|(_, line)| line.contains(words)),
            "{wrong}: the kernel does not say \"{words}\":\n{new}"
        );
    }
    do_wrong("leak")?;
    ensure!(
        host.check_leaks().is_err(),
        "leak: kmemleak does not find it"
    );
    host.finish_unjudged()
}
