// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One function's trouble is not another's (review M3): function 0 has a command that the NIC does not
//! answer, and function 1 a REPORT in flight, whose SYNC the NIC is slow to execute.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use dlr_testing::drive::outcome;
use serde_json::json;

use super::bench::{Bench, DEADLINE_MS, PATIENCE};

/// The SYNC of function 1 is in flight for so long on both sides of what happens.
const AROUND_MS: u64 = 1000;

/// Counters of the driver.
fn counters(bench: &Bench) -> Result<BTreeMap<String, i64>> {
    let file = format!("/sys/kernel/debug/dlr_vfio_pci/{}/stats", bench.management);
    let text = String::from_utf8(bench.host.read_file(&file)?)?;
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs
        .map(|(name, count)| Ok((name.to_owned(), count.parse()?)))
        .collect()
}

/// How much the counters have grown.
fn growth(bench: &Bench, before: &BTreeMap<String, i64>, names: &[&str]) -> Result<Vec<i64>> {
    let now = counters(bench)?;
    let count =
        |all: &BTreeMap<String, i64>, name: &str| all.get(name).copied().context("no counter");
    names
        .iter()
        .map(|name| Ok(count(&now, name)? - count(before, name)?))
        .collect()
}

/// SUSPEND of function 0 suffers `fault`. Function 1 reports all the time, and has a slow SYNC in flight
/// `after_ms` later, when the driver does what it does. Every REPORT has to succeed, and SUSPEND to say
/// `ETIMEDOUT`; both functions work afterwards.
fn trouble(bench: &mut Bench, fault: &str, after_ms: u64) -> Result<()> {
    bench.drives[0].open()?;
    bench.drives[1].open()?;
    bench.start_log(0)?;
    bench.start_log(1)?;
    bench.nic(&json!({"cmd": "fault", "opcode": "suspend", "action": fault, "count": 1}))?;
    let suspend = bench.drives[0].begin(json!({"cmd": "set", "state": "RUNNING_P2P"}))?;
    std::thread::sleep(Duration::from_millis(after_ms - AROUND_MS));
    let entry = json!({"cmd": "log-entry", "function": 1, "entry": {"write": 0x1000}});
    bench.nic(&entry)?;
    let slow = json!({"delay": 2 * AROUND_MS});
    bench.nic(&json!({"cmd": "fault", "opcode": "log-sync", "action": slow, "count": 1}))?;
    let report = bench.drives[1].begin(json!({"cmd": "report", "range": "0+1M"}))?;
    let early = bench.drives[1].wait(report, Duration::from_millis(AROUND_MS / 2))?;
    ensure!(
        early.is_none(),
        "REPORT did not wait for its SYNC: {early:?}"
    );
    let answer = bench.drives[1].wait(report, PATIENCE)?;
    let answer = answer.context("REPORT of function 1 sleeps on")?;
    let ended = outcome(&answer)?;
    ensure!(ended == "OK", "REPORT of function 1 ended with {ended}");
    let answer = bench.drives[0].wait(suspend, PATIENCE)?;
    let ended = outcome(&answer.context("SUSPEND sleeps on")?)?;
    ensure!(
        ended == "ETIMEDOUT",
        "SUSPEND of function 0 ended with {ended}"
    );
    bench.nic(&json!({"cmd": "mend"}))?;
    // Nothing sticks: another SYNC each, with the markers of the slow one behind them.
    for function in 0..2 {
        for _ in 0..2 {
            let entry =
                json!({"cmd": "log-entry", "function": function, "entry": {"write": 0x2000}});
            bench.nic(&entry)?;
            let report = bench.report(function)?;
            ensure!(
                report == "OK",
                "REPORT of function {function} afterwards: {report}"
            );
        }
        bench.expect_state(function, "RUNNING")?;
        bench.drives[function].go("STOP")?;
        bench.drives[function].go("RUNNING")?;
    }
    bench.close()?;
    bench.check_works()
}

/// The queue does nothing more until the management function is reset: not even a handshake ends.
#[test]
fn h5_a_queue_that_does_not_come_back_is_tried_again() -> Result<()> {
    let mut bench = Bench::new()?;
    bench.drives[0].open()?;
    bench.drives[1].open()?;
    bench.start_log(0)?;
    let before = counters(&bench)?;
    bench.nic(&json!({"cmd": "fault", "opcode": "log-start", "action": "stuck", "count": 1}))?;
    let start = json!({"cmd": "log-start", "ranges": ["0+1M"]});
    let end = Instant::now() + 2 * PATIENCE;
    let mut tries = 0;
    loop {
        let errno = bench.drives[1].errno(&start)?;
        if errno == "OK" {
            break;
        }
        let wanted = ["ETIMEDOUT", "EIO"];
        ensure!(wanted.contains(&errno.as_str()), "START is {errno}");
        ensure!(
            Instant::now() < end,
            "does not come back: {:?}",
            counters(&bench)?
        );
        tries += 1;
        // The pause between two tries of the driver is longer.
        std::thread::sleep(Duration::from_millis(100));
    }
    ensure!(tries > 0, "START of a queue that stood still was OK");
    let grown = growth(&bench, &before, &["function_resets"])?;
    ensure!(grown == [1], "resets of the management function: {grown:?}");
    // The reset ended the log of the other function, which must never be taken for clean.
    let report = bench.report(0)?;
    ensure!(report == "EIO", "REPORT is {report}");
    bench.expect(0, json!({"cmd": "log-stop"}), &["OK"])?;
    bench.expect(1, json!({"cmd": "log-stop"}), &["OK"])?;
    // The handles are the same, and status pages live.
    for function in 0..2 {
        bench.start_log(function)?;
        let report = bench.report(function)?;
        ensure!(report == "OK", "REPORT of the new log is {report}");
        for state in ["PRE_COPY", "STOP_COPY", "RUNNING"] {
            bench.drives[function].go(state)?;
        }
    }
    bench.close()?;
    bench.check_works()?;
    bench.finish()
}

/// The two rows of a function: a REPORT does not wait for a state change that takes long, nor for the one that
/// waits behind it.
#[test]
fn m4_a_report_waits_for_no_state_change() -> Result<()> {
    let mut bench = Bench::new()?;
    bench.drives[0].open()?;
    bench.start_log(0)?;
    let slow = json!({"delay": 2000});
    bench.nic(&json!({"cmd": "fault", "opcode": "suspend", "action": slow, "count": 1}))?;
    let suspend = bench.drives[0].begin(json!({"cmd": "set", "state": "STOP"}))?;
    let early = bench.drives[0].wait(suspend, Duration::from_millis(200))?;
    ensure!(early.is_none(), "SUSPEND did not wait: {early:?}");
    for _ in 0..5 {
        let entry = json!({"cmd": "log-entry", "function": 0, "entry": {"write": 0x1000}});
        bench.nic(&entry)?;
        let report = bench.report(0)?;
        ensure!(report == "OK", "REPORT is {report}");
    }
    let early = bench.drives[0].wait(suspend, Duration::from_millis(1))?;
    ensure!(early.is_none(), "five REPORTs took as long as SUSPEND");
    let answer = bench.drives[0].wait(suspend, PATIENCE)?;
    let ended = outcome(&answer.context("SUSPEND sleeps on")?)?;
    ensure!(ended == "OK", "SUSPEND ended with {ended}");
    bench.drives[0].go("RUNNING")?;
    bench.drives[0].close()?;
    bench.check_works()?;
    bench.finish()
}

/// A clean-up does not wait as long as the NIC may take (half a minute here), nor for each of its commands:
/// five seconds in all. A reset of the function does four of them while other tasks wait for its locks.
#[test]
fn m7_a_clean_up_takes_five_seconds_at_most() -> Result<()> {
    let mut bench = Bench::slow(30_000)?;
    bench.drives[0].open()?;
    bench.start_log(0)?;
    for (opcode, call, wanted) in [
        // The end of a save session is taken whatever the NIC says.
        ("save-end", json!({"cmd": "set", "state": "RUNNING"}), "OK"),
        ("log-stop", json!({"cmd": "log-stop"}), "ETIMEDOUT"),
    ] {
        bench.drives[0].go("PRE_COPY")?;
        bench.silence(opcode)?;
        let begin = Instant::now();
        let errno = bench.drives[0].errno(&call)?;
        let took = begin.elapsed();
        ensure!(errno == wanted, "{opcode}: {errno}");
        let bounds = Duration::from_secs(4)..Duration::from_secs(10);
        ensure!(bounds.contains(&took), "{opcode} took {took:?}");
        bench.nic(&json!({"cmd": "mend"}))?;
        bench.drives[0].ok(&json!({"cmd": "reset"}))?;
        bench.forget(0)?;
    }
    bench.drives[0].close()?;
    bench.finish()
}

#[test]
fn m3_one_functions_trouble_is_not_anothers() -> Result<()> {
    let mut bench = Bench::new()?;
    let names = ["timeouts", "aborts", "resets", "function_resets", "again"];
    // Not executed, and executed with its answer lost.
    for fault in ["ignore", "drop"] {
        let before = counters(&bench)?;
        trouble(&mut bench, fault, DEADLINE_MS).with_context(|| format!("SUSPEND: {fault}"))?;
        let grown = growth(&bench, &before, &names)?;
        ensure!(
            grown == [1, 1, 0, 0, 0],
            "{fault}: {names:?} grew by {grown:?}"
        );
    }
    // The abort does not end: handshake, and the SYNC is given again.
    let before = counters(&bench)?;
    bench.nic(
        &json!({"cmd": "register-fault", "register": "abort", "action": "stuck", "count": 1}),
    )?;
    trouble(&mut bench, "ignore", 2 * DEADLINE_MS).context("the abort is stuck")?;
    let grown = growth(&bench, &before, &names)?;
    ensure!(
        grown == [1, 1, 1, 0, 1],
        "abort stuck: {names:?} grew by {grown:?}"
    );
    bench.finish()
}
