// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `overflow.downtime`: how long a guest under receive traffic stands still when the ring of its log is
//! the smallest one, beside the usual one. Nothing is injected: whether the small ring overflows, and
//! how often the NIC held its DMA back so that it did not, are figures.

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use super::bed::Bench;
use crate::{
    bench::figures::Figure,
    e2e::{lab::GUEST_MIB, traffic::Load, Backend, Journey, Lab, Plan},
    BoxConfig, NicConfig,
};

/// Log2 of the entries of the two rings.
const ORDERS: [u32; 2] = [4, 16];
/// The data function that the guest leaves.
const SOURCE: usize = 0;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let pairs = bench.extent(5, 1);
    let mut passes = Vec::new();
    let mut overflows = Vec::new();
    let (mut holds, mut holds_over) = (Vec::new(), Vec::new());
    while passes.len() < pairs {
        let [small, usual] = [stopped(bench, ORDERS[0])?, stopped(bench, ORDERS[1])?];
        eprintln!("bench: {small:?} and {usual:?} with rings of order {ORDERS:?}");
        passes.push([small.ns, usual.ns, 1.0]);
        overflows.push(small.overflows);
        holds.push(small.held.begun);
        holds_over.push(small.held.over);
    }
    Ok(vec![
        Figure::of_passes("overflow.downtime", &passes)?,
        Figure::new("overflow.overflows", &overflows, None),
        Figure::new("overflow.holds", &holds, None),
        Figure::new("overflow.holds_over", &holds_over, None),
    ])
}

/// What a guest's move came to.
#[derive(Debug)]
struct Move {
    /// Nanoseconds that it stood still.
    ns: f64,
    /// How often the log of its function lost writes.
    overflows: f64,
    /// How often its function was held back meanwhile.
    held: Held,
}

/// Times that the NIC held DMA of a function back for want of room in the ring of its log.
#[derive(Debug, PartialEq)]
struct Held {
    /// That it began.
    begun: f64,
    /// That it lasted until the time was up. DMA went on without room then.
    over: f64,
}

impl Held {
    /// From what the NIC says about a data function. Its log was started once, by the move.
    fn of(stats: &Value) -> Result<Self> {
        let count = |name: &str| -> Result<f64> {
            let counter = stats["log"][name].as_f64();
            counter.with_context(|| format!("no counter {name} of the log in {stats}"))
        };
        Ok(Self {
            begun: count("holds")?,
            over: count("holds_over")?,
        })
    }
}

/// Moves a guest once.
fn stopped(bench: &Bench, order: u32) -> Result<Move> {
    let config = BoxConfig::new(format!("bench-overflow-{order}"))
        .nic(NicConfig::new(2))
        .huge_pages(2 * GUEST_MIB / 2 + 8);
    let parameters = format!("log_ring_order={order}");
    let lab = Lab::in_box(
        config,
        bench.artefacts.clone(),
        &parameters,
        Backend::Iommufd,
    )?;
    // A short ring has to overflow, or be held back, between two interrupts.
    let load = Load {
        trickle: 1000,
        ..Load::light()
    };
    let mut journey = Journey::start(lab, &[SOURCE], load)?;
    let migration = journey.hop(&[1], &Plan::default())?;
    let Some((from, until)) = migration.stopped else {
        anyhow::bail!("the guest did not stop: {migration:?}");
    };
    let lab = journey.lab();
    let held = Held::of(&lab.function_stats(SOURCE)?)?;
    let source = lab.functions().get(SOURCE).context("no function")?;
    let overflows = lab.host().run(&format!(
        "sed -n 's/^lost_count //p' /sys/kernel/debug/dlr_vfio_pci/{source}/log"
    ))?;
    let verdict = journey.judge()?;
    ensure!(verdict.passed(), "{}", verdict.problems());
    Ok(Move {
        ns: until.saturating_sub(from) as f64 * 1e6,
        overflows: overflows.trim().parse().context("lost_count")?,
        held,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn holds_are_those_that_the_nic_counts() {
        let stats = json!({"log": {"holds": 7, "holds_over": 2, "lost": 1}, "rx_held": 9});
        let held = Held {
            begun: 7.0,
            over: 2.0,
        };
        assert_eq!(Held::of(&stats).unwrap(), held);
        let error = Held::of(&json!({"log": {"holds": 7}})).unwrap_err();
        assert!(error.to_string().contains("holds_over"), "{error}");
    }
}
