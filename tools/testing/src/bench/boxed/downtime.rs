// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `downtime.driver`: how long a guest with a function of the NIC stands still, beside the same guest
//! with a virtio-net of QEMU. Both live in one box and move in turn.

use anyhow::Result;

use super::{
    bed::Bench,
    guests::{lab, Mover, PHASES},
};
use crate::{
    bench::figures::{median, Figure},
    e2e::Stop,
};

/// Pairs of moves: ours, and the other guest's.
type Pair = (Stop, Stop);

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let wanted = bench.extent(10, 1);
    let mut pairs = Vec::new();
    let mut lab = lab(bench, "bench-downtime", 2, 3)?;
    let collected = collect(&mut lab, &mut pairs, wanted);
    lab.blame(collected)?;
    lab.finish()?;
    figures(&pairs)
}

fn collect(lab: &mut crate::e2e::Lab, pairs: &mut Vec<Pair>, wanted: usize) -> Result<()> {
    let mut ours = Mover::passed_through(lab, &[0], &[1])?;
    let mut base = Mover::emulated(lab)?;
    while pairs.len() < wanted {
        let pair = (ours.hop(lab)?, base.hop(lab)?);
        eprintln!(
            "bench: stood still for {} us, and {} us with a NIC of QEMU (without memory)",
            pair.0.without_memory(),
            pair.1.without_memory()
        );
        pairs.push(pair);
    }
    ours.end(lab)?;
    base.end(lab)
}

fn figures(pairs: &[Pair]) -> Result<Vec<Figure>> {
    let us = |us: u64| us as f64 * 1000.0;
    let passes: Vec<[f64; 3]> = pairs
        .iter()
        .map(|(a, b)| [us(a.without_memory()), us(b.without_memory()), 1.0])
        .collect();
    let mut figures = vec![Figure::of_passes("downtime.driver", &passes)?];
    for (name, phase) in PHASES {
        let ours: Vec<f64> = pairs.iter().map(|(a, _)| us(phase(a))).collect();
        let base: Vec<f64> = pairs.iter().map(|(_, b)| us(phase(b))).collect();
        let ms: Vec<f64> = ours.iter().map(|ns| ns / 1e6).collect();
        let both = [median(&ours), median(&base)];
        figures.push(Figure::new(
            &format!("downtime.driver.{name}"),
            &ms,
            Some(both),
        ));
    }
    Ok(figures)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_figures() {
        let ours = Stop {
            total: 3000,
            ram: 1200,
            report: 200,
            suspend: 500,
            ..Stop::default()
        };
        let base = Stop {
            total: 1000,
            ..Stop::default()
        };
        let figures = figures(&[(ours, base)]).unwrap();
        assert_eq!(figures[0].value, 2.0);
        let suspend = figures
            .iter()
            .find(|f| f.name.ends_with(".suspend"))
            .unwrap();
        assert_eq!((suspend.value, suspend.ns), (0.5, Some([500_000.0, 0.0])));
    }
}
