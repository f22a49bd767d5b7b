// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `make fuzz-driver`: `vfio-mig fuzz` in user-mode Linux, on four functions of one NIC at a time, boot
//! after boot. A boot makes the next part of the sequence that the seed gives, so that one that was
//! interrupted goes on.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{ensure, Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    artefacts::{
        native::{Flavour, Native},
        Workshop,
    },
    native::{complaints, Plugged, Run},
    NicConfig,
};

/// Functions. Each waits for most of its time: a reset takes a tenth of a second.
const FUNCTIONS: u64 = 4;

/// Steps of a boot, on all functions together. Episodes of the tool have 64.
const STEPS: u64 = FUNCTIONS * 100 * 64;

/// How long a boot may take.
const LIMIT: Duration = Duration::from_secs(7200);

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

/// Where a boot takes place.
struct Site<'a> {
    native: &'a Native,
    programs: &'a Path,
    /// The folder that holds those of all boots.
    results: PathBuf,
    /// Its own.
    name: &'a str,
    /// A rule that the NIC is to break.
    sabotage: Option<&'a str>,
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

/// What one boot has shown.
#[derive(Debug, Default)]
struct Found {
    /// Steps that were made.
    steps: u64,
    /// Damaged streams that were refused.
    refused: u64,
    /// Damaged streams that were taken.
    taken: u64,
    /// Functions that differ from the model.
    differ: u32,
    /// What was wrong: differences, complaints of the kernel, functions without a report.
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
    let native = workshop.native(flavour)?;
    // A long run makes all boots with the same programs.
    let programs = workshop.programs()?;
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
            native: &native,
            programs: &programs,
            results: workshop.products().join("native"),
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

/// Makes `steps` of the sequence that `seed` gives, from step `from` on, divided among the functions.
///
/// # Errors
///
/// The boot could not be begun, or the NIC has something left at its end.
fn boot(site: &Site<'_>, (seed, from, steps): (u64, u64, u64)) -> Result<Found> {
    let script = script(seed, from, steps.div_ceil(FUNCTIONS));
    // A small state: saving and loading it is what takes longest.
    let mut config = NicConfig::new(FUNCTIONS as u16).args(["--flow-table=16K"]);
    if let Some(sabotage) = site.sabotage {
        config = config.args([format!("--sabotage={sabotage}")]);
    }
    let run = Run {
        machine: &site.native.machine,
        results: site.results.clone(),
        name: site.name,
        module: &site.native.module,
        script: &script,
        nic: Some(Plugged {
            programs: site.programs.to_path_buf(),
            config,
        }),
        limit: LIMIT,
    };
    let mut found = judge(&run.run()?);
    if !found.failures.is_empty() {
        let place = site.results.join(site.name);
        let place = format!("logs are here: {}", place.display());
        found.failures.push(place);
    }
    Ok(found)
}

/// Loads the driver, fuzzes all functions, each with so many steps, and unloads it.
fn script(seed: u64, from: u64, steps: u64) -> String {
    let mut text = String::from("insmod /module.ko || fail insmod\n");
    let functions = || (1..=FUNCTIONS).map(|number| (number, format!("0000:00:{number:02x}.0")));
    for (_, function) in functions() {
        text += &format!(
            "echo dlr_vfio_pci > /sys/bus/pci/devices/{function}/driver_override\n\
             echo {function} > /sys/bus/pci/drivers_probe\n"
        );
    }
    for (number, function) in functions() {
        let from = from + (number - 1) * steps;
        text += &format!(
            "vfio-mig --json fuzz {function} --seed {seed} --from {from} --steps {steps} || \
             fail fuzz {function} &\n"
        );
    }
    text + "wait\nrmmod dlr_vfio_pci || fail rmmod\n"
}

/// Reads the log of a boot.
fn judge(log: &str) -> Found {
    let mut found = Found {
        failures: complaints(log),
        ..Found::default()
    };
    let reports: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line.trim()).ok())
        .filter(|report: &Value| report["seed"].is_u64())
        .collect();
    if reports.len() as u64 != FUNCTIONS {
        let words = format!("{} functions have a report", reports.len());
        found.failures.push(words);
    }
    for report in reports {
        let count = |value: &Value| value.as_u64().unwrap_or_default();
        let streams = &report["streams"];
        found.steps += count(&report["steps"]);
        found.refused += count(&streams["by_write"]) + count(&streams["by_arc"]);
        found.taken += count(&streams["same"]) + count(&streams["other"]);
        if !report["difference"].is_null() {
            found.differ += 1;
            found.failures.push(report.to_string());
        }
    }
    found
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
pub fn short(
    workshop: &Workshop,
    native: &Native,
    name: &str,
    sabotage: Option<&str>,
) -> Result<()> {
    let site = Site {
        native,
        programs: &workshop.programs()?,
        results: workshop.products().join("native"),
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
        found.steps >= SHORT_STEPS && found.refused > 0 && found.taken > 0,
        "it lacks something: {found:?}"
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

    const GOOD: &str = r#"{"seed":1,"steps":64,"difference":null,"streams":{"by_write":3,"by_arc":1,"same":2,"other":0}}"#;

    #[test]
    fn a_boot_is_good_only_with_all_reports_and_a_quiet_kernel() {
        let log = |reports: &[&str]| format!("[ 0.1] x\n{}\r\nbed: end\n", reports.join("\r\n"));
        let found = judge(&log(&[GOOD; 4]));
        assert!(found.failures.is_empty(), "{found:?}");
        assert_eq!((found.steps, found.refused, found.taken), (256, 16, 8));
        let other = GOOD.replace("null", r#"{"step":3}"#);
        for bad in [
            log(&[GOOD; 3]),
            log(&[GOOD; 4]).replace("bed: end", ""),
            log(&[GOOD, GOOD, GOOD, &other]),
            log(&[GOOD, GOOD, GOOD, GOOD, "BUG: KASAN: x"]),
        ] {
            assert_eq!(judge(&bad).failures.len(), 1, "{bad}");
        }
    }

    #[test]
    fn each_function_has_a_part() {
        let text = script(7, 640, 64);
        assert!(text.contains("fuzz 0000:00:01.0 --seed 7 --from 640 --steps 64"));
        assert!(text.contains("fuzz 0000:00:04.0 --seed 7 --from 832 --steps 64"));
        assert!(text.find("wait").unwrap() < text.find("rmmod").unwrap());
    }

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
