// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Runs the driver's KUnit suites natively: the kernel is a program of this machine. One layer is
//! the run on the plain kernel, another the runs on the kernel that checks itself, the last of
//! them while allocations of the driver fail. Each begins with controls: a module does wrong, and
//! has to be seen.

mod scripts;

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::{ensure, Result};

use scripts::{FIND_LEAKS, LOAD, RUN, STARVE, UNLOAD, UNPINNED};

use super::{
    abreast::{self, Job},
    kunit::{self, NO_AUTORUN, SLOW},
    tally::{Context, Tally},
    width,
};
use crate::{
    artefacts::native::{Flavour, Native},
    ktap,
    native::{complaints, Run},
};

/// How long one run may take, on a busy machine and on the kernel that checks itself.
const LIMIT: Duration = Duration::from_secs(600);

/// What the kernel says when an allocation of a page fault fails. The fault is tried again, and it is
/// one of user memory that a callback of the driver copies to or from.
const PAGE_FAULT: &str = "VM_FAULT_OOM leaked out to the #PF handler. Retrying PF";

/// Wrongs of the control module that every kernel shows.
const WRONGS: &[&str] = &["fail", "oops", "warn"];

/// Those that only the kernel shows that checks itself.
const SUBTLE_WRONGS: &[&str] = &[
    "use-after-free",
    "beyond-the-end",
    "leak",
    "sleep-in-atomic",
    "added-twice",
];

/// The runs on the plain kernel.
pub(super) fn run(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    let native = &context.workshop.native(Flavour::Plain)?;
    let mut jobs = controls(context, native, WRONGS);
    jobs.push(Job::new("native", |tally| {
        let script = [LOAD, UNLOAD].concat();
        suites(context, native, "native", &script, tally).map(drop)
    }));
    abreast(jobs, tally)
}

/// The runs on the kernel that checks itself, the longest first.
pub(super) fn run_debug(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    let native = &context.workshop.native(Flavour::Debug)?;
    let all = kunit::suites_of(context)?;
    let (slow, quick): (BTreeSet<_>, BTreeSet<_>) = all
        .into_iter()
        .partition(|suite| SLOW.contains(&suite.as_str()));
    let script = |parts: &[&str]| {
        let slow = format!("slow='{}'\n", SLOW.join(" "));
        [&[LOAD, &slow, RUN], parts, &[UNLOAD]].concat().concat()
    };
    let run = |name: &'static str, what, suites: BTreeSet<String>| {
        let script = [&script(&[what]), FIND_LEAKS].concat();
        Job::new(name, move |tally| {
            let boot = Boot {
                script: &script,
                arguments: NO_AUTORUN,
                expected: None,
            };
            judged(context, native, name, boot, &suites, tally).map(drop)
        })
    };
    let mut jobs = vec![
        run("native-debug-slow", "run_slow\n", slow),
        Job::new("native-starved", {
            let (script, quick) = (script(&[STARVE]), quick.clone());
            move |tally| {
                let boot = Boot {
                    script: &script,
                    arguments: NO_AUTORUN,
                    expected: Some(PAGE_FAULT),
                };
                let log = judged(context, native, "native-starved", boot, &quick, tally)?;
                tally.check("native-starved: allocations failed", starved(&log));
                Ok(())
            }
        }),
        run("native-debug", "run_quick\n", quick),
    ];
    let wrongs = [WRONGS, SUBTLE_WRONGS].concat();
    jobs.extend(controls(context, native, &wrongs));
    abreast(jobs, tally)
}

/// The runs on the kernel with our patches. The driver is built for it anew, so with what the
/// patches change in headers.
pub(super) fn run_upstream(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    let native = context.workshop.native(Flavour::Upstream)?;
    abreast(controls(context, &native, WRONGS), tally)?;
    let script = [LOAD, UNPINNED, UNLOAD].concat();
    let log = suites(context, &native, "native-upstream", &script, tally)?;
    tally.check("native-upstream: reports failed", unpinned(&log));
    Ok(())
}

/// What a boot does.
#[derive(Clone, Copy)]
struct Boot<'a> {
    script: &'a str,
    /// Further words of the kernel's command line.
    arguments: &'a str,
    /// Words of a complaint that is to be expected.
    expected: Option<&'a str>,
}

impl<'a> From<&'a str> for Boot<'a> {
    fn from(script: &'a str) -> Self {
        Self {
            script,
            arguments: "",
            expected: None,
        }
    }
}

/// Runs the suites as `script` says, and judges the last run of each and the log, which it
/// returns.
fn suites(
    context: &Context<'_>,
    native: &Native,
    name: &str,
    script: &str,
    tally: &mut Tally,
) -> Result<String> {
    let expected = kunit::suites_of(context)?;
    judged(context, native, name, script.into(), &expected, tally)
}

/// The same with the suites that are expected to run.
fn judged(
    context: &Context<'_>,
    native: &Native,
    name: &str,
    boot: Boot<'_>,
    expected: &BTreeSet<String>,
    tally: &mut Tally,
) -> Result<String> {
    let log = one(context, native, &native.module, name, boot)?;
    kunit::judge(name, expected, &ktap::parse(&log), tally);
    let mut found = complaints(&log);
    found.retain(|line| !boot.expected.is_some_and(|words| line.contains(words)));
    let verdict = || -> Result<()> {
        let place = context.workshop.products().join("native").join(name);
        ensure!(
            found.is_empty(),
            "{} (logs are here: {})",
            found.join("; "),
            place.display()
        );
        Ok(())
    };
    tally.check(&format!("{name}: kernel log"), verdict());
    Ok(log)
}

fn one(
    context: &Context<'_>,
    native: &Native,
    module: &Path,
    name: &str,
    boot: Boot<'_>,
) -> Result<String> {
    let run = Run {
        machine: &native.machine,
        results: context.workshop.products().join("native"),
        name,
        module,
        script: boot.script,
        nic: None,
        arguments: boot.arguments,
        limit: LIMIT,
    };
    run.run()
}

/// Runs them side by side.
fn abreast(jobs: Vec<Job<'_>>, tally: &mut Tally) -> Result<()> {
    abreast::run(jobs, width::kernels(), tally, |line| println!("{line}"))
}

/// Each wrong has to be seen, and the module that does none has to pass.
fn controls<'a>(
    context: &'a Context<'_>,
    native: &'a Native,
    wrongs: &[&'static str],
) -> Vec<Job<'a>> {
    let control = |wrong: &'static str| {
        let name = format!("{}-control-{wrong}", native.machine.name);
        Job::one(name, "as red as it has to be", move |name| {
            let load =
                format!("insmod /module.ko wrong={wrong} || fail insmod\nrmmod dlr_control\n");
            let script = match wrong {
                "leak" => load + FIND_LEAKS,
                _ => load,
            };
            let red = is_red(&one(
                context,
                native,
                &native.control,
                name,
                script.as_str().into(),
            )?);
            let color = if red { "red" } else { "green" };
            ensure!(red == (wrong != "nothing"), "the bed is {color} for it");
            Ok(())
        })
    };
    let nothing = std::iter::once("nothing");
    nothing.chain(wrongs.iter().copied()).map(control).collect()
}

/// Whether a run of the control module would have failed this layer.
fn is_red(log: &str) -> bool {
    let mut tally = Tally::default();
    let expected = [String::from("dlr_control")].into();
    kunit::judge("control", &expected, &ktap::parse(log), &mut tally);
    tally.failed > 0 || !complaints(log).is_empty()
}

/// Without failures the starved run would show nothing.
fn starved(log: &str) -> Result<()> {
    let failures = log
        .lines()
        .filter_map(|line| line.trim().strip_prefix("bed: "))
        .find_map(|line| line.strip_suffix(" allocations failed"))
        .and_then(|number| number.parse::<u32>().ok())
        .unwrap_or(0);
    ensure!(failures > 100, "only {failures}");
    Ok(())
}

/// Each failure has to be one that a report told, and all of them have to come.
fn unpinned(log: &str) -> Result<()> {
    let count = |words: &str| {
        log.lines()
            .filter(|line| line.trim().ends_with(words))
            .count()
    };
    for times in 1..=3 {
        let failed = count(&format!("bed: {times} allocations failed"));
        let told = count(&format!("pinning failed {times} times"));
        ensure!(
            failed == 1 && told == 1,
            "with {times} failures: {failed} runs had them, {told} said so"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "    # Subtest: dlr_control\n    ok 1 control\nok 1 dlr_control\nbed: end\n";

    #[test]
    fn a_run_is_red_for_a_case_a_splat_and_an_early_end() {
        assert!(!is_red(GOOD));
        assert!(is_red(&GOOD.replace("    ok 1", "    not ok 1")));
        assert!(is_red(&format!("WARNING: at x\n{GOOD}")));
        assert!(is_red(&GOOD.replace("bed: end", "")));
        assert!(is_red("bed: end\n"));
    }

    #[test]
    fn a_run_without_failed_allocations_shows_nothing() {
        assert!(starved("bed: 4711 allocations failed\r\n").is_ok());
        assert!(starved("bed: 0 allocations failed\n").is_err());
        assert!(starved("").is_err());
    }

    #[test]
    fn every_failure_of_pinning_has_to_be_told() {
        let mut log = String::new();
        for times in 1..=3 {
            log += &format!("dlr: pinning failed {times} times\r\n");
            log += &format!("bed: {times} allocations failed\r\n");
        }
        assert!(unpinned(&log).is_ok());
        assert!(unpinned(&log.replace("pinning failed 2", "pinning failed 0")).is_err());
        assert!(unpinned(&log.replace("bed: 3", "bed: 0")).is_err());
        assert!(unpinned("").is_err());
    }
}
