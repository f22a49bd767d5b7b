// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `make fuzz-driver`: `vfio-mig fuzz` in user-mode Linux, on four functions of one NIC at a time, boot
//! after boot. A boot makes the next part of the sequence that the seed gives, so that one that was
//! interrupted goes on.

mod boot;

use std::{
    fs,
    path::Path,
    time::{Instant, SystemTime},
};

use anyhow::{ensure, Context, Result};
use serde::{Deserialize, Serialize};

use self::boot::{boot, Site, FUNCTIONS};
use crate::{
    artefacts::{native::Flavour, Workshop},
    native::Bed,
};

/// Steps of a boot, on all functions together. Episodes of the tool have 64.
const STEPS: u64 = FUNCTIONS * 100 * 64;

/// What to make.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Steps.
    #[arg(long, default_value_t = 1_000_000)]
    pub steps: u64,
    /// Repeats a run. Without it one that was interrupted goes on, or the clock decides.
    #[arg(long)]
    pub seed: Option<u64>,
    /// On the kernel that checks itself.
    #[arg(long)]
    pub debug: bool,
}

/// How far it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    seed: u64,
    steps: u64,
    debug: bool,
    done: u64,
    seconds: f64,
    /// Damaged streams: refused and taken.
    refused: u64,
    taken: u64,
    failures: Vec<String>,
}

/// Makes all steps, or the rest of them. The last line counts the boots.
///
/// # Errors
///
/// Something could not be built, or a boot not be begun. What fails is in the answer.
pub fn run(workshop: &Workshop, options: &Options) -> Result<bool> {
    let flavour = match options.debug {
        true => Flavour::Debug,
        false => Flavour::Plain,
    };
    // A long run makes all boots with the same programs.
    let bed = Bed::open(workshop, flavour)?;
    let folder = workshop.products().join("fuzz-driver");
    fs::create_dir_all(&folder)?;
    let path = folder.join("state.json");
    let mut state = State {
        seed: options.seed.unwrap_or_else(clock),
        steps: options.steps,
        debug: options.debug,
        done: 0,
        seconds: 0.0,
        refused: 0,
        taken: 0,
        failures: Vec::new(),
    };
    if let Some(before) = read(&path).filter(|before| goes_on(&state, before, options.seed)) {
        println!("fuzz: goes on after step {}", before.done);
        state = before;
    }
    println!("fuzz: {} steps, SEED={}", state.steps, state.seed);
    let mut boots = 0;
    while state.done < state.steps && state.failures.is_empty() {
        let begin = Instant::now();
        let steps = STEPS.min(state.steps - state.done);
        let site = Site {
            bed: &bed,
            name: "fuzz-driver",
            sabotage: None,
        };
        let found = boot(&site, (state.seed, state.done, steps))?;
        state.done += steps;
        state.seconds += begin.elapsed().as_secs_f64();
        state.refused += found.refused;
        state.taken += found.taken;
        state.failures.extend(found.failures);
        boots += 1;
        fs::write(&path, serde_json::to_string(&state)?)?;
        println!(
            "fuzz: {} of {} steps, {:.0} s, {:.0} steps/s, damaged streams: {} refused, {} taken",
            state.done,
            state.steps,
            state.seconds,
            state.done as f64 / state.seconds,
            state.refused,
            state.taken
        );
    }
    fs::remove_file(&path).with_context(|| format!("{}", path.display()))?;
    for failure in &state.failures {
        println!("FAILED: {failure}");
    }
    let failed = u32::from(!state.failures.is_empty());
    println!("{} passed, {failed} failed", boots - failed);
    Ok(failed == 0)
}

/// Is `before` a part of what is asked for?
fn goes_on(asked: &State, before: &State, seed: Option<u64>) -> bool {
    (asked.steps, asked.debug) == (before.steps, before.debug)
        && seed.is_none_or(|seed| seed == before.seed)
        && before.failures.is_empty()
}

fn read(path: &Path) -> Option<State> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// The short form, in the layer `whole`: it has made some of everything. With `sabotage`, on a NIC
/// that breaks that rule: every function has to differ from the model.
///
/// # Errors
///
/// Something was wrong, or could not be begun.
pub fn short(bed: &Bed, name: &str, sabotage: Option<&str>) -> Result<()> {
    let site = Site {
        bed,
        name,
        sabotage,
    };
    let found = boot(&site, (SHORT_SEED, 0, SHORT_STEPS))?;
    if sabotage.is_some() {
        let all = u64::from(found.differ) == FUNCTIONS;
        ensure!(
            all,
            "the NIC breaks a rule, and that is not seen: {found:?}"
        );
        return Ok(());
    }
    ensure!(found.failures.is_empty(), "{}", found.failures.join("; "));
    ensure!(
        found.steps >= SHORT_STEPS && found.lacks().is_empty(),
        "it lacks {:?}: {found:?}",
        found.lacks()
    );
    Ok(())
}

/// Those of the short form.
const SHORT_SEED: u64 = 206;
const SHORT_STEPS: u64 = 5120;

fn clock() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_run_goes_on() {
        let state = |seed| State {
            seed,
            steps: 100,
            debug: false,
            done: 64,
            seconds: 1.0,
            refused: 0,
            taken: 0,
            failures: Vec::new(),
        };
        assert!(goes_on(&state(1), &state(7), None));
        assert!(!goes_on(&state(1), &state(7), Some(1)));
        let mut other = state(7);
        other.debug = true;
        assert!(!goes_on(&state(1), &other, None));
    }
}
