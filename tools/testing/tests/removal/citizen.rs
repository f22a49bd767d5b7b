// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The management function as a PCI device among others (H6, H7, contract P3): errors of its channel, of
//! those beside it and of the switch above it, system sleep, and the end of the machine.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use dlr_testing::{BoxConfig, HostBox, NicConfig, Placement};
use serde_json::{json, Value};

use super::{
    bench::{Bench, PATIENCE, TIMEOUT_MS},
    channel::{inject, COMPLETION_TIMEOUT, MALFORMED_TLP},
};

/// A value of the management function's `stats` or `nic` in debugfs.
pub(crate) fn debugfs(host: &HostBox, management: &str, file: &str, name: &str) -> Result<u64> {
    let path = format!("/sys/kernel/debug/dlr_vfio_pci/{management}/{file}");
    let text = String::from_utf8(host.read_file(&path)?)?;
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    let found = pairs.find(|(key, _)| *key == name);
    let (_, value) = found.with_context(|| format!("{path} has no {name}"))?;
    value.parse().context("not a number")
}

/// How often the NIC's management function was reset: by its register, and by FLR.
pub(crate) fn resets(nic: &Value) -> Result<(u64, u64)> {
    let count = |name: &str| nic[name].as_u64().with_context(|| format!("no {name}"));
    Ok((count("resets")?, count("flrs")?))
}

/// What was lost with the management function is told at once; what is begun after works.
fn expect_begun_anew(bench: &mut Bench, state: &str) -> Result<()> {
    for function in 0..2 {
        bench.expect_state(function, state)?;
        let report = bench.report(function)?;
        let wanted = if function == 0 { "EIO" } else { "EINVAL" };
        ensure!(report == wanted, "function {function}: REPORT is {report}");
        bench.reset(function, state)?;
        bench.expect(function, json!({"cmd": "log-stop"}), &["OK"])?;
        // The same open device, the same management function.
        bench.start_log(function)?;
        let report = bench.report(function)?;
        ensure!(report == "OK", "function {function}: REPORT is {report}");
        bench.expect(function, json!({"cmd": "log-stop"}), &["OK"])?;
    }
    let gone = debugfs(&bench.host, &bench.management, "nic", "gone")?;
    ensure!(gone == 0, "the management function is gone");
    // Nobody had to wait for a deadline to learn of it.
    let late = debugfs(&bench.host, &bench.management, "stats", "timeouts")?;
    ensure!(late == 0, "{late} commands timed out");
    bench.close()?;
    bench.check_works()
}

#[test]
fn h6_an_error_that_lost_nothing_costs_nothing() -> Result<()> {
    let mut bench = Bench::placed(Placement::RootPorts)?;
    bench.enter("STOP_COPY")?;
    let management = bench.management.clone();
    inject(&bench.host, &management, COMPLETION_TIMEOUT)?;
    let outages = debugfs(&bench.host, &management, "stats", "outages")?;
    ensure!(outages == 0, "{outages} outages");
    bench.expect_state(0, "STOP_COPY")?;
    let report = bench.report(0)?;
    ensure!(report == "OK", "REPORT is {report}");
    bench.expect_file(0, "STOP_COPY", &["OK"])?;
    bench.close()?;
    bench.check_works()?;
    bench.finish()
}

#[test]
fn h6_the_management_function_comes_back_from_a_fatal_error() -> Result<()> {
    let mut bench = Bench::placed(Placement::RootPorts)?;
    let management = bench.management.clone();
    for state in ["RUNNING", "PRE_COPY", "RESUMING"] {
        (|| {
            bench.enter(state)?;
            inject(&bench.host, &management, MALFORMED_TLP)?;
            expect_begun_anew(&mut bench, state)
        })()
        .with_context(|| format!("in {state}"))?;
    }
    let outages = debugfs(&bench.host, &management, "stats", "outages")?;
    ensure!(outages == 3, "{outages} outages");
    bench.finish()
}

/// Management function and data functions behind one switch, all in use: an error costs those who have
/// lost something, and no others.
#[test]
fn h6_all_behind_a_switch_recover_together() -> Result<()> {
    let mut bench = Bench::placed(Placement::Switch)?;
    let upstream = bench.host.behind("0000:00:04.0", 0)?;
    let (management, data) = (bench.management.clone(), bench.data.clone());
    let outages = |bench: &Bench| debugfs(&bench.host, &management, "stats", "outages");
    // One that is not fatal, wherever it is.
    bench.enter("STOP_COPY")?;
    for address in [&upstream, &management, &data[0], &data[1]] {
        inject(&bench.host, address, COMPLETION_TIMEOUT).with_context(|| address.clone())?;
    }
    for function in 0..2 {
        bench.expect_state(function, "STOP_COPY")?;
        bench.expect_file(function, "STOP_COPY", &["OK"])?;
    }
    let report = bench.report(0)?;
    ensure!(report == "OK", "REPORT is {report}");
    bench.close()?;
    // A fatal one of a data function resets that function, and nobody else notices.
    bench.enter("STOP_COPY")?;
    bench.start_log(1)?;
    inject(&bench.host, &data[0], MALFORMED_TLP)?;
    for (function, report, file) in [(0, "EIO", "EIO"), (1, "OK", "OK")] {
        let told = bench.report(function)?;
        ensure!(told == report, "REPORT of function {function} is {told}");
        bench.expect_file(function, "STOP_COPY", &[file])?;
    }
    bench.reset(0, "STOP_COPY")?;
    bench.close()?;
    ensure!(outages(&bench)? == 0, "{} outages", outages(&bench)?);
    bench.check_works()?;
    // Of the management function: what it kept is lost, the data functions go on.
    for (count, address) in [(1, &management), (2, &upstream)] {
        (|| {
            bench.enter("PRE_COPY")?;
            inject(&bench.host, address, MALFORMED_TLP)?;
            expect_begun_anew(&mut bench, "PRE_COPY")?;
            ensure!(outages(&bench)? == count, "{} outages", outages(&bench)?);
            Ok(())
        })()
        .with_context(|| format!("a fatal error at {address}"))?;
    }
    let log = bench.host.kernel_log()?;
    ensure!(!log.contains("device recovery failed"), "a recovery failed");
    bench.finish()
}

#[test]
fn h6_the_system_sleeps() -> Result<()> {
    let nic = NicConfig::new(2).args([format!("--cmd-timeout={TIMEOUT_MS}")]);
    let mut bench = Bench::in_box(BoxConfig::for_test().sleeps().nic(nic))?;
    bench.enter("PRE_COPY")?;
    // Devices are suspended and resumed; the machine itself stays awake.
    bench.host.run(
        "echo devices > /sys/power/pm_test && echo mem > /sys/power/state && \
         echo none > /sys/power/pm_test",
    )?;
    let management = bench.management.clone();
    let outages = debugfs(&bench.host, &management, "stats", "outages")?;
    ensure!(outages == 1, "{outages} outages");
    expect_begun_anew(&mut bench, "PRE_COPY")?;
    bench.finish()
}

/// Nothing is left running in the device for the next kernel: not with kexec either, which gives no reset.
#[test]
fn h6_the_machine_goes_while_logs_and_sessions_run() -> Result<()> {
    let mut bench = Bench::new()?;
    bench.enter("PRE_COPY")?;
    let stats = json!({"cmd": "stats"});
    let (before, _) = resets(&bench.nic(&stats)?)?;
    bench.host.agent().power_off()?;
    let end = Instant::now() + PATIENCE;
    loop {
        let (after, flrs) = resets(&bench.nic(&stats)?)?;
        ensure!(flrs == 0, "{flrs} FLRs");
        if after > before {
            break;
        }
        ensure!(Instant::now() < end, "the device was left running");
        sleep(Duration::from_millis(20));
    }
    bench.ended()
}

/// The management function is a PF whose data functions are VFs: an FLR of it would take them away.
#[test]
fn h7_no_flr_of_the_management_function() -> Result<()> {
    let mut bench = Bench::new()?;
    let management = bench.management.clone();
    for state in ["RUNNING", "STOP_COPY"] {
        bench.enter(state)?;
        bench.unbind(&management)?;
        bench.bind_management()?;
        bench.close()?;
        bench.check_works()?;
    }
    let (resets, flrs) = resets(&bench.nic(&json!({"cmd": "stats"}))?)?;
    ensure!(flrs == 0, "{flrs} FLRs");
    // Three binds and two unbinds.
    ensure!(resets == 5, "{resets} resets by CONTROL");
    bench.finish()
}
