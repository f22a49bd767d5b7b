// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Runs the driver's benchmark in a kernel that is a program of this machine.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{ensure, Context, Result};

use super::figures::{self, Figure};
use crate::{
    artefacts::Workshop,
    native::{complaints, Run},
    progress,
};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All, as the targets are meant.
    Full,
    /// A few passes: to notice a slide.
    Short,
}

/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(900);

/// Passes of a short run.
const FEW: u32 = 3;

/// Builds the driver of `tree` and measures it. `name` names the folder of its products.
pub(super) fn measure(
    workshop: &Workshop,
    tree: &Path,
    name: &str,
    extent: Extent,
) -> Result<Vec<Figure>> {
    // One build for both extents.
    let built = name.strip_suffix("-short").unwrap_or(name);
    let (machine, module) = workshop.bench(tree, built)?;
    let passes = match extent {
        Extent::Full => String::new(),
        Extent::Short => format!("bench_passes={FEW}"),
    };
    let run = Run {
        machine: &machine,
        results: workshop.products().join("native"),
        name,
        module: &module,
        script: &format!("insmod /module.ko {passes} || fail insmod\n"),
        nic: None,
        arguments: "",
        limit: LIMIT,
    };
    let log = run.run()?;
    let found = complaints(&log);
    let place = run.results.join(name);
    ensure!(
        found.is_empty(),
        "{} (logs are here: {})",
        found.join("; "),
        place.display()
    );
    figures::parse(&log).with_context(|| format!("logs are here: {}", place.display()))
}

/// The same for a commit of this repository.
pub(super) fn measure_commit(
    workshop: &Workshop,
    commit: &str,
    extent: Extent,
) -> Result<Vec<Figure>> {
    let folder = workshop.products().join("bench-base-tree");
    crate::artefacts::cache::remove_tree(&folder)?;
    fs::create_dir_all(&folder)?;
    let mut archive = Command::new("sh");
    archive.args([
        "-c",
        "git -C \"$1\" archive --format=tar \"$2\" Kbuild drivers include | tar -x -C \"$3\"",
        "sh",
    ]);
    archive.arg(workshop.tree()).arg(commit).arg(&folder);
    progress::step(
        &format!("unpack {commit}"),
        &mut archive,
        &workshop.products().join("bench-base.log"),
    )?;
    ensure!(
        folder.join("drivers/vfio/rust/vfio/bench").exists(),
        "{commit} is older than the benchmark"
    );
    measure(workshop, &folder, "bench-base", extent)
}
