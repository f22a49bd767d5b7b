// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a soak says at its end.

use std::collections::BTreeMap;

use super::{figures::Figures, memory::BOUND};

/// The table; the failures are listed elsewhere.
pub(super) fn text(figures: &Figures) -> String {
    let f = figures;
    let growth = f.growth;
    let stopped = match f.stopped() {
        Some((median, worst)) => format!(
            "median {median:.1} ms, worst {worst:.1} ms; with faults worst {:.1} ms",
            f.stopped_with_faults_ms
        ),
        None => "not measured".into(),
    };
    let rows = [
        (
            "migrations",
            format!(
                "{}: {} came to their end, {} were refused for a fault",
                f.migrations(),
                f.moved,
                f.refused
            ),
        ),
        ("given up", counts(&f.given_up)),
        (
            "runs",
            format!(
                "{} of mirror, {} broken off by a fault, {} loads of the driver, {} boots",
                f.runs, f.broken_off, f.loads, f.boots
            ),
        ),
        ("faults set", counts(&f.set)),
        (
            "faults",
            format!(
                "{} suffered by commands and registers; resets of the management function: {} by \
                 CONTROL, {} FLR; {} guests set up anew",
                f.suffered, f.resets, f.flrs, f.set_up_anew
            ),
        ),
        (
            "pages",
            format!(
                "{} logged by the NIC, {} reported, {} copied in rounds, {} compared, {} lost",
                f.logged, f.named, f.copied, f.compared, f.lost
            ),
        ),
        (
            "overflows",
            format!(
                "{} of the ring, {} rounds all dirty, work held back {} times",
                f.overflows, f.all_dirty, f.holds
            ),
        ),
        ("answers", format!("{} after migrations", f.answers)),
        ("suspended", stopped),
        (
            "memory",
            format!(
                "most in a boot: SUnreclaim {:+} KiB (bound {}), Slab {:+} KiB (bound {}), \
                 MemAvailable {:+} KiB (bound {})",
                growth.unreclaimable,
                BOUND.unreclaimable,
                growth.slab,
                BOUND.slab,
                -growth.available,
                -BOUND.available
            ),
        ),
    ];
    let line = |(name, text): &(&str, String)| format!("{name:<11} {text}\n");
    rows.iter().map(line).collect()
}

fn counts(of: &BTreeMap<String, u64>) -> String {
    let sum: u64 = of.values().sum();
    let parts: Vec<_> = of.iter().map(|(n, count)| format!("{count} {n}")).collect();
    match parts.as_slice() {
        [] => "0".into(),
        parts => format!("{sum}: {}", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_counts_is_in_it() {
        let figures = Figures {
            moved: 901,
            refused: 102,
            lost: 3,
            overflows: 44,
            suffered: 55,
            stopped_ms: vec![1.5, 2.5, 77.5],
            given_up: BTreeMap::from([("p2p".into(), 6), ("saved".into(), 7)]),
            ..Figures::default()
        };
        let text = text(&figures);
        for part in [
            "1003: 901 came",
            "102 were refused",
            "3 lost",
            "44 of the ring",
            "55 suffered",
            "median 2.5 ms, worst 77.5 ms",
            "13: 6 p2p, 7 saved",
            "MemAvailable +0 KiB (bound -2048)",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }
}
