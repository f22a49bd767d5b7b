// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The rules of the log that a NIC can break, and how `mirror` has to notice.

use std::time::Instant;

use anyhow::{ensure, Context, Result};
use dlr_testing::HostBox;

use crate::{
    judge::{shown, Shows},
    tool::{assert_nothing_lost, mirror, ATTEMPTS},
};

/// What is lost without the writes of used rings, when there is no control queue.
const USED_RINGS: &[&str] = &["receive used ring", "send used ring"];
/// Without those of the control queue's answers.
const ANSWERS: &[&str] = &["answers to control commands"];
/// Without those of the index at which a doorbell is wanted.
const EVENTS: &[&str] = &["avail_event"];

/// A broken rule: the switch of the NIC, its number, how `mirror` is to look, and what it has to see.
pub(crate) type Rule = (&'static str, u64, &'static str, Shows);

/// Rules that can be broken whatever the size of the ring.
pub(crate) const RULES: &[Rule] = &[
    ("drop-log-entry", 10, "", Shows::LostPage),
    // The held-back data must land in a page of its own and after the copy: a small window keeps the
    // function from being busy with used rings only.
    (
        "entry-before-data",
        60,
        "--window 2 --rounds 40 --interval 50 --replies 1",
        Shows::LostPage,
    ),
    ("filter-not-cleared", 1, "", Shows::LostPage),
    ("marker-too-early", 60, "", Shows::LostPage),
    ("suspend-early", 50, "", Shows::LostPage),
    ("entry-after-suspend", 200, "", Shows::LostPage),
    ("start-too-early", 400, "--rounds 1", Shows::LostPage),
    ("add-not-tracked", 1, "--late-ranges", Shows::LostPage),
    ("reset-ends-log", 1, "--reset", Shows::LostPage),
    // Entries of several granules are rare where each frame has a page of its own.
    ("run-too-short", 1, "--buffer-pages 3", Shows::LostPage),
    // These are dropped without exception, and nothing else is.
    ("drop-used-ring", 1, "", Shows::Lost(USED_RINGS)),
    ("drop-control", 1, "--features full", Shows::Lost(ANSWERS)),
    ("drop-event", 1, "--features full", Shows::Lost(EVENTS)),
    ("state-stale", 5, "--patience 5", Shows::Traffic),
    // The descriptors of the receive queue, whose buffers are at hand.
    ("stray-write", 0x4000_0000, "--patience 5", Shows::Traffic),
];

/// Those that ask for a ring that overflows.
pub(crate) const RULES_OF_A_FULL_RING: &[Rule] = &[
    ("lost-not-posted", 1, "", Shows::LostPage),
    ("not-rearmed", 1, "", Shows::LostPage),
];

/// What `mirror` says of a NIC that breaks the rule: once in so many migrations it has to notice.
fn expect_noticed(host: &HostBox, functions: &[String], rule: &Rule) -> Result<()> {
    let (kind, n, options, shows) = *rule;
    host.nic(0)?.sabotage(kind, n)?;
    let mut found = None;
    for _ in 0..ATTEMPTS {
        let (code, answer) = mirror(host, functions, options)?;
        ensure!(code == 0 || code == 1, "mirror could not run: {answer}");
        if code == 1 {
            found = Some(answer);
            break;
        }
    }
    host.nic(0)?.sabotage(kind, 0)?;
    let answer = found.with_context(|| format!("it was not noticed {ATTEMPTS} times"))?;
    shown(&answer, shows)
}

/// Each broken rule is noticed; all of them mended, nothing is.
pub(crate) fn expect_all_noticed(
    host: &HostBox,
    functions: &[String],
    rules: &[Rule],
) -> Result<()> {
    let mut missed = Vec::new();
    for rule in rules {
        let start = Instant::now();
        let result = expect_noticed(host, functions, rule);
        eprintln!("{:5.1} s  {}", start.elapsed().as_secs_f64(), rule.0);
        if let Err(e) = result {
            missed.push(format!("{}: {e:#}", rule.0));
        }
    }
    ensure!(missed.is_empty(), "{}", missed.join("\n"));
    assert_nothing_lost(host, functions, "").map(drop)
}
