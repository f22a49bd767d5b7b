// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a report of `mirror` has to show.

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;

/// How a broken rule shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shows {
    /// A page that the copy lacks is named.
    LostPage,
    /// The same, and what it is has one of these words; each word is in one.
    Lost(&'static [&'static str]),
    /// The traffic at the target is not what it should be.
    Traffic,
}

/// A number of a report.
pub(crate) fn number(answer: &Value, field: &str) -> Result<u64> {
    answer[field]
        .as_u64()
        .with_context(|| format!("no number `{field}` in {answer}"))
}

/// A broken rule shows in this way.
pub(crate) fn shown(answer: &Value, shows: Shows) -> Result<()> {
    let migration = &answer["migrations"][0];
    let lost = number(answer, "lost_pages")?;
    let words: &[&str] = match shows {
        Shows::LostPage => &[],
        Shows::Lost(words) => words,
        Shows::Traffic => {
            let problems = migration["problems"].as_array();
            let trouble = problems.is_some_and(|problems| !problems.is_empty());
            ensure!(lost == 0 && trouble, "no trouble of the traffic: {answer}");
            return Ok(());
        }
    };
    let named = migration["lost"].as_array().map_or(&[][..], Vec::as_slice);
    let named: Option<Vec<_>> = named.iter().map(|page| page["what"].as_str()).collect();
    let named = named.context("a page without a name")?;
    ensure!(
        lost > 0 && !named.is_empty(),
        "no lost page is named: {answer}"
    );
    for word in words {
        let there = named.iter().any(|what| what.contains(word));
        ensure!(there, "no lost page is of a {word}: {answer}");
    }
    let is_one = |what: &&str| words.iter().any(|word| what.contains(word));
    if let (Some(other), false) = (named.iter().find(|what| !is_one(what)), words.is_empty()) {
        bail!("a page was lost that is {other}, and not of {words:?}: {answer}");
    }
    Ok(())
}

/// In each migration the log named a page while the guest ran, and in the last rounds, `after_the_stop`,
/// one more: without that, a log that says nothing would lose nothing.
pub(crate) fn each_log_names_pages(answer: &Value, after_the_stop: usize) -> Result<()> {
    let migrations = answer["migrations"].as_array().context("no migrations")?;
    ensure!(!migrations.is_empty(), "no migration: {answer}");
    for migration in migrations {
        let rounds = migration["rounds"].as_array().context("no rounds")?;
        let named: Result<Vec<u64>> = rounds.iter().map(|r| number(r, "reported")).collect();
        let named = named?;
        let (before, after) = named.split_at(named.len().saturating_sub(after_the_stop));
        for (part, when) in [(before, "while the guest ran"), (after, "after the stop")] {
            let any = part.iter().any(|count| *count > 0);
            ensure!(any, "the log named no page {when}: {named:?}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lost(names: &[&str]) -> Value {
        let pages: Vec<_> = names.iter().map(|what| json!({"what": what})).collect();
        json!({"lost_pages": pages.len(), "migrations": [{"lost": pages, "problems": []}]})
    }

    #[test]
    fn each_page_that_a_rule_is_about_is_lost_and_no_other() -> Result<()> {
        let rings = Shows::Lost(&["receive used ring", "send used ring"]);
        let both = ["receive used ring", "send used ring"];
        shown(&lost(&both), rings)?;
        assert!(shown(&lost(&both[..1]), rings).is_err());
        assert!(shown(&lost(&[both[0], both[1], "receive buffer"]), rings).is_err());
        assert!(shown(&lost(&["receive buffer"]), rings).is_err());
        shown(&lost(&["send avail_event"]), Shows::Lost(&["avail_event"]))?;
        shown(&lost(&["receive buffer"]), Shows::LostPage)?;
        for shows in [rings, Shows::LostPage, Shows::Traffic] {
            assert!(shown(&lost(&[]), shows).is_err(), "{shows:?}");
        }
        let mut trouble = lost(&[]);
        trouble["migrations"][0]["problems"] = json!(["1 corrupt frame"]);
        shown(&trouble, Shows::Traffic)
    }

    #[test]
    fn a_log_that_says_nothing_is_seen() -> Result<()> {
        let of = |named: &[u64]| {
            let rounds: Vec<_> = named.iter().map(|n| json!({"reported": n})).collect();
            json!({"migrations": [{"rounds": rounds}]})
        };
        each_log_names_pages(&of(&[0, 5, 1]), 1)?;
        each_log_names_pages(&of(&[5, 1, 0]), 2)?;
        for silent in [&[0, 0, 1][..], &[5, 1, 0], &[], &[1]] {
            assert!(each_log_names_pages(&of(silent), 1).is_err(), "{silent:?}");
        }
        assert!(each_log_names_pages(&json!({"migrations": []}), 1).is_err());
        Ok(())
    }
}
