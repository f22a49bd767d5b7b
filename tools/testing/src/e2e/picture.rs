// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Dirty pages per round as a picture (SVG).

use std::fmt::Write as _;

use super::{migrate::Migration, oracle::Verdict};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 70.0;
/// Bars that can still be told apart; more rounds are put together.
const BARS: usize = 60;

/// One bar.
struct Bar {
    label: String,
    nic: u64,
    all: u64,
}

/// The picture: for each round what the NIC reported, in front of all that was dirty.
pub fn dirty_pages(migration: &Migration, verdict: &Verdict) -> String {
    let bars = bars(migration);
    let highest = bars.iter().map(|b| b.all).max().unwrap_or(0).max(1);
    // The first round has all memory: a linear scale would hide the others.
    let height = |n: u64| {
        let log = |n: u64| (n as f64 + 1.0).log10();
        (HEIGHT - TOP - BOTTOM) * log(n) / log(highest)
    };
    let floor = HEIGHT - BOTTOM;
    let step = (WIDTH - LEFT - RIGHT) / bars.len().max(1) as f64;
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#fff"/>
<text x="{LEFT}" y="24" font-size="17" font-weight="bold">Dirty pages in each round of the migration</text>
<text x="{LEFT}" y="44" fill="#555">{} rounds, downtime {} ms, memory oracle {}, wire oracle {}</text>
"##,
        migration.trace.rounds.len(),
        migration.downtime_ms,
        word(verdict.memory.passed()),
        word(verdict.wire.passed()),
    );
    let mut tick = 1;
    while tick <= highest {
        let y = floor - height(tick);
        let _ = writeln!(
            svg,
            r##"<line x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}" stroke="#ddd"/><text x="{:.1}" y="{:.1}" text-anchor="end" fill="#555">{tick}</text>"##,
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0,
        );
        tick *= 10;
    }
    for (n, bar) in bars.iter().enumerate() {
        let x = LEFT + step * n as f64 + step * 0.12;
        for (value, colour, wide) in [(bar.all, "#c9d6e8", 0.76), (bar.nic, "#d2691e", 0.5)] {
            let tall = height(value);
            let _ = writeln!(
                svg,
                r##"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{tall:.1}" fill="{colour}"><title>{}: {} pages by the NIC, {} in all</title></rect>"##,
                x + step * (0.76 - wide) / 2.0,
                floor - tall,
                step * wide,
                bar.label,
                bar.nic,
                bar.all,
            );
        }
        if bars.len() <= 24 || n % 5 == 0 || n + 1 == bars.len() {
            let _ = writeln!(
                svg,
                r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#555">{}</text>"##,
                x + step * 0.38,
                floor + 18.0,
                bar.label,
            );
        }
    }
    let (middle, low) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 30.0);
    let _ = write!(
        svg,
        r##"<line x1="{LEFT}" x2="{:.1}" y1="{floor}" y2="{floor}" stroke="#333"/>
<text x="{middle:.1}" y="{low}" text-anchor="middle">round (the last one with the guest stopped)</text>
<rect x="{LEFT}" y="{:.1}" width="12" height="12" fill="#d2691e"/><text x="{:.1}" y="{:.1}">reported by the NIC's log (its DMA)</text>
<rect x="{:.1}" y="{:.1}" width="12" height="12" fill="#c9d6e8"/><text x="{:.1}" y="{:.1}">all dirty pages, logarithmic scale</text>
</svg>
"##,
        WIDTH - RIGHT,
        HEIGHT - 20.0,
        LEFT + 18.0,
        HEIGHT - 9.0,
        LEFT + 330.0,
        HEIGHT - 20.0,
        LEFT + 348.0,
        HEIGHT - 9.0,
    );
    svg
}

/// One bar for each round; in a long migration one for several.
fn bars(migration: &Migration) -> Vec<Bar> {
    let rounds = &migration.trace.rounds;
    let together = rounds.len().div_ceil(BARS).max(1);
    let chunks = rounds.chunks(together).enumerate();
    chunks
        .map(|(n, chunk)| Bar {
            label: (n * together).to_string(),
            nic: chunk.iter().map(|r| r.nic_pages).sum(),
            all: chunk.iter().map(|r| r.all_pages).sum(),
        })
        .collect()
}

fn word(passed: bool) -> &'static str {
    if passed {
        "PASS"
    } else {
        "FAIL"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::e2e::trace::{Round, Trace};

    fn picture(rounds: usize) -> String {
        let round = |n: usize| Round {
            nic_pages: 10 * n as u64,
            all_pages: 1000,
            ..Round::default()
        };
        let migration = Migration {
            status: "completed".into(),
            error: None,
            downtime_ms: 1,
            total_ms: 1,
            setup_ms: 1,
            vfio_bytes: 0,
            ram_bytes: 0,
            stopped: None,
            trace: Trace {
                rounds: (0..rounds).map(round).collect(),
                ..Trace::default()
            },
        };
        dirty_pages(&migration, &Verdict::default())
    }

    #[test]
    fn every_tag_is_closed_and_numbers_are_numbers() {
        for rounds in [0, 1, 7, 500] {
            let svg = picture(rounds);
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"));
            assert_eq!(
                svg.matches("<title>").count(),
                svg.matches("</title>").count()
            );
        }
    }

    #[test]
    fn many_rounds_are_put_together() {
        assert!(picture(500).matches("<title>").count() <= 2 * BARS);
        assert_eq!(picture(7).matches("<title>").count(), 14);
    }
}
