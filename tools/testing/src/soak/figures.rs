// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a soak counts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::memory::Growth;

/// Of so many runs one may be broken off by a fault. In the soaks of `Documentation/testing.rst` none was.
const BROKEN_OFF_IN: u32 = 20;

/// Counts of a boot, or of many.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Boots of the kernel.
    pub boots: u32,
    /// Times that the driver was loaded.
    pub loads: u32,
    /// Runs of `vfio-mig mirror`.
    pub runs: u32,
    /// Runs that a fault kept from being carried out to their end.
    pub broken_off: u32,
    /// Migrations that came to their end.
    pub moved: u64,
    /// Migrations in which a call was refused.
    pub refused: u64,
    /// Migrations that were given up, by the point.
    pub given_up: BTreeMap<String, u64>,
    /// Of those refused and given up: how many functions had to be reset.
    pub set_up_anew: u64,
    /// Faults that were set, by kind.
    pub set: BTreeMap<String, u64>,
    /// Faults that commands and registers have suffered.
    pub suffered: u64,
    /// Pages that the log named.
    pub named: u64,
    /// Pages that were copied in rounds.
    pub copied: u64,
    /// Pages that were compared.
    pub compared: u64,
    /// Pages that were lost.
    pub lost: u64,
    /// Pages that the NIC has logged.
    pub logged: u64,
    /// LOST entries of the NIC.
    pub overflows: u64,
    /// Times that the NIC held work back.
    pub holds: u64,
    /// Rounds in which all memory counted as dirty.
    pub all_dirty: u64,
    /// Answers that the guests checked after migrations.
    pub answers: u64,
    /// Times without a function in milliseconds, in runs without faults.
    pub stopped_ms: Vec<f64>,
    /// The longest one in runs with faults.
    pub stopped_with_faults_ms: f64,
    /// Resets of the management function by CONTROL.
    pub resets: u64,
    /// Function-level resets of the management function.
    pub flrs: u64,
    /// Memory of the kernel that was gone at the end of a boot: the most of all boots.
    pub growth: Growth,
    /// Checks that passed.
    pub passed: u32,
    /// What did not, one line each.
    pub failures: Vec<String>,
}

impl Figures {
    /// Counts a check.
    pub(super) fn check(&mut self, what: &str, found: Vec<String>) {
        if found.is_empty() {
            self.passed += 1;
        } else {
            self.failures.push(format!("{what}: {}", found.join("; ")));
        }
    }

    /// A fault may keep a run from being carried out, but seldom: it is meant to disturb migrations.
    /// Returns what is wrong.
    pub(super) fn broken_off_too_often(&self) -> Vec<String> {
        let (broken_off, runs) = (self.broken_off, self.runs);
        if broken_off.saturating_mul(BROKEN_OFF_IN) > runs {
            vec![format!(
                "{broken_off} of {runs} runs were broken off by a fault"
            )]
        } else {
            Vec::new()
        }
    }

    /// Migrations of any ending but those given up on purpose.
    pub fn migrations(&self) -> u64 {
        self.moved + self.refused
    }

    pub(super) fn add(&mut self, other: Self) {
        let Self {
            boots,
            loads,
            runs,
            broken_off,
            moved,
            refused,
            given_up,
            set_up_anew,
            set,
            suffered,
            named,
            copied,
            compared,
            lost,
            logged,
            overflows,
            holds,
            all_dirty,
            answers,
            stopped_ms,
            stopped_with_faults_ms,
            resets,
            flrs,
            growth,
            passed,
            failures,
        } = other;
        self.boots += boots;
        self.loads += loads;
        self.runs += runs;
        self.broken_off += broken_off;
        self.moved += moved;
        self.refused += refused;
        self.set_up_anew += set_up_anew;
        self.suffered += suffered;
        self.named += named;
        self.copied += copied;
        self.compared += compared;
        self.lost += lost;
        self.logged += logged;
        self.overflows += overflows;
        self.holds += holds;
        self.all_dirty += all_dirty;
        self.answers += answers;
        self.stopped_ms.extend(stopped_ms);
        self.stopped_with_faults_ms = self.stopped_with_faults_ms.max(stopped_with_faults_ms);
        self.resets += resets;
        self.flrs += flrs;
        self.growth = self.growth.most(growth);
        self.passed += passed;
        self.failures.extend(failures);
        merge(&mut self.given_up, given_up);
        merge(&mut self.set, set);
    }

    /// Median and worst time without a function in runs without faults, in milliseconds.
    pub fn stopped(&self) -> Option<(f64, f64)> {
        let mut sorted = self.stopped_ms.clone();
        sorted.sort_by(f64::total_cmp);
        Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
    }
}

fn merge(into: &mut BTreeMap<String, u64>, from: BTreeMap<String, u64>) {
    for (name, count) in from {
        *into.entry(name).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_both() {
        let one = |moved, ms| Figures {
            moved,
            stopped_ms: vec![ms],
            stopped_with_faults_ms: ms,
            given_up: BTreeMap::from([("p2p".into(), moved)]),
            failures: vec![format!("f{moved}")],
            ..Figures::default()
        };
        let mut sum = one(1, 5.0);
        sum.add(one(2, 9.0));
        sum.add(one(4, 7.0));
        assert_eq!((sum.moved, sum.given_up["p2p"]), (7, 7));
        assert_eq!(sum.stopped(), Some((7.0, 9.0)));
        assert_eq!(sum.stopped_with_faults_ms, 9.0);
        assert_eq!(sum.failures, ["f1", "f2", "f4"]);
        assert_eq!(Figures::default().stopped(), None);
    }

    #[test]
    fn few_runs_are_broken_off() {
        let of = |runs, broken_off| {
            let figures = Figures {
                runs,
                broken_off,
                ..Figures::default()
            };
            figures.broken_off_too_often().len()
        };
        assert_eq!([of(0, 0), of(11, 0), of(20, 1), of(415, 20)], [0; 4]);
        assert_eq!([of(1, 1), of(11, 1), of(19, 1), of(415, 21)], [1; 4]);
    }

    #[test]
    fn they_survive_the_file() {
        let mut figures = Figures::default();
        figures.check("a", vec![]);
        figures.check("b", vec!["x".into(), "y".into()]);
        let text = serde_json::to_string(&figures).expect("text");
        assert_eq!(
            serde_json::from_str::<Figures>(&text).expect("figures"),
            figures
        );
        assert_eq!((figures.passed, &*figures.failures[0]), (1, "b: x; y"));
    }
}
