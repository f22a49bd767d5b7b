// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The report for people, as TAP, JUnit and JSON.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use clap::ValueEnum;

use super::report::{CaseResult, Checked, Status};

/// How to print the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: grouped, with colours on a terminal.
    Human,
    /// Test Anything Protocol, version 14.
    Tap,
    /// JUnit XML.
    Junit,
    /// One JSON object.
    Json,
}

/// The whole report as text.
///
/// # Errors
///
/// It cannot be written in this format.
pub fn render(report: &Checked, format: Format, colour: bool) -> Result<String> {
    Ok(match format {
        Format::Human => human(report, colour),
        Format::Tap => tap(report),
        Format::Junit => junit(report)?,
        Format::Json => serde_json::to_string(report)? + "\n",
    })
}

fn human(report: &Checked, colour: bool) -> String {
    let paint = |colour_of: AnsiColor, text: &str| {
        if colour {
            let style = Style::new().fg_color(Some(colour_of.into()));
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    };
    let (mut text, mut group) = (String::new(), None);
    let subject = &report.subject;
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} ({}, {:?}), migration {}, logging {}, Linux {}, seed {}",
        subject.node.name,
        subject.node.driver.as_deref().unwrap_or("-"),
        subject.backend,
        match subject.migration_flags.as_slice() {
            [] => "none".to_owned(),
            flags => flags.join("|"),
        },
        if subject.dma_logging { "yes" } else { "no" },
        subject.kernel,
        report.seed,
    );
    for result in &report.results {
        if group.replace(result.group) != Some(result.group) {
            let _ = writeln!(text, "\n{}", result.group);
        }
        let (mark, why) = match &result.status {
            Status::Pass => (paint(AnsiColor::Green, "pass "), ""),
            Status::Fail(_) if report.is_known(&result.id) => {
                (paint(AnsiColor::Yellow, "known"), "")
            }
            Status::Fail(_) => (paint(AnsiColor::Red, "FAIL "), ""),
            Status::Skip(why) => (paint(AnsiColor::Cyan, "skip "), why.as_str()),
            Status::Error(why) => (paint(AnsiColor::Magenta, "ERROR"), why.as_str()),
        };
        let line = format!("  {mark}  {:36}  {why}", result.id);
        let _ = writeln!(text, "{}", line.trim_end());
        for note in &result.notes {
            let _ = writeln!(text, "           note: {note}");
        }
    }
    deviations(&mut text, report);
    let counts = report.counts;
    let _ = writeln!(
        text,
        "\n{} passed, {} deviations, {} known, {} skipped, {} not carried out",
        counts.passed, counts.failed, counts.known, counts.skipped, counts.errors
    );
    text
}

fn deviations(text: &mut String, report: &Checked) {
    for result in &report.results {
        let Status::Fail(seen) = &result.status else {
            continue;
        };
        let known = report.expected.0.get(&result.id);
        let word = known.map_or("DEVIATION", |_| "known deviation");
        let _ = writeln!(text, "\n{word} {}", result.id);
        let _ = writeln!(text, "  seen:     {seen}");
        let _ = writeln!(text, "  the uAPI: {}", result.rationale);
        if let Some(why) = known.filter(|why| !why.is_empty()) {
            let _ = writeln!(text, "  known:    {why}");
        }
    }
    for missed in &report.missed {
        let _ = writeln!(
            text,
            "\nEXPECTED DEVIATION {} DID NOT SHOW: {}",
            missed.id, missed.instead
        );
    }
}

fn tap(report: &Checked) -> String {
    let mut text = format!("TAP version 14\n1..{}\n", report.results.len());
    for (at, result) in report.results.iter().enumerate() {
        let (ok, directive) = match &result.status {
            Status::Pass => ("ok", String::new()),
            Status::Skip(why) => ("ok", format!(" # SKIP {why}")),
            Status::Fail(_) if report.is_known(&result.id) => {
                ("not ok", " # TODO known deviation".to_owned())
            }
            Status::Fail(_) | Status::Error(_) => ("not ok", String::new()),
        };
        let _ = writeln!(text, "{ok} {} - {}{directive}", at + 1, result.id);
        if let Some(message) = message(result) {
            // JSON strings are YAML strings.
            let quote = |s: &str| serde_json::Value::from(s).to_string();
            let _ = writeln!(text, "  ---\n  message: {}", quote(&message));
            let _ = writeln!(text, "  uapi: {}\n  ...", quote(result.rationale));
        }
    }
    for missed in &report.missed {
        let _ = writeln!(
            text,
            "# expected deviation {}: {}",
            missed.id, missed.instead
        );
    }
    text
}

fn message(result: &CaseResult) -> Option<String> {
    match &result.status {
        Status::Fail(seen) => Some(seen.clone()),
        Status::Error(why) => Some(format!("not carried out: {why}")),
        Status::Pass | Status::Skip(_) => None,
    }
}

fn junit(report: &Checked) -> Result<String> {
    use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

    let mut suite = TestSuite::new(report.subject.node.name.clone());
    for result in &report.results {
        let status = match &result.status {
            Status::Pass => TestCaseStatus::success(),
            Status::Skip(why) => {
                let mut status = TestCaseStatus::skipped();
                status.set_message(why.as_str());
                status
            }
            Status::Fail(seen) if report.is_known(&result.id) => {
                let mut status = TestCaseStatus::skipped();
                status.set_message(format!("known deviation: {seen}"));
                status
            }
            Status::Fail(text) | Status::Error(text) => {
                let kind = match result.status {
                    Status::Error(_) => NonSuccessKind::Error,
                    _ => NonSuccessKind::Failure,
                };
                let mut status = TestCaseStatus::non_success(kind);
                status.set_message(text.as_str());
                status.set_description(result.rationale);
                status
            }
        };
        let mut case = TestCase::new(result.id.clone(), status);
        case.set_classname(format!("vfio-mig.check.{}", result.group));
        case.set_time(std::time::Duration::from_secs_f64(result.ms / 1e3));
        suite.add_test_case(case);
    }
    let mut whole = Report::new("vfio-mig check");
    whole.add_test_suite(suite);
    Ok(whole.to_string()? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::report::tests::checked;

    fn sample() -> Checked {
        let statuses = [
            ("F1.a", Status::Pass),
            ("F1.b", Status::Fail("a \"thing\" happened".into())),
            ("F1.c", Status::Skip("no P2P".into())),
            ("F1.d", Status::Error("late".into())),
            ("F1.e", Status::Fail("old".into())),
        ];
        checked(&statuses, "F1.e # always\nF1.a")
    }

    #[test]
    fn people_are_told_what_the_uapi_says() {
        let text = human(&sample(), false);
        for part in [
            "FAIL   F1.b\n",
            "DEVIATION F1.b\n  seen:     a \"thing\" happened\n  the uAPI: uapi:1 says so\n",
            "known deviation F1.e\n",
            "EXPECTED DEVIATION F1.a DID NOT SHOW: it passed",
            "1 passed, 1 deviations, 1 known, 1 skipped, 1 not carried out\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
        assert!(human(&sample(), true).contains('\u{1b}'));
    }

    #[test]
    fn tap_counts_every_case() {
        let text = tap(&sample());
        for part in [
            "TAP version 14\n1..5\nok 1 - F1.a\nnot ok 2 - F1.b\n",
            "  message: \"a \\\"thing\\\" happened\"\n",
            "ok 3 - F1.c # SKIP no P2P\n",
            "not ok 5 - F1.e # TODO known deviation\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn junit_counts_what_is_new_as_failures() {
        let text = junit(&sample()).unwrap();
        assert!(text.contains("tests=\"5\""), "{text}");
        assert!(text.contains("failures=\"1\""), "{text}");
        assert!(text.contains("errors=\"1\""), "{text}");
    }

    #[test]
    fn json_has_results_and_counts() {
        let text = render(&sample(), Format::Json, false).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["counts"]["failed"], 1);
        assert_eq!(value["results"][1]["status"], "fail");
        assert_eq!(value["results"][1]["text"], "a \"thing\" happened");
        assert_eq!(value["missed"][0]["id"], "F1.a");
    }
}
