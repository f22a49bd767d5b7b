// SPDX-License-Identifier: Apache-2.0 OR MIT

//! How calls end that other tasks wait for: closes, bus callbacks and undo, with a NIC that does not answer or a
//! user who is killed.

use std::{
    ops::Range,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use dlr_testing::drive::Drive;
use serde_json::json;

use super::bench::{Bench, DEADLINE_MS};

/// What the NIC says that a command may take: far more than what a clean-up has.
const LONG_MS: u64 = 30_000;
/// One budget of five seconds, and what a busy machine adds; less than two.
const ONE_BUDGET: Range<Duration> = Duration::from_secs(4)..Duration::from_millis(9_500);
/// Two callbacks with a budget each, and the reset between them.
const TWO_BUDGETS: Range<Duration> = Duration::from_secs(4)..Duration::from_secs(20);

/// How long an abort takes in these tests; longer than what is done meanwhile.
const ABORT_MS: u64 = 3000;

/// How long `call` takes.
fn time(call: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begin = Instant::now();
    call()?;
    Ok(begin.elapsed())
}

/// A close with a log and a session, of which the NIC ends neither: one budget for all of it. Whoever
/// exits, or closes the last file, waits uninterruptibly.
#[test]
fn m7_a_close_takes_five_seconds_at_most() -> Result<()> {
    let mut bench = Bench::slow(LONG_MS)?;
    for state in ["RUNNING", "PRE_COPY", "RESUMING"] {
        bench.drives[0].open()?;
        bench.start_log(0)?;
        bench.drives[0].go(state)?;
        for opcode in ["log-stop", "save-end", "load-abort"] {
            bench.silence(opcode)?;
        }
        let took = time(|| bench.drives[0].close())?;
        ensure!(ONE_BUDGET.contains(&took), "close in {state} took {took:?}");
        bench.nic(&json!({"cmd": "mend"}))?;
        bench.forget(0)?;
        // What the device has kept of the log is settled before the next one.
        bench.drives[0].open()?;
        bench.start_log(0)?;
        let report = bench.report(0)?;
        ensure!(report == "OK", "REPORT of the next log is {report}");
        bench.drives[0].close()?;
    }
    bench.finish()
}

/// A reset and an unbinding of a management function whose CONTROL.RESET does not end, with the device
/// lock held.
#[test]
fn m7_a_callback_takes_five_seconds_at_most() -> Result<()> {
    let bench = Bench::slow_without_vfs(LONG_MS)?;
    let management = bench.management.clone();
    let stuck =
        json!({"cmd": "register-fault", "register": "reset", "action": "stuck", "count": 1});
    bench.nic(&stuck)?;
    let took = time(|| bench.reset_function(&management))?;
    ensure!(TWO_BUDGETS.contains(&took), "reset took {took:?}");
    bench.nic(&stuck)?;
    bench.expect_flr();
    let took = time(|| bench.unbind(&management))?;
    ensure!(ONE_BUDGET.contains(&took), "unbind took {took:?}");
    bench.nic(&json!({"cmd": "mend"}))?;
    bench.bind_management()?;
    bench.finish()
}

/// SUSPEND is refused, and the thread is killed while the RESUME that takes it back is carried out. It
/// waits for that: the other holder of the device's file finds it where it was.
#[test]
fn m8_an_undo_is_not_killable() -> Result<()> {
    let mut bench = Bench::new()?;
    let opened = bench.drives[0].ok(&json!({"cmd": "open"}))?;
    let refused = json!({"status": 9});
    bench.nic(&json!({"cmd": "fault", "opcode": "suspend", "action": refused, "count": 1}))?;
    let slow = json!({"delay": 1500});
    bench.nic(&json!({"cmd": "fault", "opcode": "resume", "action": slow, "count": 1}))?;
    let mut second = Drive::start(&bench.host, &bench.data[0])?;
    let of = json!([bench.drives[0].pid(), opened["fd"]]);
    let job = second.begin(json!({"cmd": "set", "state": "RUNNING_P2P", "of": of}))?;
    let early = second.wait(job, Duration::from_millis(500))?;
    ensure!(early.is_none(), "the undo did not wait: {early:?}");
    second.kill()?;
    bench.expect_state(0, "RUNNING")?;
    bench.nic(&json!({"cmd": "mend"}))?;
    bench.drives[0].go("STOP")?;
    bench.drives[0].go("RUNNING")?;
    bench.drives[0].close()?;
    bench.check_works()?;
    bench.finish()
}

/// Function 0 has a command that is not answered, and its abort takes `ABORT_MS`: meanwhile nothing of
/// the function is given to the NIC. Waits until that is so.
fn enter_abort(bench: &Bench) -> Result<()> {
    let slow = json!({"delay": ABORT_MS});
    bench
        .nic(&json!({"cmd": "register-fault", "register": "abort", "action": slow, "count": 1}))?;
    sleep(Duration::from_millis(DEADLINE_MS + ABORT_MS / 4));
    Ok(())
}

/// Aborts of function 0 that the NIC has begun.
fn aborts(bench: &Bench) -> Result<u64> {
    let stats = bench.nic(&json!({"cmd": "stats"}))?;
    stats["functions"][0]["aborts"]
        .as_u64()
        .context("no aborts")
}

/// The session that the NIC has for function 0.
pub(super) fn session(bench: &Bench) -> Result<String> {
    let stats = bench.nic(&json!({"cmd": "stats"}))?;
    let session = stats["functions"][0]["session"].as_str();
    session.map(str::to_owned).context("no session")
}

/// A thread that ends a save session is killed while SAVE_END waits for its turn, and while it is carried
/// out: it waits for that, and the session has ended when it is gone. (A user who exits has no signal
/// pending any more when the kernel closes the files: what is killed here is a call.)
#[test]
fn m8_a_clean_up_is_not_killable() -> Result<()> {
    for turn in ["waits for its turn", "is carried out"] {
        (|| {
            let mut bench = Bench::new()?;
            let opened = bench.drives[0].ok(&json!({"cmd": "open"}))?;
            bench.start_log(0)?;
            bench.drives[0].go("PRE_COPY")?;
            let mut second = Drive::start(&bench.host, &bench.data[0])?;
            if turn == "is carried out" {
                let slow = json!({"delay": 2000});
                bench.nic(
                    &json!({"cmd": "fault", "opcode": "save-end", "action": slow, "count": 1}),
                )?;
            } else {
                bench.silence("save-read")?;
                bench.drives[0].begin(json!({"cmd": "read"}))?;
                enter_abort(&bench)?;
            }
            let of = json!([bench.drives[0].pid(), opened["fd"]]);
            let job = second.begin(json!({"cmd": "set", "state": "RUNNING", "of": of}))?;
            let early = second.wait(job, Duration::from_millis(300))?;
            ensure!(early.is_none(), "SAVE_END did not wait: {early:?}");
            ensure!(session(&bench)? == "save", "SAVE_END was not held up");
            let took = time(|| second.kill())?;
            ensure!(session(&bench)? == "none", "gone, with its session left");
            ensure!(took > Duration::from_millis(500), "did not wait: {took:?}");
            ensure!(
                aborts(&bench)? == u64::from(turn == "waits for its turn"),
                "{} aborts",
                aborts(&bench)?
            );
            bench.nic(&json!({"cmd": "mend"}))?;
            bench.expect_state(0, "RUNNING")?;
            bench.drives[0].close()?;
            bench.forget(0)?;
            bench.check_works()?;
            bench.finish()
        })()
        .with_context(|| format!("SAVE_END {turn}"))?;
    }
    Ok(())
}

/// SUSPEND is not answered, and the thread is killed while the RESUME that takes it back has to wait for
/// its turn.
#[test]
fn m8_an_undo_is_not_killable_while_it_waits_for_its_turn() -> Result<()> {
    let mut bench = Bench::new()?;
    let opened = bench.drives[0].ok(&json!({"cmd": "open"}))?;
    let mut second = Drive::start(&bench.host, &bench.data[0])?;
    let of = json!([bench.drives[0].pid(), opened["fd"]]);
    bench.silence("suspend")?;
    second.begin(json!({"cmd": "set", "state": "RUNNING_P2P", "of": of}))?;
    enter_abort(&bench)?;
    let took = time(|| second.kill())?;
    ensure!(
        took > Duration::from_secs(1),
        "waited for nothing: {took:?}"
    );
    ensure!(aborts(&bench)? == 1, "{} aborts", aborts(&bench)?);
    bench.expect_state(0, "RUNNING")?;
    bench.drives[0].go("STOP")?;
    bench.drives[0].go("RUNNING")?;
    bench.drives[0].close()?;
    bench.check_works()?;
    bench.finish()
}
