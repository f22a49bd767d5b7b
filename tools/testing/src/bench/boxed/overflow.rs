// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `overflow.downtime`: how long a guest under receive traffic stands still when the ring of its log is
//! the smallest one, beside the usual one. What overflows then, overflows by itself.

use anyhow::{ensure, Result};

use super::bed::Bench;
use crate::{
    bench::figures::Figure,
    e2e::{blame::EmulatorFault, lab::GUEST_MIB, traffic::Load, Backend, Journey, Lab, Plan},
    BoxConfig, NicConfig,
};

/// Log2 of the entries of the two rings.
const ORDERS: [u32; 2] = [4, 16];

/// Guests that may be lost to the emulated processor. Under this load it kills about one in three that
/// move.
const MOST_LOST: u32 = 15;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let pairs = bench.extent(5, 1);
    let mut passes = Vec::new();
    let mut lost = 0;
    while passes.len() < pairs {
        let mut ns = [0.0; 2];
        for (ns, order) in ns.iter_mut().zip(ORDERS) {
            *ns = loop {
                match stopped(bench, order) {
                    Err(e) if e.is::<EmulatorFault>() && lost < MOST_LOST => {
                        eprintln!("bench: a guest was lost to the emulated processor: {e:#}");
                        lost += 1;
                    }
                    result => break result?,
                }
            };
        }
        eprintln!("bench: stood still for {ns:?} ns with rings of order {ORDERS:?}");
        passes.push([ns[0], ns[1], 1.0]);
    }
    Ok(vec![
        Figure::of_passes("overflow.downtime", &passes)?,
        Figure::new("overflow.lost", &[lost.into()], None),
    ])
}

/// Nanoseconds that a guest stood still when it moved.
fn stopped(bench: &Bench, order: u32) -> Result<f64> {
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
    let verdict = journey.judge()?;
    ensure!(verdict.passed(), "{}", verdict.problems());
    Ok(until.saturating_sub(from) as f64 * 1e6)
}
