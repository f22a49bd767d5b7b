// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `make bench`: what the driver costs, beside what C drivers cost in the same kernel.
//!
//! [`native`] runs the driver's own code in a kernel that is a program of this machine, [`boxed`] what
//! takes a device in host boxes. Each figure is a ratio of two times of one pass, and of the passes the
//! median counts. See `Documentation/performance.rst`.

mod boxed;
mod figures;
mod native;
mod part;
mod plot;
mod report;
mod targets;

use std::{fs, path::PathBuf};

use anyhow::{ensure, Result};

use crate::artefacts::Workshop;
pub use figures::Figure;
pub use native::Extent;
pub use part::Part;

/// Measures `parts`, prints the table and writes `bench.json` and, of the native part, a picture,
/// `bench.svg`; with `base`, a commit, the native part of that one beside it. Returns the path of the file.
///
/// # Errors
///
/// Something could not be built or run, or `base` without the native part. If that is a part in host
/// boxes, the figures of the others are printed and written before. A target that is missed is no error.
pub fn run(
    workshop: &Workshop,
    base: Option<&str>,
    extent: Extent,
    parts: &[Part],
) -> Result<PathBuf> {
    ensure!(
        base.is_none() || parts.contains(&Part::Native),
        "another commit can be measured by the native part only"
    );
    let mut ours = Vec::new();
    if parts.contains(&Part::Native) {
        ours = native::measure(workshop, workshop.tree(), "bench", extent)?;
    }
    let before = match base {
        Some(commit) => Some(native::measure_commit(workshop, commit, extent)?),
        None => None,
    };
    let (figures, mut failed) = boxed::measure(parts, extent)?;
    ours.extend(figures);
    report::print(&ours, before.as_deref());
    let path = workshop.products().join("bench.json");
    report::write(&path, &ours, before.as_deref())?;
    if let Some(picture) = plot::svg(&ours) {
        fs::write(path.with_extension("svg"), picture)?;
    }
    match failed.pop() {
        Some((part, e)) => Err(e.context(format!("{} lacks the part {part:?}", path.display()))),
        None => Ok(path),
    }
}

/// The figures of a few passes.
///
/// # Errors
///
/// As [`run`].
pub fn short(workshop: &Workshop) -> Result<Vec<Figure>> {
    native::measure(workshop, workshop.tree(), "bench-short", Extent::Short)
}
