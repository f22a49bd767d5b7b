// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `idle.*`: calls that find nothing to do, beside the kernel's `mtty` sample. The clock counts
//! instructions, so what else this machine does changes nothing.

use anyhow::Result;

use super::{bed::Bench, samples::figures_of};
use crate::{bench::figures::Figure, BoxConfig, HostBox};

const UUID: &str = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let config = BoxConfig::new("bench-idle").functions(1).counted();
    let host = HostBox::start_with(config, bench.artefacts.clone())?;
    host.run(&format!(
        "for m in mdev mtty; do [ ! -e /dlr/modules/$m.ko ] || insmod /dlr/modules/$m.ko; done; \
         echo {UUID} > /sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2/create"
    ))?;
    let data = host.bind_dlr(0)?;
    let (passes, calls) = bench.extent((5, 10_000), (2, 100));
    let figures = figures_of(
        &host,
        &format!("--passes {passes} idle --calls {calls} {} {UUID}", data[0]),
    )?;
    host.finish()?;
    Ok(figures)
}
