// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One boot: the kernel, the NIC, and `vfio-mig fuzz` on all of its functions.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use serde_json::Value;

use crate::{
    native::{complaints, Bed},
    NicConfig,
};

/// Functions. Each waits for most of its time: a reset takes a tenth of a second.
pub(super) const FUNCTIONS: u64 = 4;

/// How long a boot may take.
const LIMIT: Duration = Duration::from_secs(7200);

/// The kinds of episodes of `vfio-mig fuzz`, as its report calls them.
const KINDS: [&str; 4] = ["calls", "streams", "crowd", "writers"];

/// Where a boot takes place.
pub(super) struct Site<'a> {
    pub(super) bed: &'a Bed,
    /// Names its folder.
    pub(super) name: &'a str,
    /// A rule that the NIC is to break.
    pub(super) sabotage: Option<&'a str>,
}

/// What one boot has shown.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Steps that were made.
    pub(super) steps: u64,
    /// Episodes of each kind.
    pub(super) episodes: BTreeMap<String, u64>,
    /// Damaged streams that were refused.
    pub(super) refused: u64,
    /// Damaged streams that were taken.
    pub(super) taken: u64,
    /// Functions that differ from the model.
    pub(super) differ: u32,
    /// What was wrong: differences, complaints of the kernel, functions without a report.
    pub(super) failures: Vec<String>,
}

impl Found {
    /// Kinds of episodes that did not come, and kinds of ends of damaged streams.
    pub(super) fn lacks(&self) -> Vec<&'static str> {
        let came = |kind: &&str| self.episodes.get(*kind).is_some_and(|count| *count > 0);
        let mut lacks: Vec<_> = KINDS.into_iter().filter(|kind| !came(kind)).collect();
        for (count, what) in [(self.refused, "refused"), (self.taken, "taken")] {
            if count == 0 {
                lacks.push(what);
            }
        }
        lacks
    }
}

/// Makes `steps` of the sequence that `seed` gives, from step `from` on, divided among the functions.
///
/// # Errors
///
/// The boot could not be begun, or the NIC has something left at its end.
pub(super) fn boot(site: &Site<'_>, (seed, from, steps): (u64, u64, u64)) -> Result<Found> {
    let script = script(seed, from, steps.div_ceil(FUNCTIONS));
    // A small state: saving and loading it is what takes longest.
    let mut config = NicConfig::new(FUNCTIONS as u16).args(["--flow-table=16K"]);
    if let Some(sabotage) = site.sabotage {
        config = config.args([format!("--sabotage={sabotage}")]);
    }
    let run = site.bed.run(site.name, config, &script, LIMIT);
    let mut found = judge(&run.run()?);
    if !found.failures.is_empty() {
        let place = site.bed.results.join(site.name);
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
            "vfio-mig --json fuzz {function} --registers --seed {seed} --from {from} --steps {steps} \
             || fail fuzz {function} &\n"
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
        for (kind, episodes) in report["episodes"].as_object().into_iter().flatten() {
            *found.episodes.entry(kind.clone()).or_default() += count(episodes);
        }
        found.refused += count(&streams["by_write"]) + count(&streams["by_arc"]);
        found.taken += count(&streams["same"]) + count(&streams["other"]);
        if !report["difference"].is_null() {
            found.differ += 1;
            found.failures.push(report.to_string());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"seed":1,"steps":64,"difference":null,"episodes":{"calls":3,"streams":1,"writers":2},"streams":{"by_write":3,"by_arc":1,"same":2,"other":0}}"#;

    #[test]
    fn a_boot_is_good_only_with_all_reports_and_a_quiet_kernel() {
        let log = |reports: &[&str]| format!("[ 0.1] x\n{}\r\nbed: end\n", reports.join("\r\n"));
        let found = judge(&log(&[GOOD; 4]));
        assert!(found.failures.is_empty(), "{found:?}");
        assert_eq!((found.steps, found.refused, found.taken), (256, 16, 8));
        assert_eq!(found.lacks(), ["crowd"]);
        let crowd = GOOD.replace("calls\":3", "calls\":3,\"crowd\":1");
        let found = judge(&log(&[GOOD, GOOD, GOOD, &crowd]));
        assert_eq!(found.lacks(), [""; 0]);
        let none = crowd.replace("by_write\":3,\"by_arc\":1", "by_arc\":0");
        assert_eq!(judge(&log(&[none.as_str(); 4])).lacks(), ["refused"]);
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
        assert!(text.contains("fuzz 0000:00:01.0 --registers --seed 7 --from 640 --steps 64"));
        assert!(text.contains("fuzz 0000:00:04.0 --registers --seed 7 --from 832 --steps 64"));
        assert!(text.find("wait").unwrap() < text.find("rmmod").unwrap());
    }
}
