// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What takes a device: measured in a host box, on a kernel that checks nothing, each figure beside a
//! counterpart in the same box.

mod bed;
mod downtime;
mod guests;
mod idle;
mod nic;
mod overflow;
mod per_nic;
mod samples;
mod stream;

use anyhow::Result;

use self::bed::Bench;
use super::{figures::Figure, native::Extent, part::Part};
use crate::artefacts::Workshop;

/// A part that could not be measured, and why.
pub(super) type Unmeasured = (Part, anyhow::Error);

/// Measures these parts; those that are not of this kind are left out. The parts that could not be
/// measured, and why, cost the others nothing.
///
/// # Errors
///
/// Kernel, driver or programs could not be built.
pub(super) fn measure(parts: &[Part], extent: Extent) -> Result<(Vec<Figure>, Vec<Unmeasured>)> {
    let parts: Vec<Part> = parts
        .iter()
        .copied()
        .filter(|p| *p != Part::Native)
        .collect();
    if parts.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let workshop = Workshop::open()?.release();
    let bench = Bench {
        artefacts: workshop.artefacts()?,
        workshop,
        extent,
    };
    let (mut figures, mut failed) = (Vec::new(), Vec::new());
    for part in parts {
        let measured = match part {
            Part::Native => Ok(Vec::new()),
            Part::Idle => idle::measure(&bench),
            Part::Stream => stream::measure(&bench),
            Part::Nic => nic::measure(&bench),
            Part::Overflow => overflow::measure(&bench),
            Part::Downtime => downtime::measure(&bench),
            Part::PerNic => per_nic::measure(&bench),
        };
        match measured {
            Ok(more) => figures.extend(more),
            Err(e) => {
                eprintln!("bench: {part:?}: {e:#}");
                failed.push((part, e));
            }
        }
    }
    Ok((figures, failed))
}
