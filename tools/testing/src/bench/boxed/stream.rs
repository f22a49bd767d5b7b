// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `stream.*`: device state beside a pipe that a thread of the kernel fills or empties, and what of a
//! load is its checksum.

use anyhow::Result;

use super::{bed::Bench, samples::figures_of};
use crate::{artefacts::module::Project, bench::figures::Figure, BoxConfig, HostBox, NicConfig};

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let project = Project::feed(bench.workshop.tree());
    let feed = bench.workshop.build_project(&project, "feed", "")?;
    let size = bench.extent("64M", "4M");
    let config = BoxConfig::new("bench-stream")
        .nic(NicConfig::new(2).args(["--flow-table", size]))
        .file("modules/dlr_feed.ko", feed);
    let host = HostBox::start_with(config, bench.artefacts.clone())?;
    host.run("insmod /dlr/modules/dlr_feed.ko")?;
    let data = host.bind_dlr(0)?;
    let passes = bench.extent(9, 1);
    let figures = figures_of(
        &host,
        &format!("--passes {passes} stream {} {}", data[0], data[1]),
    )?;
    host.finish()?;
    Ok(figures)
}
