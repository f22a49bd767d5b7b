// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `vfio-mig check` with a pair: each of its cases counts as a test.

use std::collections::BTreeMap;

use anyhow::{ensure, Result};

use super::{
    super::tally::Tally,
    script::{load, quiet, run, UNLOAD},
};
use crate::{native::Bed, NicConfig};

/// The cases. Their deadline is for a busy machine.
const CHECK: &str = "\
vfio-mig check 0000:00:01.0 --pair 0000:00:02.0 --deadline 300 --format tap
";

/// Cases that pass on a NIC with all abilities. The number changes with the cases of `vfio-mig check`.
const PASSED: usize = 184;

/// Cases that are skipped: they are for devices that have less than ours.
const NOT_HERE: [&str; 2] = ["F4.v2-needs-pre-copy", "S2.not-advertised"];

/// What a case says of itself: identifier, and whether it passed.
type Cases = BTreeMap<String, Outcome>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// The cases, and then the lines of `more`.
///
/// # Errors
///
/// The run could not be begun, or the NIC has something left at its end.
pub(super) fn all(bed: &Bed, name: &str, more: &str, tally: &mut Tally) -> Result<()> {
    let script = [&load(2), CHECK, more, UNLOAD].concat();
    let log = run(bed, name, NicConfig::new(2), &script)?;
    let cases = cases(&log);
    for (id, outcome) in &cases {
        match outcome {
            Outcome::Passed => tally.pass(),
            // `complete` judges them.
            Outcome::Skipped => (),
            Outcome::Failed => tally.fail(format!("{name}: {id}")),
        }
    }
    tally.check(
        &format!("{name}: script and kernel log"),
        quiet(bed, name, &log),
    );
    tally.check(&format!("{name}: all cases"), complete(&cases));
    Ok(())
}

/// Every case was carried out but those that are for other devices.
///
/// # Errors
///
/// Says which was skipped, or how many are missing.
fn complete(cases: &Cases) -> Result<()> {
    let ended = |how| cases.iter().filter(move |(_, outcome)| **outcome == how);
    let skipped: Vec<_> = ended(Outcome::Skipped).map(|(id, _)| id.as_str()).collect();
    ensure!(
        skipped == NOT_HERE,
        "{skipped:?} were skipped, and not {NOT_HERE:?}"
    );
    let carried_out = ended(Outcome::Passed).count() + ended(Outcome::Failed).count();
    ensure!(
        carried_out == PASSED,
        "{carried_out} cases were carried out, and not {PASSED}"
    );
    Ok(())
}

/// A NIC that damages each state on its way out: a named case has to see it.
///
/// # Errors
///
/// It does not, or the run could not be begun.
pub(super) fn broken(bed: &Bed, name: &str) -> Result<()> {
    let config = NicConfig::new(2).args(["--sabotage=state-bit-flip=1"]);
    let only = CHECK.replace("--format", "--only S11.good-stream --format");
    let log = run(bed, name, config, &[load(2), only].concat())?;
    ensure!(
        cases(&log).get("S11.good-stream") == Some(&Outcome::Failed),
        "the case S11.good-stream passes on a NIC that damages the stream"
    );
    Ok(())
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
    #[test]
    fn no_case_is_skipped_or_missing_silently() {
        let all = |count: usize| -> Cases {
            let ran = (0..count).map(|n| (format!("x{n}"), Outcome::Passed));
            let skipped = NOT_HERE.map(|id| (id.to_owned(), Outcome::Skipped));
            ran.chain(skipped).collect()
        };
        complete(&all(PASSED)).expect("all of them");
        assert!(complete(&all(PASSED - 1)).is_err());
        assert!(complete(&all(PASSED + 1)).is_err());
        for outcome in [Outcome::Skipped, Outcome::Failed] {
            let mut cases = all(PASSED);
            cases.insert("x3".into(), outcome);
            assert_eq!(complete(&cases).is_err(), outcome == Outcome::Skipped);
        }
        let mut cases = all(PASSED);
        cases.insert(NOT_HERE[0].into(), Outcome::Passed);
        assert!(complete(&cases).is_err());
    }
}
