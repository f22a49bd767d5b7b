// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `overflow.downtime`: how long a guest under receive traffic stands still when the ring of its log is
//! the smallest one, beside the usual one. Nothing is injected; whether the small ring overflows is a figure.

use anyhow::{ensure, Context, Result};

use super::bed::Bench;
use crate::{
    bench::figures::Figure,
    e2e::{lab::GUEST_MIB, traffic::Load, Backend, Journey, Lab, Plan},
    BoxConfig, NicConfig,
};

/// Log2 of the entries of the two rings.
const ORDERS: [u32; 2] = [4, 16];

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let pairs = bench.extent(5, 1);
    let mut passes = Vec::new();
    let mut overflows = Vec::new();
    while passes.len() < pairs {
        let [small, usual] = [stopped(bench, ORDERS[0])?, stopped(bench, ORDERS[1])?];
        eprintln!("bench: {small:?} and {usual:?} with rings of order {ORDERS:?}");
        passes.push([small.ns, usual.ns, 1.0]);
        overflows.push(small.overflows);
    }
    Ok(vec![
        Figure::of_passes("overflow.downtime", &passes)?,
        Figure::new("overflow.overflows", &overflows, None),
    ])
}

/// What a guest's move came to.
#[derive(Debug)]
struct Move {
    /// Nanoseconds that it stood still.
    ns: f64,
    /// How often the log of its function lost writes.
    overflows: f64,
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
    let mut journey = Journey::start(lab, &[0], load)?;
    let migration = journey.hop(&[1], &Plan::default())?;
    let Some((from, until)) = migration.stopped else {
        anyhow::bail!("the guest did not stop: {migration:?}");
    };
    let lab = journey.lab();
    let source = lab.functions().first().context("no function")?;
    let overflows = lab.host().run(&format!(
        "sed -n 's/^lost_count //p' /sys/kernel/debug/dlr_vfio_pci/{source}/log"
    ))?;
    let verdict = journey.judge()?;
    ensure!(verdict.passed(), "{}", verdict.problems());
    Ok(Move {
        ns: until.saturating_sub(from) as f64 * 1e6,
        overflows: overflows.trim().parse().context("lost_count")?,
    })
}
