// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Runs the driver's KUnit suites in a host box. A suite that the sources have
//! and the kernel did not run is a failure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Result};

use super::tally::{Context, Tally};
use crate::{
    hostbox::{BoxConfig, HostBox},
    ktap::{self, Suite, Verdict},
};

/// Suites of property tests. They take a minute each on a native kernel that checks itself, and several
/// in a box with such a kernel.
pub(super) const SLOW: &[&str] = &["vfio_dirty_property", "vfio_ring_model"];

/// With it the suites do not run when the module loads.
pub(super) const NO_AUTORUN: &str = "kunit.autorun=0";

/// How long the suites may take.
const LIMIT: Duration = Duration::from_secs(180);

/// Loads the driver in a box without a NIC and counts its test cases.
pub(super) fn run(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    let expected = suites_of(context)?;
    let host = HostBox::start_with(BoxConfig::new("kunit"), context.artefacts()?)?;
    host.load_driver("")?;
    finish(host, "kunit", &expected, tally)
}

/// The same on a kernel that checks itself, without the suites of property tests.
pub(super) fn run_debug(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    let name = "kunit-debug";
    let mut expected = suites_of(context)?;
    expected.retain(|suite| !SLOW.contains(&suite.as_str()));
    let config = BoxConfig::new(name).kernel_arg(NO_AUTORUN);
    let host = HostBox::start_with(config, context.artefacts()?)?;
    host.load_driver("")?;
    for suite in &expected {
        host.run(&format!("echo 1 > /sys/kernel/debug/kunit/{suite}/run"))?;
    }
    finish(host, name, &expected, tally)
}

/// Counts the cases of a box in which the suites run or have run.
fn finish(host: HostBox, name: &str, expected: &BTreeSet<String>, tally: &mut Tally) -> Result<()> {
    let suites = gather(&host, expected)?;
    host.run("rmmod dlr_vfio_pci")?;
    judge(name, expected, &suites, tally);
    tally.check(&format!("{name}: kernel log"), host.finish());
    Ok(())
}

/// Suites run while the module loads; the log reaches us a moment later.
fn gather(host: &HostBox, expected: &BTreeSet<String>) -> Result<BTreeMap<String, Suite>> {
    let end = Instant::now() + LIMIT;
    loop {
        let suites = ktap::parse(&host.kernel_log()?);
        let complete = |name| suites.get(name).is_some_and(|s: &Suite| s.complete);
        if expected.iter().all(complete) || Instant::now() > end {
            return Ok(suites);
        }
        // insmod returned, so only what never ran is missing for long.
        thread::sleep(Duration::from_millis(500));
        let settled = ktap::parse(&host.kernel_log()?);
        if settled == suites {
            return Ok(suites);
        }
    }
}

/// Counts the cases of the expected suites; `run` names where they ran.
pub(super) fn judge(
    run: &str,
    expected: &BTreeSet<String>,
    suites: &BTreeMap<String, Suite>,
    tally: &mut Tally,
) {
    for name in expected {
        match suites.get(name) {
            None => tally.fail(format!("{run}: KUnit suite {name} did not run")),
            Some(suite) if !suite.complete => {
                tally.fail(format!("{run}: KUnit suite {name} did not run to its end"));
            }
            Some(_) => {}
        }
    }
    // The kernel's own suites are its business.
    for (name, suite) in suites.iter().filter(|(name, _)| expected.contains(*name)) {
        for (case, verdict) in &suite.cases {
            println!("{run} {name}.{case} ... {verdict:?}");
            match verdict {
                Verdict::Passed => tally.pass(),
                Verdict::Failed => tally.fail(format!("{run}: KUnit {name}.{case}")),
                Verdict::Skipped => tally.skipped += 1,
            }
        }
    }
}

/// Names of the suites in the driver's source.
pub(super) fn suites_of(context: &Context<'_>) -> Result<BTreeSet<String>> {
    let expected = expected_suites(&context.workshop.tree().join("drivers"))?;
    ensure!(!expected.is_empty(), "the driver has no KUnit suite");
    Ok(expected)
}

/// Names in `#[kunit_tests(NAME)]` below a folder.
fn expected_suites(folder: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            names.extend(expected_suites(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            names.extend(suites_in(&fs::read_to_string(&path)?));
        }
    }
    Ok(names)
}

fn suites_in(source: &str) -> Vec<String> {
    source
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("#["))
        .filter_map(|line| line.split_once("kunit_tests(")?.1.split_once(')'))
        .map(|(name, _)| name.trim().to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_found_in_sources() {
        let source = "#[kunit_tests(dlr_ring)]\nmod tests {}\n// #[kunit_tests(no)]\n\
                      #[kernel::macros::kunit_tests(dlr_fsm)]\n";
        assert_eq!(suites_in(source), ["dlr_ring", "dlr_fsm"]);
    }

    #[test]
    fn a_suite_that_did_not_run_is_a_failure() {
        let expected = ["a", "b"].map(String::from).into();
        let log = "    # Subtest: a\n    ok 1 x\nok 1 a\n";
        let mut tally = Tally::default();
        judge("kunit", &expected, &ktap::parse(log), &mut tally);
        assert_eq!((tally.passed, tally.failed), (1, 1));
        assert!(tally.failures.iter().any(|f| f.contains("b did not run")));
    }
}
