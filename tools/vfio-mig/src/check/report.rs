// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What came of it.

use serde::Serialize;

use super::{select::Expected, Case, Group};
use crate::{device::Backend, node::Node};

/// What became of one case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", content = "text", rename_all = "lowercase")]
pub enum Status {
    /// The device does it right.
    Pass,
    /// A deviation: what was seen.
    Fail(String),
    /// It cannot be seen on this device: why.
    Skip(String),
    /// It could not be carried out, or did not end: why.
    Error(String),
}

/// One case and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// Identifier of the case.
    pub id: String,
    /// Its group.
    pub group: Group,
    /// What the uAPI says.
    pub rationale: &'static str,
    /// What became of it.
    #[serde(flatten)]
    pub status: Status,
    /// No deviations, but worth a word.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Milliseconds that it took, putting the device right included.
    pub ms: f64,
}

impl CaseResult {
    /// Of a case that was not begun.
    pub fn not_run(case: &Case, why: &str) -> Self {
        Self {
            id: case.id.clone(),
            group: case.group,
            rationale: case.rationale,
            status: Status::Error(format!("not run: {why}")),
            notes: Vec::new(),
            ms: 0.0,
        }
    }
}

/// The device that was checked.
#[derive(Clone, Debug, Serialize)]
pub struct Subject {
    /// Its place in sysfs.
    #[serde(flatten)]
    pub node: Node,
    /// How it was opened.
    pub backend: Backend,
    /// Its migration flags, by name.
    pub migration_flags: Vec<String>,
    /// Has it DMA logging?
    pub dma_logging: bool,
    /// Release of the kernel.
    pub kernel: String,
    /// The second device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair: Option<String>,
}

/// How many cases ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Right.
    pub passed: usize,
    /// Deviations that are not known.
    pub failed: usize,
    /// Deviations that are known (`--expect`).
    pub known: usize,
    /// Not on this device.
    pub skipped: usize,
    /// Not carried out.
    pub errors: usize,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// What was checked.
    pub subject: Subject,
    /// `--seed` of this run.
    pub seed: u64,
    /// The cases, in the order in which they ran.
    pub results: Vec<CaseResult>,
    /// Deviations that were expected.
    #[serde(skip)]
    pub expected: Expected,
    /// Expected deviations that did not show, and why not.
    pub missed: Vec<Missed>,
    /// How many ended how.
    pub counts: Counts,
}

/// An expected deviation that did not show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missed {
    /// Identifier of the case.
    pub id: String,
    /// What became of it instead.
    pub instead: &'static str,
}

impl Checked {
    /// Compares what came with what was expected. Expected cases that were not selected do not
    /// count; `exists` tells them from those that no longer exist.
    pub fn new(
        subject: Subject,
        seed: u64,
        results: Vec<CaseResult>,
        expected: Expected,
        exists: impl Fn(&str) -> bool,
    ) -> Self {
        let mut counts = Counts::default();
        for result in &results {
            let known = expected.0.contains_key(&result.id);
            *match result.status {
                Status::Pass => &mut counts.passed,
                Status::Fail(_) if known => &mut counts.known,
                Status::Fail(_) => &mut counts.failed,
                Status::Skip(_) => &mut counts.skipped,
                Status::Error(_) => &mut counts.errors,
            } += 1;
        }
        let miss = |id: &String| {
            let result = results.iter().find(|result| result.id == *id);
            let instead = match result.map(|result| &result.status) {
                Some(Status::Pass) => "it passed",
                Some(Status::Skip(_)) => "it was skipped",
                Some(Status::Error(_)) => "it could not be carried out",
                Some(Status::Fail(_)) => return None,
                None if exists(id) => return None,
                None => "there is no such case",
            };
            Some(Missed {
                id: id.clone(),
                instead,
            })
        };
        Self {
            missed: expected.0.keys().filter_map(miss).collect(),
            subject,
            seed,
            results,
            expected,
            counts,
        }
    }

    /// Is this deviation a known one?
    pub fn is_known(&self, id: &str) -> bool {
        self.expected.0.contains_key(id)
    }

    /// The tool's exit code: 1 for deviations other than those expected, else 2 when something
    /// could not be carried out, else 0.
    pub fn exit_code(&self) -> u8 {
        if self.counts.failed > 0 || !self.missed.is_empty() {
            1
        } else if self.counts.errors > 0 {
            2
        } else {
            0
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn checked(statuses: &[(&str, Status)], expected: &str) -> Checked {
        let subject = Subject {
            node: Node {
                name: "0000:00:05.0".into(),
                path: "/".into(),
                driver: Some("some".into()),
                group: Some(1),
                vfio: true,
                ..Node::default()
            },
            backend: Backend::Legacy,
            migration_flags: vec!["STOP_COPY".into()],
            dma_logging: true,
            kernel: "7.3".into(),
            pair: None,
        };
        let results = statuses.iter().map(|(id, status)| CaseResult {
            id: (*id).to_owned(),
            group: Group::Feature,
            rationale: "uapi:1 says so",
            status: status.clone(),
            notes: Vec::new(),
            ms: 1.5,
        });
        let expected = Expected::parse(expected).unwrap();
        Checked::new(subject, 7, results.collect(), expected, |id| {
            id == "F9.other"
        })
    }

    #[test]
    fn only_the_expected_deviations_are_well() {
        let fail = || Status::Fail("seen".into());
        let exit = |statuses: &[(&str, Status)], expected| checked(statuses, expected).exit_code();
        assert_eq!(exit(&[("F1.a", Status::Pass)], ""), 0);
        assert_eq!(exit(&[("F1.a", fail())], ""), 1);
        assert_eq!(exit(&[("F1.a", fail())], "F1.a # why"), 0);
        assert_eq!(exit(&[("F1.a", Status::Pass)], "F1.a"), 1);
        assert_eq!(exit(&[("F1.a", Status::Skip("-".into()))], "F1.a"), 1);
        assert_eq!(exit(&[("F1.a", Status::Pass)], "F9.other"), 0);
        assert_eq!(exit(&[("F1.a", Status::Pass)], "F9.gone"), 1);
        assert_eq!(exit(&[("F1.a", Status::Error("late".into()))], ""), 2);
        let both = [("F1.a", fail()), ("F1.b", Status::Error("late".into()))];
        assert_eq!(exit(&both, ""), 1);
        assert_eq!(exit(&both, "F1.a"), 2);
    }
}
