// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Calls that sleep, in a command or for the status page, while something happens to the device.

use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use dlr_testing::drive::{outcome, Drive};
use serde_json::json;

use super::bench::{Bench, PATIENCE, SOON, TIMEOUT_MS};

/// Whoever sleeps in a command that is not answered is woken when the management function goes, long before
/// the deadline (S10, L21, K13), and may be killed (S8).
#[test]
fn sleepers_are_woken() -> Result<()> {
    let mut bench = Bench::slow(60_000)?;
    let management = bench.management.clone();
    let cases = [
        (
            "suspend",
            "RUNNING",
            json!({"cmd": "set", "state": "RUNNING_P2P"}),
        ),
        ("resume", "STOP", json!({"cmd": "set", "state": "RUNNING"})),
        (
            "save-begin",
            "RUNNING",
            json!({"cmd": "set", "state": "PRE_COPY"}),
        ),
        (
            "save-end",
            "PRE_COPY",
            json!({"cmd": "set", "state": "RUNNING"}),
        ),
        (
            "load-begin",
            "STOP",
            json!({"cmd": "set", "state": "RESUMING"}),
        ),
        ("save-read", "PRE_COPY", json!({"cmd": "read"})),
        (
            "load-write",
            "RESUMING",
            json!({"cmd": "write", "saved": "image"}),
        ),
        (
            "load-commit",
            "RESUMING",
            json!({"cmd": "write", "saved": "image"}),
        ),
        (
            "log-start",
            "RUNNING",
            json!({"cmd": "log-start", "ranges": ["0+1M"]}),
        ),
        (
            "log-sync",
            "RUNNING",
            json!({"cmd": "report", "range": "0+1M"}),
        ),
        (
            "log-add",
            "RUNNING",
            json!({"cmd": "report", "range": "4G+1M"}),
        ),
        ("log-stop", "RUNNING", json!({"cmd": "log-stop"})),
    ];
    for (command, state, call) in cases {
        (|| {
            let logs = ["log-sync", "log-add", "log-stop"].contains(&command);
            bench.drives[0].open()?;
            if logs {
                bench.start_log(0)?;
                let entry = json!({"write": 0x1000});
                bench.nic(&json!({"cmd": "log-entry", "function": 0, "entry": entry}))?;
            }
            bench.drives[0].go(state)?;
            bench.silence(command)?;
            let job = bench.drives[0].begin(call.clone())?;
            let early = bench.drives[0].wait(job, Duration::from_millis(200))?;
            ensure!(early.is_none(), "did not wait: {early:?}");
            // The driver ends a save session and a log whatever the NIC answers, and waits for five seconds
            // at most: what ends much earlier was woken.
            let (wanted, soon) = match command {
                "save-end" | "log-stop" => ("OK", Duration::from_millis(2500)),
                _ => ("ENOTCONN", SOON),
            };
            let begin = Instant::now();
            bench.unbind(&management)?;
            let answer = bench.drives[0].wait(job, SOON)?.context("sleeps on")?;
            ensure!(begin.elapsed() < soon, "woke after {:?}", begin.elapsed());
            let outcome = outcome(&answer)?;
            ensure!(outcome == wanted, "woke with {outcome}");
            bench.drives[0].close()?;
            bench.forget(0)?;
            bench.bind_management()?;
            bench.nic(&json!({"cmd": "mend"}))?;
            bench.check_works()
        })()
        .with_context(|| format!("asleep in {command}"))?;
    }
    // A user who is killed while asleep does not wait for the deadline.
    bench.drives[1].open()?;
    bench.silence("suspend")?;
    bench.drives[1].begin(json!({"cmd": "set", "state": "STOP"}))?;
    std::thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    bench.kill_last()?;
    ensure!(begin.elapsed() < SOON, "died after {:?}", begin.elapsed());
    // The command would be in flight for a minute.
    bench.unbind(&management)?;
    bench.bind_management()?;
    bench.nic(&json!({"cmd": "mend"}))?;
    bench.check_works()?;
    bench.finish()
}

/// No thread waits for a command whose caller was killed. It keeps its slot until a command of its function
/// is given after its deadline. That one works, and other functions are not affected.
fn a_command_of_a_killed_caller_ends(bench: &mut Bench) -> Result<()> {
    bench.drives[1].open()?;
    bench.silence("suspend")?;
    bench.drives[1].begin(json!({"cmd": "set", "state": "STOP"}))?;
    std::thread::sleep(Duration::from_millis(200));
    bench.kill_last()?;
    std::thread::sleep(Duration::from_millis(TIMEOUT_MS + 1000));
    let mut next = Drive::start(&bench.host, &bench.data[1])?;
    next.open()?;
    next.go("PRE_COPY")?;
    next.go("RUNNING")?;
    next.close()?;
    next.quit()
}

/// The NIC ends the session with the reset of the function, and the driver does it some 100 ms later, when
/// the kernel says that the reset is over. What fails in between has failed for that reason, and says so
/// (D19): EIO would be the NIC's fault.
#[test]
fn a_reset_ends_the_call_that_it_interrupts() -> Result<()> {
    let mut bench = Bench::new()?;
    let cases = [
        ("save-read", "STOP_COPY", json!({"cmd": "read"})),
        (
            "load-write",
            "RESUMING",
            json!({"cmd": "write", "saved": "image"}),
        ),
        (
            "load-commit",
            "RESUMING",
            json!({"cmd": "write", "saved": "image"}),
        ),
    ];
    for (command, state, call) in cases {
        let mut interrupted = 0;
        // One of these delays ends in the middle of the reset, whatever this machine is like.
        for delay in (30..=180).step_by(30) {
            (|| {
                bench.drives[0].open()?;
                let fault = json!({"cmd": "fault", "opcode": command, "action": {"delay": delay}, "count": 1});
                bench.nic(&fault)?;
                bench.drives[0].go(state)?;
                let job = bench.drives[0].begin(call.clone())?;
                bench.drives[0].ok(&json!({"cmd": "reset"}))?;
                let answer = bench.drives[0].wait(job, PATIENCE)?.context("sleeps on")?;
                let ended = outcome(&answer)?;
                ensure!(["OK", "ENODEV"].contains(&ended.as_str()), "ended with {ended}");
                interrupted += u32::from(ended == "ENODEV");
                bench.nic(&json!({"cmd": "mend"}))?;
                bench.drives[0].close()?;
                bench.forget(0)
            })()
            .with_context(|| format!("{command} of {delay} ms"))?;
        }
        ensure!(interrupted > 0, "{command}: no reset interrupted anything");
    }
    // Here, because a box of its own takes a quarter of a minute.
    a_command_of_a_killed_caller_ends(&mut bench)?;
    bench.check_works()?;
    bench.finish()
}

/// Whoever asks for a size while the device updates its status page waits for the end of that: a device
/// that is a process may be kept from running in the middle of it. One that never ends is in `faults.rst`.
#[test]
fn an_update_of_the_status_page_is_waited_for() -> Result<()> {
    let mut bench = Bench::new()?;
    bench.drives[0].open()?;
    bench.drives[0].go("PRE_COPY")?;
    for call in [json!({"cmd": "size"}), json!({"cmd": "precopy"})] {
        bench.drives[0].ok(&call)?;
        bench.nic(&json!({"cmd": "tear-page", "function": 0}))?;
        let job = bench.drives[0].begin(call.clone())?;
        let early = bench.drives[0].wait(job, Duration::from_millis(300))?;
        ensure!(early.is_none(), "{call}: {early:?}");
        bench.nic(&json!({"cmd": "mend"}))?;
        let answer = bench.drives[0].wait(job, PATIENCE)?.context("sleeps on")?;
        let ended = outcome(&answer)?;
        ensure!(ended == "OK", "{call} ended with {ended}");
    }
    bench.drives[0].close()?;
    bench.forget(0)?;
    bench.check_works()?;
    bench.finish()
}
