// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Judges a run of `vfio-mig mirror` by what it printed. A fault may refuse a migration; it excuses
//! neither a lost page nor a wrong byte, and without a fault nothing may be refused.

use serde_json::Value;

use super::{figures::Figures, schedule::Step};

/// What a run left behind.
#[derive(Debug, Clone, Default)]
pub(super) struct Left {
    /// Its exit code.
    pub(super) code: Option<i32>,
    /// Its report.
    pub(super) report: String,
    /// What it said beside that.
    pub(super) words: String,
}

/// Adds the run to `figures`; returns what is wrong.
pub(super) fn judge(step: &Step, left: &Left, figures: &mut Figures) -> Vec<String> {
    figures.runs += 1;
    let Some(code) = left.code else {
        return vec![format!("vfio-mig did not end{}", said(left))];
    };
    let report: Value = match serde_json::from_str(left.report.trim()) {
        Ok(report) => report,
        Err(e) => return vec![format!("exit code {code}, no report ({e}){}", said(left))],
    };
    match code {
        0 | 1 => {
            let mut wrong = migrations(step, &report, figures);
            wrong.extend(stays(step, &report, figures));
            if code == 0 && wrong.is_empty() {
                wrong.extend(less(step, &report));
            }
            if code == 1 && wrong.is_empty() {
                wrong.push("the report says FAIL and not why".into());
            }
            wrong
        }
        2 if step.may_refuse() => {
            figures.broken_off += 1;
            Vec::new()
        }
        _ => {
            let causes = report["causes"].to_string();
            let error = report["error"].as_str().unwrap_or("no error");
            vec![format!("exit code {code}: {error} {causes}{}", said(left))]
        }
    }
}

fn said(left: &Left) -> String {
    match left.words.trim() {
        "" => String::new(),
        words => format!(" (it said: {})", words.replace('\n', " / ")),
    }
}

fn migrations(step: &Step, report: &Value, figures: &mut Figures) -> Vec<String> {
    let mut wrong = Vec::new();
    for migration in list(&report["migrations"]) {
        figures.moved += 1;
        rounds(migration, figures);
        figures.compared += number(&report["pages"]);
        let lost = number(&migration["lost_pages"]);
        figures.lost += lost;
        figures.answers += number(&migration["replies_after"]);
        let ms = migration["stopped_ms"].as_f64().unwrap_or_default();
        if step.faults.is_empty() {
            figures.stopped_ms.push(ms);
        } else {
            figures.stopped_with_faults_ms = figures.stopped_with_faults_ms.max(ms);
        }
        if lost > 0 {
            let first = &migration["lost"][0];
            wrong.push(format!("{lost} pages lost, the first is {first}"));
        }
        // What was lost says more.
        if lost == 0 {
            wrong.extend(silence(step, migration));
        }
        wrong.extend(problems(migration));
    }
    wrong
}

/// The log has to name a page in the rounds while the guest ran, if there were any, and in those after the
/// stop: `vfio-mig` makes the function write before both. A log that says nothing of traffic that stands
/// still is not seen to lose anything.
fn silence(step: &Step, migration: &Value) -> Vec<String> {
    let rounds = list(&migration["rounds"]);
    let (ran, stopped) = rounds.split_at(rounds.len().min(step.rounds as usize));
    let silent = |part: &[Value]| part.iter().all(|round| number(&round["reported"]) == 0);
    let mut wrong = Vec::new();
    for (is_wrong, when) in [
        (step.rounds > 0 && silent(ran), "while the guest ran"),
        (silent(stopped), "after the stop"),
    ] {
        if is_wrong {
            wrong.push(format!("the log named no page {when}"));
        }
    }
    wrong
}

fn stays(step: &Step, report: &Value, figures: &mut Figures) -> Vec<String> {
    let mut wrong = Vec::new();
    for stay in list(&report["stays"]) {
        rounds(stay, figures);
        figures.answers += number(&stay["replies_after"]);
        if let Some(point) = stay["cancelled"].as_str() {
            *figures.given_up.entry(point.into()).or_default() += 1;
        } else {
            figures.refused += 1;
        }
        let orderly = stay["orderly"] == true;
        figures.set_up_anew += u64::from(!orderly);
        if !step.may_refuse() {
            match stay["refused"].as_str() {
                Some(error) => wrong.push(format!("refused without a fault: {error}")),
                None if !orderly => wrong.push("the source needed a reset without a fault".into()),
                None => {}
            }
        }
        wrong.extend(problems(stay));
    }
    wrong
}

/// Every migration that was asked for has to be in the report.
fn less(step: &Step, report: &Value) -> Option<String> {
    let stays = list(&report["stays"]);
    let whole = stays.iter().filter(|stay| stay["cancelled"].is_null());
    let (whole, all) = (whole.count(), stays.len());
    let moved = list(&report["migrations"]).len();
    let asked = (
        step.cycles as usize,
        step.cycles as usize * step.cancels.len(),
    );
    let done = (moved + whole, all - whole);
    (asked != done).then(|| format!("(whole, given up) should be {asked:?} and are {done:?}"))
}

fn rounds(part: &Value, figures: &mut Figures) {
    for round in list(&part["rounds"]) {
        figures.named += number(&round["reported"]);
        figures.copied += number(&round["copied"]);
        figures.all_dirty += u64::from(round["all_dirty"] == true);
    }
}

fn problems(part: &Value) -> Vec<String> {
    let problems = list(&part["problems"]).iter();
    problems.map(|p| p.as_str().unwrap_or("?").into()).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{fault::Fault, schedule::Schedule};
    use super::*;

    fn step(faults: Vec<Fault>) -> Step {
        let mut step = Schedule::short(1, 1, 1).boot(0)[0].steps[0].clone();
        (step.cycles, step.cancels, step.faults) = (1, vec!["p2p"], faults);
        step.rounds = 1;
        step
    }

    fn garbage() -> Vec<Fault> {
        let entry = "garbage";
        vec![Fault::Entry { function: 0, entry }]
    }

    fn report() -> Value {
        json!({"pages": 2048, "migrations": [{
                "rounds": [{"reported": 5, "copied": 7, "all_dirty": false},
                           {"reported": 2048, "copied": 2048, "all_dirty": true}],
                "lost_pages": 0, "lost": [], "replies_after": 50, "stopped_ms": 4.5, "problems": []}],
            "stays": [{"cancelled": "p2p", "refused": null, "orderly": true, "rounds": [],
                       "replies_after": 50, "problems": []}]})
    }

    fn of(code: i32, report: &Value, faults: Vec<Fault>) -> (Vec<String>, Figures) {
        let mut figures = Figures::default();
        let left = Left {
            code: Some(code),
            report: report.to_string(),
            words: String::new(),
        };
        (judge(&step(faults), &left, &mut figures), figures)
    }

    #[test]
    fn a_good_run_is_counted() {
        let (wrong, figures) = of(0, &report(), vec![]);
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(
            (figures.moved, figures.compared, figures.named),
            (1, 2048, 2053)
        );
        assert_eq!((figures.all_dirty, figures.answers), (1, 100));
        assert_eq!((figures.given_up["p2p"], figures.stopped_ms.len()), (1, 1));
    }

    #[test]
    fn a_log_that_says_nothing_is_seen() {
        for (round, when) in [(0, "while the guest ran"), (1, "after the stop")] {
            let mut silent = report();
            silent["migrations"][0]["rounds"][round]["reported"] = 0.into();
            let wrong = format!("the log named no page {when}");
            assert_eq!(of(0, &silent, garbage()).0, [wrong]);
        }
        let mut none = report();
        none["migrations"][0]["rounds"] = json!([]);
        assert_eq!(of(0, &none, vec![]).0.len(), 2);
    }

    #[test]
    fn no_fault_excuses_a_lost_page_or_a_wrong_byte() {
        let mut lossy = report();
        lossy["migrations"][0]["lost_pages"] = 3.into();
        let (wrong, figures) = of(1, &lossy, garbage());
        assert_eq!((wrong.len(), figures.lost), (1, 3));
        for part in ["migrations", "stays"] {
            let mut corrupt = report();
            corrupt[part][0]["problems"] = json!(["1 corrupt frame"]);
            assert_eq!(of(1, &corrupt, garbage()).0, ["1 corrupt frame"]);
        }
    }

    #[test]
    fn only_a_fault_excuses_a_refusal() {
        let mut refused = report();
        refused["migrations"] = json!([]);
        let stay = json!({"cancelled": null, "refused": "EIO", "orderly": false, "rounds": [],
                          "replies_after": 0, "problems": []});
        refused["stays"].as_array_mut().expect("a list").push(stay);
        let (wrong, figures) = of(0, &refused, garbage());
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!((figures.refused, figures.set_up_anew), (1, 1));
        assert_eq!(of(0, &refused, vec![]).0, ["refused without a fault: EIO"]);
        let error = json!({"error": "cannot open", "causes": []});
        assert!(of(2, &error, garbage()).0.is_empty());
        assert_eq!(of(2, &error, vec![]).0.len(), 1);
    }

    #[test]
    fn a_run_that_did_less_or_died_is_seen() {
        let mut less = report();
        less["stays"] = json!([]);
        assert_eq!(of(0, &less, garbage()).0.len(), 1);
        assert_eq!(of(139, &report(), garbage()).0.len(), 1);
        assert_eq!(of(1, &report(), vec![]).0.len(), 1);
        let nothing = Left::default();
        assert_eq!(
            judge(&step(garbage()), &nothing, &mut Figures::default()).len(),
            1
        );
        let (code, report) = (Some(0), "Segmentation fault".to_owned());
        let words = String::new();
        let garbled = Left {
            code,
            report,
            words,
        };
        assert_eq!(
            judge(&step(garbage()), &garbled, &mut Figures::default()).len(),
            1
        );
    }
}
