// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Errors of the PCI Express channel (contract S17, P3), put in by the kernel's `aer_inject`. A fatal
//! one freezes the channel, and a reset of the bus follows of which the driver hears nothing.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use dlr_testing::{HostBox, Placement};
use serde_json::json;

use super::bench::{Bench, PATIENCE, STATES};

/// Bits of the Uncorrectable Error Status (PCI Express Base Specification 6.0, 7.8.4.2).
pub(super) const MALFORMED_TLP: u32 = 1 << 18;
pub(super) const COMPLETION_TIMEOUT: u32 = 1 << 14;
/// Says the kernel for each error that it is done with.
const RECOVERED: &str = "device recovery successful";

/// `struct aer_error_inj` of `drivers/pci/pcie/aer_inject.c`.
fn error(address: &str, uncorrectable: u32) -> Result<Vec<u8>> {
    let number = |text: Option<&str>| {
        let text = text.with_context(|| format!("{address} is no PCI address"))?;
        u8::from_str_radix(text, 16).with_context(|| address.to_string())
    };
    let mut parts = address.split([':', '.']).skip(1);
    let mut bytes = Vec::new();
    for _ in 0..3 {
        bytes.push(number(parts.next())?);
    }
    bytes.push(0);
    // Correctable errors, four words of a header, and the domain.
    for word in [uncorrectable, 0, 0, 0, 0, 0, 0] {
        bytes.extend(word.to_le_bytes());
    }
    Ok(bytes)
}

/// Lets a function have an error, and waits until the kernel has dealt with it.
pub(super) fn inject(host: &HostBox, address: &str, uncorrectable: u32) -> Result<()> {
    let octal: String = error(address, uncorrectable)?
        .iter()
        .map(|byte| format!("\\{byte:03o}"))
        .collect();
    let recoveries = || Ok::<_, anyhow::Error>(host.kernel_log()?.matches(RECOVERED).count());
    let before = recoveries()?;
    host.run(&format!("printf '{octal}' > /dev/aer_inject"))?;
    let end = Instant::now() + PATIENCE;
    while recoveries()? == before {
        ensure!(Instant::now() < end, "the kernel did not recover {address}");
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn a_fatal_error_of_the_channel_is_never_clean() -> Result<()> {
    let mut bench = Bench::placed(Placement::RootPorts)?;
    for state in STATES {
        (|| {
            bench.enter(state)?;
            for function in 0..2 {
                inject(&bench.host, &bench.data[function], MALFORMED_TLP)?;
                bench.expect_state(function, state)?;
                let report = bench.report(function)?;
                let wanted = if function == 0 { "EIO" } else { "EINVAL" };
                ensure!(report == wanted, "function {function}: REPORT is {report}");
                // Not the end of a stream, whatever has been read ahead.
                bench.expect_file(function, state, &["EIO"])?;
                bench.reset(function, state)?;
                // The log knows nothing of that.
                let report = bench.report(function)?;
                ensure!(report == wanted, "after RESET: REPORT is {report}");
            }
            bench.close()?;
            bench.check_works()
        })()
        .with_context(|| format!("a fatal error in {state}"))?;
    }
    bench.finish()
}

/// The image is whole and installed, but the reset of the bus has taken it away again.
#[test]
fn a_loaded_state_does_not_survive_a_fatal_error() -> Result<()> {
    let mut bench = Bench::placed(Placement::RootPorts)?;
    bench.enter("RESUMING")?;
    bench.expect_file(0, "RESUMING", &["OK"])?;
    inject(&bench.host, &bench.data[0], MALFORMED_TLP)?;
    let leave = json!({"cmd": "set", "state": "STOP"});
    bench.expect(0, leave, &["EINVAL"])?;
    bench.expect_state(0, "RESUMING")?;
    bench.reset(0, "RESUMING")?;
    bench.close()?;
    bench.check_works()?;
    bench.finish()
}

#[test]
fn an_error_that_is_not_fatal_changes_nothing() -> Result<()> {
    let mut bench = Bench::placed(Placement::RootPorts)?;
    bench.enter("STOP_COPY")?;
    inject(&bench.host, &bench.data[0], COMPLETION_TIMEOUT)?;
    bench.expect_state(0, "STOP_COPY")?;
    let report = bench.report(0)?;
    ensure!(report == "OK", "REPORT is {report}");
    bench.expect_file(0, "STOP_COPY", &["OK"])?;
    bench.close()?;
    bench.check_works()?;
    bench.finish()
}
