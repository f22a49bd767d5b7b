// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Runs the whole driver natively, on functions of the NIC. `vfio-mig check` with a pair takes
//! states, streams and logs through the user's interface and judges each case; the short form of the
//! soak migrates a function under traffic, with cancels and faults, and compares all memory.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{ensure, Result};

use super::tally::{Context, Tally};
use crate::{
    artefacts::native::{Flavour, Native},
    fuzz,
    native::{complaints, Plugged, Run},
    soak::{self, Figures},
    NicConfig,
};

/// How long one run may take.
const LIMIT: Duration = Duration::from_secs(900);

/// Loads the driver and binds the two data functions.
const BIND: &str = "\
insmod /module.ko || fail insmod
for function in 0000:00:01.0 0000:00:02.0; do
    echo dlr_vfio_pci > /sys/bus/pci/devices/$function/driver_override
    echo $function > /sys/bus/pci/drivers_probe
done
";

/// The cases. Their deadline is for a busy machine.
const CHECK: &str = "\
vfio-mig check 0000:00:01.0 --pair 0000:00:02.0 --deadline 300 --format tap
";

/// Migrations there and back under traffic, with all memory compared after each. The kernel that checks
/// itself has these and not the soak: it keeps memory that was freed, and is slow.
const MIRROR: &str = "\
vfio-mig mirror 0000:00:01.0 0000:00:02.0 --cycles 20 --rounds 4 --interval 20 || fail mirror
";

/// The same with granules of 64 KiB and REPORTs that begin and end within them, with more memory than one
/// chunk of the driver's bitmap has, and with half of the memory or more beyond the address bits of the
/// log: START cannot name that, and each REPORT asks for it.
const PIECES: &str = "\
both='0000:00:01.0 0000:00:02.0 --rounds 4 --interval 20'
vfio-mig mirror $both --cycles 2 --late-ranges --page-size 64K --report-pages 37 || fail pieces
vfio-mig mirror $both --cycles 2 --late-ranges --page-size 2M --report-pages 700 || fail large
vfio-mig mirror $both --memory 128M --late-ranges || fail chunks
";

/// Address bits for that: those of the low region of `mirror`'s memory.
const NARROW: &str = "--iova-bits=32";

/// Migrations of the soak on a NIC that keeps its rules, and on one that does not.
const SOAKED: u32 = 24;
const LOSSY: u32 = 6;

/// Unbinds everything: nothing may be left of the sessions and logs.
const UNLOAD: &str = "rmmod dlr_vfio_pci || fail rmmod\n";

/// Cases that pass on a NIC with all abilities; a run with less is one that could not begin.
const MOST_CASES: usize = 170;

/// What a case says of itself: identifier, and whether it passed.
type Cases = BTreeMap<String, Outcome>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// The run on the plain kernel.
pub(super) fn run(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    let native = context.workshop.native(Flavour::Plain)?;
    // A NIC that damages each state on its way out: a named case has to see it.
    let broken = NicConfig::new(2).args(["--sabotage=state-bit-flip=1"]);
    let only = CHECK.replace("--format", "--only S11.good-stream --format");
    let log = one(
        context,
        &native,
        "whole-broken",
        broken,
        &[BIND, &only].concat(),
    )?;
    let seen = cases(&log).get("S11.good-stream") == Some(&Outcome::Failed);
    let verdict = || -> Result<()> {
        ensure!(
            seen,
            "the case S11.good-stream passes on a NIC that damages the stream"
        );
        Ok(())
    };
    tally.check("whole: a broken NIC is seen", verdict());
    // A NIC that loses entries of its log: the comparison has to find a page.
    let lossy = soak::short(
        context.workshop,
        "whole-lossy",
        LOSSY,
        Some("drop-log-entry=5"),
    )?;
    let seen = || -> Result<()> {
        let named = lossy.failures.iter().any(|f| f.contains("pages lost"));
        ensure!(lossy.lost > 0 && named, "no page is missed");
        Ok(())
    };
    tally.check("whole: a lossy NIC is seen", seen());
    let narrow = NicConfig::new(2).args([NARROW]);
    let script = [BIND, PIECES, UNLOAD].concat();
    let log = one(context, &native, "whole-pieces", narrow, &script)?;
    tally.check(
        "whole: REPORTs within a granule",
        quiet(context, "whole-pieces", &log),
    );
    let figures = soak::short(context.workshop, "whole-soak", SOAKED, None)?;
    soaked(context, &figures, tally);
    let fuzz = |name, sabotage| fuzz::short(context.workshop, &native, name, sabotage);
    tally.check("whole-fuzz: random calls", fuzz("whole-fuzz", None));
    let seen = fuzz("whole-fuzz-broken", Some("state-bit-flip=1"));
    tally.check("whole: random calls see a broken NIC", seen);
    check(context, &native, "whole", "", tally)
}

/// The checks of the soak; and it has to have done what it is for.
fn soaked(context: &Context<'_>, figures: &Figures, tally: &mut Tally) {
    let place = context.workshop.products().join("native/whole-soak");
    for _ in 0..figures.passed {
        tally.pass();
    }
    for failure in &figures.failures {
        tally.fail(format!("{failure} (logs are here: {})", place.display()));
    }
    let verdict = || -> Result<()> {
        ensure!(
            figures.moved > 0
                && figures.suffered > 0
                && figures.overflows > 0
                && !figures.given_up.is_empty(),
            "it lacks something: {figures:?}"
        );
        Ok(())
    };
    tally.check("whole-soak: some of everything", verdict());
}

/// The run on the kernel that checks itself.
pub(super) fn run_debug(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    let native = context.workshop.native(Flavour::Debug)?;
    check(context, &native, "whole-debug", MIRROR, tally)
}

/// The cases, and then the lines of `more`.
fn check(
    context: &Context<'_>,
    native: &Native,
    name: &str,
    more: &str,
    tally: &mut Tally,
) -> Result<()> {
    let script = [BIND, CHECK, more, UNLOAD].concat();
    let log = one(context, native, name, NicConfig::new(2), &script)?;
    let cases = cases(&log);
    for (id, outcome) in &cases {
        match outcome {
            Outcome::Passed => tally.pass(),
            // What the NIC has no use for: a device that can do everything.
            Outcome::Skipped => (),
            Outcome::Failed => tally.fail(format!("{name}: {id}")),
        }
    }
    tally.check(
        &format!("{name}: script and kernel log"),
        quiet(context, name, &log),
    );
    let verdict = || -> Result<()> {
        let passed = cases.values().filter(|o| **o == Outcome::Passed).count();
        ensure!(
            passed >= MOST_CASES || any_failed(&cases),
            "only {passed} cases were carried out"
        );
        Ok(())
    };
    tally.check(&format!("{name}: number of cases"), verdict());
    Ok(())
}

/// Neither the kernel nor the script complains.
fn quiet(context: &Context<'_>, name: &str, log: &str) -> Result<()> {
    let found = complaints(log);
    let place = context.workshop.products().join("native").join(name);
    ensure!(
        found.is_empty(),
        "{} (logs are here: {})",
        found.join("; "),
        place.display()
    );
    Ok(())
}

fn any_failed(cases: &Cases) -> bool {
    cases.values().any(|outcome| *outcome == Outcome::Failed)
}

fn one(
    context: &Context<'_>,
    native: &Native,
    name: &str,
    config: NicConfig,
    script: &str,
) -> Result<String> {
    let run = Run {
        machine: &native.machine,
        results: context.workshop.products().join("native"),
        name,
        module: &native.module,
        script,
        nic: Some(Plugged {
            programs: context.workshop.programs()?,
            config,
        }),
        limit: LIMIT,
    };
    run.run()
}

/// The result lines of TAP, `ok N - ID` and `not ok N - ID`.
fn cases(log: &str) -> Cases {
    let result = |line: &str| {
        let line = line.trim();
        let (rest, outcome) = match line.strip_prefix("not ok ") {
            Some(rest) => (rest, Outcome::Failed),
            None => (line.strip_prefix("ok ")?, Outcome::Passed),
        };
        let (number, id) = rest.split_once(" - ")?;
        number.parse::<u32>().ok()?;
        let outcome = match id.split_once(" # SKIP") {
            Some(_) => Outcome::Skipped,
            None => outcome,
        };
        let id = id.split_whitespace().next()?;
        Some((id.to_owned(), outcome))
    };
    log.lines().filter_map(result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cases_are_told_from_the_kernels() {
        let log = "[ 0.1] ok, fine\nTAP version 14\nok 1 - F1.flags\nnot ok 2 - S5.walk # x\n\
                   ok 3 - S2.none # SKIP the device has all\n";
        let cases = cases(log);
        assert_eq!(cases.len(), 3);
        assert_eq!(cases["F1.flags"], Outcome::Passed);
        assert_eq!(cases["S5.walk"], Outcome::Failed);
        assert_eq!(cases["S2.none"], Outcome::Skipped);
    }
}
