// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `make soak`: thousands of migrations by `vfio-mig mirror` in user-mode Linux, with all that can be
//! varied there varied at random.
//!
//! | module | knows |
//! | --- | --- |
//! | `random`, `schedule`, `fault` | what is varied when: pure, from a seed |
//! | `script` | the kernel's side of a boot |
//! | `attend` | this side of it: sets the faults |
//! | `boot` | one boot |
//! | `judge`, `memory` | what is right and what is not |
//! | [`figures`], `report` | what is counted, and how it is said |
//! | `state` | the file of a soak that was interrupted |

mod attend;
mod boot;
mod fault;
pub mod figures;
mod judge;
pub mod memory;
mod random;
mod report;
mod schedule;
mod script;
mod state;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};

use crate::{
    artefacts::{native::Flavour, Workshop},
    native::Bed,
};
use boot::{boot, Site};
pub use figures::Figures;
use schedule::Schedule;
use script::Event;
use state::State;

/// Time between two lines of progress.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What to soak.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Migrations.
    #[arg(long, default_value_t = 1000)]
    pub migrations: u32,
    /// Repeats a soak. Without it one that was interrupted goes on, or the clock decides.
    #[arg(long)]
    pub seed: Option<u64>,
    /// A rule that the NIC is to break, `KIND=N`: the soak has to fail.
    #[arg(long)]
    pub sabotage: Option<String>,
}

/// Runs a soak, or the rest of one that was interrupted, and prints the report; the last line counts
/// the checks.
///
/// # Errors
///
/// Something could not be built, or a boot not be begun. What fails is in the answer.
pub fn run(workshop: &Workshop, options: &Options) -> Result<Figures> {
    let bed = Bed::open(workshop, Flavour::Plain)?;
    let files = [
        bed.native.module.clone(),
        bed.programs.join("vfio-mig"),
        bed.programs.join("dlr-nic"),
    ];
    let folder = workshop.products().join("soak");
    fs::create_dir_all(&folder)?;
    let path = folder.join("state.json");
    let mut state = State {
        seed: options.seed.unwrap_or_else(clock),
        migrations: options.migrations,
        sabotage: options.sabotage.clone(),
        build: state::build(files.iter().map(PathBuf::as_path))?,
        boots: 0,
        figures: Figures::default(),
    };
    if let Some(before) = State::read(&path)?.filter(|b| state.goes_on(b, options.seed)) {
        println!("soak: goes on after boot {}", before.boots);
        state = before;
    }
    let schedule = Schedule::new(state.seed, state.migrations);
    println!(
        "soak: {} migrations in {} boots, SEED={}",
        state.migrations,
        schedule.boots(),
        state.seed
    );
    let start = Instant::now();
    while state.boots < schedule.boots() {
        let site = Site {
            bed: &bed,
            name: format!("soak-{}", state.boots),
            sabotage: options.sabotage.as_deref(),
        };
        let mut done = schedule.before(state.boots);
        let failed = state.figures.failures.len();
        let mut said = Instant::now();
        let mut progress = |event: &Event<'_>| {
            if let Event::Step(step) = event {
                done += step.cycles;
            }
            if said.elapsed() >= REPORT_EVERY {
                said = Instant::now();
                println!(
                    "soak: {done} of {} migrations, {failed} failed in boots that are over, {} s",
                    schedule.migrations,
                    start.elapsed().as_secs()
                );
            }
        };
        let figures = boot(&site, &schedule.boot(state.boots), &mut progress)?;
        if !figures.failures.is_empty() {
            println!(
                "soak: {} failed (logs are here: {})",
                figures.failures.len(),
                bed.results.join(&site.name).display()
            );
        }
        state.figures.add(figures);
        state.boots += 1;
        state.write(&path)?;
    }
    fs::remove_file(&path).with_context(|| format!("{}", path.display()))?;
    let mut figures = state.figures;
    let often = figures.broken_off_too_often();
    figures.check("the soak", often);
    let text = report::text(&figures);
    fs::write(folder.join("report.txt"), &text)?;
    for failure in &figures.failures {
        println!("FAILED: {failure}");
    }
    if !figures.failures.is_empty() {
        println!(
            "the same again: make soak MIGRATIONS={} SEED={}",
            state.migrations, state.seed
        );
    }
    print!("{text}");
    println!(
        "{} passed, {} failed",
        figures.passed,
        figures.failures.len()
    );
    Ok(figures)
}

/// A short form in one boot called `name`; with `sabotage`, on a NIC that breaks that rule.
///
/// # Errors
///
/// As [`run`].
pub fn short(bed: &Bed, name: &str, migrations: u32, sabotage: Option<&str>) -> Result<Figures> {
    let site = Site {
        bed,
        name: name.into(),
        sabotage,
    };
    let schedule = Schedule::short(SHORT_SEED, migrations, migrations.div_ceil(SHORT_LOADS));
    let mut figures = boot(&site, &schedule.boot(0), &mut |_| {})?;
    let often = figures.broken_off_too_often();
    figures.check(name, often);
    Ok(figures)
}

/// That of the short form, whose schedule has some of everything.
const SHORT_SEED: u64 = 99;

/// Loads of the short form.
const SHORT_LOADS: u32 = 3;

fn clock() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What the schedule lacks of what the layer `whole` relies on.
    fn lacks(loads: &[schedule::Load]) -> Vec<&'static str> {
        let steps: Vec<_> = loads.iter().flat_map(|load| &load.steps).collect();
        let points: BTreeSet<_> = steps.iter().flat_map(|step| &step.cancels).collect();
        let kinds: BTreeSet<_> = steps
            .iter()
            .flat_map(|step| step.faults.iter().map(fault::Fault::kind))
            .collect();
        let clean = |step: &&&schedule::Step| step.faults.is_empty();
        [
            (
                "a ring that overflows",
                loads.iter().any(|load| load.ring_order == 4 && !load.hold),
            ),
            (
                "a NIC that holds work back",
                loads.iter().any(|load| load.hold),
            ),
            ("each point", points.len() == schedule::POINTS.len()),
            (
                "calls of Cloud Hypervisor",
                steps.iter().filter(clean).any(|step| step.cloud),
            ),
            (
                "larger granules",
                steps.iter().filter(clean).any(|step| step.granule > 4),
            ),
            ("features", steps.iter().any(|step| step.full_features)),
            (
                "resets or late ranges",
                steps.iter().any(|step| step.reset || step.late_ranges),
            ),
            ("slow commands", kinds.contains("slow command")),
            ("refused commands", kinds.contains("refused command")),
            ("other faults", kinds.len() >= 4),
        ]
        .into_iter()
        .filter_map(|(what, there)| (!there).then_some(what))
        .collect()
    }

    #[test]
    fn the_short_form_has_some_of_everything() {
        let short = |seed| Schedule::short(seed, 24, 24_u32.div_ceil(SHORT_LOADS)).boot(0);
        let good = (1..10_000).find(|seed| lacks(&short(*seed)).is_empty());
        let lacking = lacks(&short(SHORT_SEED));
        assert!(
            lacking.is_empty(),
            "it lacks {lacking:?}; a SHORT_SEED that has all: {good:?}"
        );
        assert_eq!(short(SHORT_SEED).len(), SHORT_LOADS as usize);
    }
}
