// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `nic.logging`: what the log costs the reference NIC. It needs no box: the parts of the NIC, and
//! drivers for them, in one process.

use anyhow::{ensure, Result};

use super::{bed::Bench, samples::parse};
use crate::bench::figures::Figure;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let passes = bench.extent("9", "1");
    let mut command = bench.workshop.cargo()?;
    command.args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "dlr-nic-bench",
        "--",
        "--passes",
        passes,
    ]);
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "dlr-nic-bench: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    parse(&String::from_utf8_lossy(&output.stdout))
}
