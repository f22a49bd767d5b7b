// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Runs the driver's KUnit suites natively: the kernel is a program of this machine. One layer is
//! the run on the plain kernel, another the runs on the kernel that checks itself, the last of
//! them while allocations of the driver fail. Each begins with controls: a module does wrong, and
//! has to be seen.

use std::{path::Path, time::Duration};

use anyhow::{ensure, Result};

use super::{
    abreast::{self, Job},
    kunit,
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

/// Suites run while the module loads.
const LOAD: &str = "insmod /module.ko || fail insmod\n";

/// After this only a leak holds memory of the driver.
const UNLOAD: &str = "rmmod dlr_vfio_pci || fail rmmod\n";

/// kmemleak reports what is older than 5 s (MSECS_MIN_AGE in mm/kmemleak.c). A pointer that is
/// being moved can hide from one scan, or stay behind in a register or on a stack, so what counts
/// is what a second scan still finds. What "swapper" has allocated, the kernel itself while it
/// boots, is left out: kmemleak does not look everywhere in user-mode Linux and names over a
/// hundred objects of it in a kernel that has loaded nothing.
const FIND_LEAKS: &str = "\
leaks=/sys/kernel/debug/kmemleak
sleep 6
echo scan > $leaks || fail kmemleak
echo scan > $leaks
awk '/^unreferenced/ { head = $0; show = 0; next }
     /^  comm / { show = !/comm \"swapper/; if (show) print head }
     show' $leaks
";

/// Runs the suites again, once for each interval: with interval N every Nth allocation fails
/// that has the module among its callers, also those that may sleep, but none of KUnit itself, which
/// warns of a failure while it reports a failed assertion. At the end all suites have to pass again.
/// (The text of a module of the large code model is `.ltext`.) The tests' errors do not count
/// meanwhile: most cases cannot do without memory. The suites of `slow` take a minute each on this
/// kernel and are left out meanwhile: they have cases of their own in which allocations fail.
const STARVE: &str = "\
attributes=/sys/kernel/debug/failslab
module=/sys/module/dlr_vfio_pci
slow='vfio_dirty_property vfio_ring_model'
start=$(cat $module/sections/.ltext)
set_to() { echo $2 > $attributes/$1 || fail failslab $1; }
again() {
    for suite in /sys/kernel/debug/kunit/*; do
        case \" $* \" in *\" ${suite##*/} \"*) continue; esac
        echo 1 > $suite/run
    done
}
report=$(awk '$3 == \"__kunit_do_failed_assertion\" { start = $1 \"\" }
    start && $1 \"\" > start { print \"0x\" start, \"0x\" $1; exit }' /proc/kallsyms)
set_to reject-start ${report% *}
set_to reject-end ${report#* }
set_to require-start $start
set_to require-end $((start + $(cat $module/coresize)))
set_to stacktrace-depth 32
set_to ignore-gfp-wait N
set_to cache-filter N
set_to verbose 0
set_to times 1000000
for interval in 1 2 3 4 5 6 7 8 9 10 11 13 17 19 23 29 31 37 41 47; do
    set_to interval $interval
    set_to probability 100
    again $slow
    set_to probability 0
done
echo bed: $((1000000 - $(cat $attributes/times))) allocations failed
again
";

/// Lets the next page allocation fail that has `iova_bitmap_set()` among its callers, which pins
/// pages of the user's bitmap there, and runs the suite of the log again; three times. Nothing else
/// of the suite fails, so all of its cases have to pass.
const UNPINNED: &str = "\
attributes=/sys/kernel/debug/fail_page_alloc
set_to() { echo $2 > $attributes/$1 || fail fail_page_alloc $1; }
text=$(awk '$3 == \"iova_bitmap_set\" { start = $1 \"\" }
    start && $1 \"\" > start { print \"0x\" start, \"0x\" $1; exit }' /proc/kallsyms)
suite=$(awk '/m2_what_could_not_be_pinned_is_told_by_the_next_report/ { print FILENAME; exit }' \
    /sys/kernel/debug/kunit/*/results)
suite=${suite%/results}
set_to require-start ${text% *}
set_to require-end ${text#* }
set_to stacktrace-depth 32
set_to ignore-gfp-wait N
set_to ignore-gfp-highmem N
set_to min-order 0
set_to verbose 0
set_to interval 1
for times in 1 2 3; do
    set_to times $times
    set_to probability 100
    echo 1 > $suite/run
    set_to probability 0
    echo bed: $((times - $(cat $attributes/times))) allocations failed
done
";

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
    let mut jobs = vec![
        Job::new("native-starved", |tally| {
            let script = [LOAD, STARVE, UNLOAD, FIND_LEAKS].concat();
            let log = suites(context, native, "native-starved", &script, tally)?;
            tally.check("native-starved: allocations failed", starved(&log));
            Ok(())
        }),
        Job::new("native-debug", |tally| {
            let script = [LOAD, UNLOAD, FIND_LEAKS].concat();
            suites(context, native, "native-debug", &script, tally).map(drop)
        }),
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
    let log = one(context, native, &native.module, name, script)?;
    kunit::judge(name, &expected, &ktap::parse(&log), tally);
    let found = complaints(&log);
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
    script: &str,
) -> Result<String> {
    let run = Run {
        machine: &native.machine,
        results: context.workshop.products().join("native"),
        name,
        module,
        script,
        nic: None,
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
            let red = is_red(&one(context, native, &native.control, name, &script)?);
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
