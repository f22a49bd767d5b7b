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

/// Measures these parts; those that are not of this kind are left out.
pub(super) fn measure(parts: &[Part], extent: Extent) -> Result<Vec<Figure>> {
    let parts: Vec<Part> = parts
        .iter()
        .copied()
        .filter(|p| *p != Part::Native)
        .collect();
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let workshop = Workshop::open()?.release();
    let bench = Bench {
        artefacts: workshop.artefacts()?,
        workshop,
        extent,
    };
    let mut figures = Vec::new();
    for part in parts {
        figures.extend(match part {
            Part::Native => Vec::new(),
            Part::Idle => idle::measure(&bench)?,
            Part::Stream => stream::measure(&bench)?,
            Part::Nic => nic::measure(&bench)?,
            Part::Overflow => overflow::measure(&bench)?,
            Part::Downtime => downtime::measure(&bench)?,
            Part::PerNic => per_nic::measure(&bench)?,
        });
    }
    Ok(figures)
}
