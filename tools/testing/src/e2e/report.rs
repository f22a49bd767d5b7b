// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One migration as a table for people.

use std::fmt::Write as _;

use super::{migrate::Migration, oracle::Verdict, trace::Trace};

/// Device states in the order that a source goes through them.
const STATES: [&str; 5] = [
    "PRE_COPY",
    "PRE_COPY_P2P",
    "STOP_COPY",
    "RUNNING_P2P",
    "STOP",
];

/// Rounds that are shown one by one; a long pre-copy has more.
const SHOWN: usize = 12;

/// The table.
pub fn table(migration: &Migration, verdict: &Verdict) -> String {
    let mut out = String::new();
    let trace = &migration.trace;
    rounds(&mut out, trace);
    let mut row = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {name:<34} {value}");
    };
    row(
        "device state in pre-copy",
        bytes(trace.bytes_in("PRE_COPY")),
    );
    row(
        "device state in stop-copy",
        bytes(trace.bytes_in("STOP_COPY")),
    );
    row("guest memory sent", bytes(migration.ram_bytes));
    row("set-up", format!("{} ms", migration.setup_ms));
    for state in STATES {
        let ms = trace.ms_in(state);
        if ms > 0 {
            row(&format!("device in {state}"), format!("{ms} ms"));
        }
    }
    row(
        "migration, from request to end",
        format!("{} ms", migration.total_ms),
    );
    row("downtime", format!("{} ms", migration.downtime_ms));
    row("frames lost while stopped", verdict.lost.to_string());
    for (name, check) in [
        ("memory oracle", &verdict.memory),
        ("wire oracle", &verdict.wire),
    ] {
        let word = if check.passed() { "PASS" } else { "FAIL" };
        row(
            name,
            format!(
                "{word}   {} messages, {} checked",
                check.messages,
                bytes(check.bytes)
            ),
        );
    }
    for line in verdict.problems().lines() {
        let _ = writeln!(out, "    {line}");
    }
    out
}

fn rounds(out: &mut String, trace: &Trace) {
    let start = trace.rounds.first().map_or(0, |r| r.at_ms);
    let _ = writeln!(
        out,
        "  {:>5}  {:>9}  {:>15}  {:>15}",
        "round", "at", "dirty pages:", ""
    );
    let _ = writeln!(
        out,
        "  {:>5}  {:>9}  {:>15}  {:>15}",
        "", "", "by the NIC", "all"
    );
    let skipped = trace.rounds.len().saturating_sub(SHOWN);
    for (n, round) in trace.rounds.iter().enumerate() {
        if n >= SHOWN - 4 && n < SHOWN - 4 + skipped {
            if n == SHOWN - 4 {
                let rest = &trace.rounds[n..n + skipped];
                let (nic, all) = rest
                    .iter()
                    .fold((0, 0), |(a, b), r| (a + r.nic_pages, b + r.all_pages));
                let _ = writeln!(
                    out,
                    "  {:>5}  {:>9}  {nic:>15}  {all:>15}  ({skipped} rounds together)",
                    "…", ""
                );
            }
            continue;
        }
        let at = round.at_ms.saturating_sub(start);
        let last = if n + 1 == trace.rounds.len() {
            "  (guest stopped)"
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "  {n:>5}  {at:>6} ms  {:>15}  {:>15}{last}",
            round.nic_pages, round.all_pages
        );
    }
}

/// A size with a binary unit.
pub fn bytes(n: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if n >> shift >= 10 {
            return format!("{} {unit}", n >> shift);
        }
    }
    format!("{n} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::e2e::trace::Round;

    fn migration(rounds: usize) -> Migration {
        let round = |n: usize| Round {
            at_ms: 1000 + n as u64,
            nic_pages: 7,
            all_pages: 9,
            queries: 1,
        };
        Migration {
            status: "completed".into(),
            error: None,
            downtime_ms: 321,
            total_ms: 5000,
            setup_ms: 1,
            vfio_bytes: 0,
            ram_bytes: 50 << 20,
            stopped: None,
            trace: Trace {
                rounds: (0..rounds).map(round).collect(),
                ..Trace::default()
            },
        }
    }

    #[test]
    fn short_and_long() {
        let short = table(&migration(3), &Verdict::default());
        assert!(short.contains("321 ms") && short.contains("50 MiB") && !short.contains('…'));
        assert_eq!(short.matches("PASS").count(), 2);
        let long = table(&migration(100), &Verdict::default());
        assert!(long.contains("(88 rounds together)"), "{long}");
        assert!(long.lines().count() < 40);
    }

    #[test]
    fn problems_are_shown() {
        let mut verdict = Verdict::default();
        verdict.memory.problems.push("page gone".into());
        let text = table(&migration(1), &verdict);
        assert!(text.contains("FAIL") && text.contains("memory: page gone"));
    }
}
