// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Resets and error handlers beside calls that wait (review M1): nothing that they take is held over a
//! wait. Each case shows that by its order, not by time: the reset has ended while the call still waits.

use std::time::Duration;

use anyhow::{ensure, Context, Result};
use dlr_testing::{drive::outcome, Placement};
use serde_json::{json, Value};

use super::{
    bench::{Bench, PATIENCE},
    channel::{inject, MALFORMED_TLP},
};

/// How long a command takes in these tests: longer than a reset, and than a recovery from an error.
const SLOW_MS: u64 = 12_000;
/// More than that.
const TIMEOUT_MS: u64 = 20_000;

/// What waits in a test.
struct Waiting {
    state: &'static str,
    opcode: &'static str,
    call: Value,
    /// How the call may end.
    ends: &'static [&'static str],
}

/// State changes, which hold the state lock, and users of sessions, which hold theirs.
fn waiting() -> [Waiting; 4] {
    [
        Waiting {
            state: "RUNNING",
            opcode: "suspend",
            call: json!({"cmd": "set", "state": "RUNNING_P2P"}),
            ends: &["OK", "EIO", "EINVAL"],
        },
        Waiting {
            state: "RUNNING",
            opcode: "save-begin",
            call: json!({"cmd": "set", "state": "PRE_COPY"}),
            ends: &["OK", "EIO", "EINVAL"],
        },
        Waiting {
            state: "STOP_COPY",
            opcode: "save-read",
            call: json!({"cmd": "read"}),
            ends: &["ENODEV", "EIO"],
        },
        Waiting {
            state: "RESUMING",
            opcode: "load-write",
            call: json!({"cmd": "write", "saved": "image"}),
            ends: &["ENODEV", "EIO"],
        },
    ]
}

/// While a call of function 0 waits, `what` happens and comes to its end; then the call does.
fn beside(
    bench: &mut Bench,
    waiting: &Waiting,
    what: impl FnOnce(&mut Bench) -> Result<()>,
) -> Result<()> {
    bench.drives[0].open()?;
    // Reads of STOP_COPY go out with the state change.
    let slow = json!({"delay": SLOW_MS});
    let fault = json!({"cmd": "fault", "opcode": waiting.opcode, "action": slow, "count": 1});
    bench.nic(&fault)?;
    bench.drives[0].go(waiting.state)?;
    let job = bench.drives[0].begin(waiting.call.clone())?;
    let early = bench.drives[0].wait(job, Duration::from_millis(300))?;
    ensure!(early.is_none(), "did not wait: {early:?}");
    what(bench)?;
    let early = bench.drives[0].wait(job, Duration::from_millis(1))?;
    ensure!(early.is_none(), "it had to wait for the call: {early:?}");
    let answer = bench.drives[0].wait(job, PATIENCE)?.context("sleeps on")?;
    let ended = outcome(&answer)?;
    ensure!(
        waiting.ends.contains(&ended.as_str()),
        "the call ended with {ended}"
    );
    bench.nic(&json!({"cmd": "mend"}))?;
    Ok(())
}

/// Function 0 runs and works after all that, and nothing is left over.
fn works(bench: &mut Bench) -> Result<()> {
    bench.expect_state(0, "RUNNING")?;
    bench.drives[0].close()?;
    bench.forget(0)?;
    bench.check_works()
}

#[test]
fn m1_a_reset_waits_for_no_call() -> Result<()> {
    let mut bench = Bench::slow(TIMEOUT_MS)?;
    for case in waiting() {
        beside(&mut bench, &case, |bench| {
            bench.drives[0].ok(&json!({"cmd": "reset"})).map(drop)
        })
        .and_then(|()| works(&mut bench))
        .with_context(|| format!("a reset beside {}", case.opcode))?;
    }
    bench.finish()
}

#[test]
fn m1_a_recovery_from_an_error_waits_for_no_call() -> Result<()> {
    let mut bench = Bench::with(Placement::RootPorts, TIMEOUT_MS)?;
    for case in waiting() {
        beside(&mut bench, &case, |bench| {
            inject(&bench.host, &bench.data[0], MALFORMED_TLP)
        })
        .and_then(|()| bench.reset(0, case.state))
        .and_then(|()| works(&mut bench))
        .with_context(|| format!("an error beside {}", case.opcode))?;
    }
    bench.finish()
}
