// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Runs the whole driver natively, on functions of the NIC. `vfio-mig check` with a pair takes
//! states, streams and logs through the user's interface and judges each case; the short form of the
//! soak migrates a function under traffic, with cancels and faults, and compares all memory; random
//! calls are compared with a model, and must not disturb the migration of another function.

mod check;
mod isolation;
mod neighbours;
mod script;

use anyhow::{ensure, Result};

use self::script::{load, quiet, UNLOAD};
use super::{
    abreast::{self, Job},
    tally::{Context, Tally},
    width,
};
use crate::{
    artefacts::native::Flavour,
    fuzz,
    native::Bed,
    soak::{self, Figures},
    NicConfig,
};

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
vfio-mig mirror $both --cycles 2 --late-ranges --interrupt || fail interrupt
";

/// Address bits for that: those of the low region of `mirror`'s memory.
const NARROW: &str = "--iova-bits=32";

/// Migrations of the soak on a NIC that keeps its rules, and on one that does not.
const SOAKED: u32 = 24;
const LOSSY: u32 = 6;

/// Of the former, those that faults must not keep from coming to their end.
const LEAST_MOVED: u64 = 12;

/// The runs, the longest first; all but one are on the plain kernel. None depends on another one.
pub(super) fn run(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    let debug = &Bed::open(context.workshop, Flavour::Debug)?;
    let bed = &Bed::open(context.workshop, Flavour::Plain)?;
    let fuzz = |name: &str, sabotage| fuzz::short(bed, name, sabotage);
    let jobs = vec![
        Job::new("whole-debug", |tally| {
            check::all(debug, "whole-debug", MIRROR, tally)
        }),
        Job::new("whole-soak", |tally| soaked(bed, "whole-soak", tally)),
        Job::new("whole", |tally| check::all(bed, "whole", "", tally)),
        Job::one("whole-pieces", "REPORTs within a granule", |name| {
            pieces(bed, name)
        }),
        Job::one("whole-fuzz", "random calls", |name| fuzz(name, None)),
        Job::one(
            "whole-isolation",
            "random calls disturb no other function",
            |name| isolation::good(bed, name),
        ),
        Job::one(
            "whole-neighbours",
            "one user's trouble is not another's",
            |name| neighbours::run(bed, name),
        ),
        Job::one("whole-lossy", "a lossy NIC is seen", |name| {
            lossy(bed, name)
        }),
        Job::one("whole-isolation-broken", "a lossy NIC is seen", |name| {
            isolation::broken(bed, name)
        }),
        Job::one("whole-fuzz-broken", "a broken NIC is seen", |name| {
            fuzz(name, Some("state-bit-flip=1"))
        }),
        Job::one("whole-broken", "a broken NIC is seen", |name| {
            check::broken(bed, name)
        }),
    ];
    abreast::run(jobs, width::kernels(), tally, |line| println!("{line}"))
}

/// A NIC that loses entries of its log: the comparison has to find a page.
fn lossy(bed: &Bed, name: &str) -> Result<()> {
    let figures = soak::short(bed, name, LOSSY, Some("drop-log-entry=5"))?;
    let named = figures.failures.iter().any(|f| f.contains("pages lost"));
    ensure!(figures.lost > 0 && named, "no page is missed");
    Ok(())
}

fn pieces(bed: &Bed, name: &str) -> Result<()> {
    let config = NicConfig::new(2).args([NARROW]);
    let script = [&load(2), PIECES, UNLOAD].concat();
    quiet(bed, name, &script::run(bed, name, config, &script)?)
}

/// The checks of the soak; and it has to have done what it is for.
fn soaked(bed: &Bed, name: &str, tally: &mut Tally) -> Result<()> {
    let figures: Figures = soak::short(bed, name, SOAKED, None)?;
    let place = bed.results.join(name);
    for _ in 0..figures.passed {
        tally.pass();
    }
    for failure in &figures.failures {
        tally.fail(format!("{failure} (logs are here: {})", place.display()));
    }
    let name = format!("{name}: some of everything");
    tally.check(&name, some_of_everything(&figures));
    Ok(())
}

/// It came to as many ends as it is for, and to all kinds of them.
fn some_of_everything(figures: &Figures) -> Result<()> {
    ensure!(
        figures.moved >= LEAST_MOVED
            && figures.suffered > 0
            && figures.overflows > 0
            && !figures.given_up.is_empty(),
        "it lacks something: {figures:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_soak_that_refuses_most_migrations_is_red() {
        let of = |moved| {
            some_of_everything(&Figures {
                moved,
                suffered: 1,
                overflows: 1,
                given_up: BTreeMap::from([("p2p".into(), 1)]),
                ..Figures::default()
            })
        };
        assert!(of(LEAST_MOVED - 1).is_err());
        of(LEAST_MOVED).expect("enough");
    }
}
