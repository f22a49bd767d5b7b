// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `vfio-mig` in the box.

use std::time::Duration;

use anyhow::{ensure, Context, Result};
use dlr_testing::HostBox;
use serde_json::Value;

use crate::judge::{each_log_names_pages, number};

/// Times that a sabotage may hide from one migration: it has to show in one of so many.
pub(crate) const ATTEMPTS: u32 = 8;

/// Runs `vfio-mig --json`: exit status and what it printed.
pub(crate) fn tool(host: &HostBox, arguments: &str) -> Result<(i32, Value)> {
    let output = host.try_run(
        &format!("vfio-mig --json {arguments}"),
        Duration::from_secs(240),
    )?;
    let code = output
        .code
        .with_context(|| format!("vfio-mig {arguments}: {}", output.ending()))?;
    let answer = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("vfio-mig {arguments} printed no JSON: {}", output.text()))?;
    Ok((code, answer))
}

/// A migration by `mirror`: exit status and report.
pub(crate) fn mirror(host: &HostBox, functions: &[String], options: &str) -> Result<(i32, Value)> {
    tool(
        host,
        &format!("mirror {} {} {options}", functions[0], functions[1]),
    )
}

/// A migration that loses nothing and whose log names pages; the report.
pub(crate) fn assert_nothing_lost(
    host: &HostBox,
    functions: &[String],
    options: &str,
) -> Result<Value> {
    let (code, answer) = mirror(host, functions, options)?;
    ensure!(code == 0, "mirror {options} failed ({code}): {answer}");
    ensure!(answer["verdict"] == "PASS" && number(&answer, "lost_pages")? == 0);
    let after_the_stop = match options.contains("cloud-hypervisor") {
        true => 2,
        false => 1,
    };
    each_log_names_pages(&answer, after_the_stop)?;
    Ok(answer)
}
