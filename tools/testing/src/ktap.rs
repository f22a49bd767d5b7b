// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Reads KUnit results (KTAP, Documentation/dev-tools/ktap.rst) out of a
//! kernel log or a results file of debugfs.

use std::collections::BTreeMap;

/// How one test case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// `ok`.
    Passed,
    /// `not ok`.
    Failed,
    /// `ok … # SKIP`.
    Skipped,
}

/// The cases of one suite.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suite {
    /// Each case's name and verdict, in order.
    pub cases: Vec<(String, Verdict)>,
    /// Whether the line that ends the suite was seen: without it the suite
    /// did not run to its end.
    pub complete: bool,
}

/// All suites in `log`, by name. Time stamps and log prefixes are ignored.
pub fn parse(log: &str) -> BTreeMap<String, Suite> {
    let mut suites: BTreeMap<String, Suite> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in log.lines() {
        let line = without_stamp(line.trim_end());
        let depth = line.len() - line.trim_start().len();
        let text = line.trim_start();
        if let Some(name) = text.strip_prefix("# Subtest: ") {
            // A case with parameters has subtests of its own, deeper.
            if depth <= 4 {
                current = Some(name.to_string());
                suites.insert(name.to_string(), Suite::default());
            }
            continue;
        }
        let Some((name, verdict)) = result_line(text) else {
            continue;
        };
        if depth == 0 {
            if let Some(suite) = suites.get_mut(&name) {
                suite.complete = true;
                // A suite may fail although each of its cases passed.
                let explained = suite.cases.iter().any(|c| c.1 == Verdict::Failed);
                if verdict == Verdict::Failed && !explained {
                    suite.cases.push(("(the suite itself)".into(), verdict));
                }
            }
            current = None;
        } else if depth <= 4 {
            if let Some(suite) = current.as_ref().and_then(|c| suites.get_mut(c)) {
                suite.cases.push((name, verdict));
            }
        }
    }
    suites
}

/// Removes `[    1.234567] ` and `<6>` from the start of a line.
fn without_stamp(line: &str) -> &str {
    let line = match line.strip_prefix('<').and_then(|l| l.split_once('>')) {
        Some((level, rest)) if level.chars().all(|c| c.is_ascii_digit()) => rest,
        _ => line,
    };
    match line.strip_prefix('[').and_then(|l| l.split_once("] ")) {
        Some((stamp, rest)) if stamp.trim().parse::<f64>().is_ok() => rest,
        _ => line,
    }
}

/// `ok 3 name`, `not ok 3 name`, with or without a directive.
fn result_line(text: &str) -> Option<(String, Verdict)> {
    let (rest, good) = match text.strip_prefix("not ok ") {
        Some(rest) => (rest, false),
        None => (text.strip_prefix("ok ")?, true),
    };
    let (number, rest) = rest.split_once(' ')?;
    number.parse::<u32>().ok()?;
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    let (name, directive) = rest.split_once(" # ").unwrap_or((rest, ""));
    let verdict = match (good, directive.to_ascii_uppercase().starts_with("SKIP")) {
        (_, true) => Verdict::Skipped,
        (true, false) => Verdict::Passed,
        (false, false) => Verdict::Failed,
    };
    Some((name.trim().to_string(), verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
[    3.100000] KTAP version 1
[    3.100001] 1..2
[    3.100002]     KTAP version 1
[    3.100003]     # Subtest: proto
[    3.100004]     # module: dlr_vfio_pci
[    3.100005]     1..3
[    3.100006]     ok 1 layout
[    3.100007]     # wrap: ASSERTION FAILED at ring.rs:7
[    3.100008]     not ok 2 wrap
[    3.100009]     ok 3 later # SKIP not built
[    3.100010] # proto: pass:1 fail:1 skip:1 total:3
[    3.100011] not ok 1 proto
[    3.100012]     KTAP version 1
[    3.100013]     # Subtest: fsm
[    3.100014]     1..2
[    3.100015]     ok 1 arcs
[    3.200000] BUG: unable to handle page fault
";

    #[test]
    fn cases_and_verdicts_are_read() {
        let suites = parse(LOG);
        let proto = suites.get("proto").cloned().unwrap_or_default();
        assert!(proto.complete);
        let verdicts: Vec<_> = proto.cases.iter().map(|c| c.1).collect();
        assert_eq!(
            verdicts,
            [Verdict::Passed, Verdict::Failed, Verdict::Skipped]
        );
    }

    #[test]
    fn a_suite_that_was_cut_short_is_not_complete() {
        let suites = parse(LOG);
        let fsm = suites.get("fsm").cloned().unwrap_or_default();
        assert!(!fsm.complete);
        assert_eq!(fsm.cases, [("arcs".to_string(), Verdict::Passed)]);
    }

    #[test]
    fn debugfs_results_without_stamps_are_read_too() {
        let suites = parse(
            "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: a\n    1..1\n    ok 1 x\nok 1 a\n",
        );
        assert_eq!(
            suites.get("a").map(|s| (s.cases.len(), s.complete)),
            Some((1, true))
        );
    }
}
