// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `downtime.per_nic`: how much longer a guest stands still for each function that it has.

use anyhow::Result;

use super::{
    bed::Bench,
    guests::{lab, Mover, PHASES},
};
use crate::{
    bench::figures::{median, Figure},
    e2e::{Lab, Stop},
};

/// Functions of the guest with most.
const MOST: usize = 4;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let rounds = bench.extent(5, 1);
    // Moves of the guest with one function more than the index says.
    let mut moves = vec![Vec::new(); MOST];
    let mut lab = lab(bench, "bench-per-nic", 2 * MOST as u16, 2)?;
    let collected = collect(&mut lab, &mut moves, rounds);
    lab.blame(collected)?;
    lab.finish()?;
    let mut figures = vec![growth("downtime.per_nic", &moves, Stop::without_memory)];
    for (name, phase) in PHASES {
        figures.push(growth(&format!("downtime.per_nic.{name}"), &moves, phase));
    }
    Ok(figures)
}

fn collect(lab: &mut Lab, moves: &mut [Vec<Stop>], rounds: usize) -> Result<()> {
    for (index, done) in moves.iter_mut().enumerate() {
        if done.len() >= rounds {
            continue;
        }
        let now: Vec<usize> = (0..=index).collect();
        let next: Vec<usize> = now.iter().map(|n| n + MOST).collect();
        let mut guest = Mover::passed_through(lab, &now, &next)?;
        while done.len() < rounds {
            done.push(guest.hop(lab)?);
        }
        guest.end(lab)?;
    }
    Ok(())
}

/// Milliseconds a function: from one to most of them, by the medians. The spread is that of the steps
/// in between; the nanoseconds are those of the guests with most and with one.
fn growth(name: &str, moves: &[Vec<Stop>], of: fn(&Stop) -> u64) -> Figure {
    let ns: Vec<f64> = moves
        .iter()
        .map(|stops| median(&stops.iter().map(|s| of(s) as f64 * 1e3).collect::<Vec<_>>()))
        .collect();
    let (one, most) = match ns[..] {
        [one, .., most] => (one, most),
        _ => (f64::NAN, f64::NAN),
    };
    let steps: Vec<f64> = ns.windows(2).map(|w| (w[1] - w[0]) / 1e6).collect();
    Figure {
        value: (most - one) / 1e6 / (ns.len() as f64 - 1.0),
        ..Figure::new(name, &steps, Some([most, one]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_from_one_to_most() {
        let stop = |total| Stop {
            total,
            ..Stop::default()
        };
        let moves: Vec<Vec<Stop>> = [10_000, 12_000, 13_000, 19_000]
            .map(|us| vec![stop(us); 3])
            .to_vec();
        let figure = growth("downtime.per_nic", &moves, Stop::without_memory);
        assert_eq!((figure.value, figure.spread), (3.0, [1.0, 6.0]));
        assert_eq!(figure.ns, Some([19e6, 10e6]));
        assert_eq!(figure.target, None);
    }
}
