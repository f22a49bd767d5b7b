// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Scenarios of the source alone: its state goes nowhere, which the source cannot know.
//! Afterwards the guest goes on each time as if nothing had been.

use std::{
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{ensure, Context, Result};
use dlr_testing::e2e::{
    attempt::{driver_state, until_at_rest, Settings, NOWHERE},
    Journey, Lab, Vm,
};
use serde_json::{json, Value};

use crate::group::{start_journey, Group, Listed};

/// `enum dlr_status`.
const NO_MEMORY: u16 = 7;
const INTERNAL: u16 = 9;

/// For so long the NIC holds a command back while something else is to happen. Its command timeout is
/// 10 s.
pub(crate) const DELAY_MS: u64 = 6000;

/// End of QEMU's trace while a SET of PRE_COPY is under way.
const ASKED: &str = "new state PRE_COPY, recover state RUNNING";

/// All of them, in an order in which each leaves what the next one needs.
pub(crate) fn group() -> Listed {
    let group = Group::new("source", start_journey);
    let trials = vec![
        group.scenario("s27_log_start_fails", log_start_fails),
        group.scenario("s29_set_pre_copy_fails", set_pre_copy_fails),
        group.scenario("s28_report_fails_in_pre_copy", report_fails),
        group.scenario("s31_read_fails_in_pre_copy", read_fails_in_pre_copy),
        group.scenario("s17_cancelled_in_setup", cancelled_in_setup),
        group.scenario("s17_cancelled_in_pre_copy", cancelled_in_pre_copy),
        group.scenario("s31_read_fails_in_stop_copy", read_fails_in_stop_copy),
        group.scenario("s36_stop_and_cont_in_pre_copy", stop_and_cont),
        group.scenario(
            "s19_cancelled_before_switchover",
            cancelled_before_switchover,
        ),
        group.scenario("s18_paused_before_switchover", paused_before_switchover),
        group.scenario("s20_source_goes_on_after_completion", source_goes_on),
        group.end("the_guest_of_the_source_scenarios_is_unharmed"),
    ];
    (group, trials)
}

/// The function is as if there had been no migration: RUNNING, and its log is off.
fn expect_untouched(journey: &Journey, resets: u64) -> Result<()> {
    let stats = until_at_rest(journey.lab(), 0)?;
    ensure!(
        count_resets(&stats)? == resets,
        "the function was reset: {stats}"
    );
    Ok(())
}

fn count_resets(stats: &Value) -> Result<u64> {
    stats["net"]["resets"]
        .as_u64()
        .context("no count of resets")
}

fn resets(journey: &Journey) -> Result<u64> {
    count_resets(&journey.lab().function_stats(0)?)
}

/// [27] DMA_LOGGING_START is ENOMEM.
fn log_start_fails(journey: &mut Journey) -> Result<()> {
    let before = resets(journey)?;
    let (lab, vm, _) = journey.parts();
    lab.fault("log-start", NO_MEMORY, 0, 1)?;
    vm.begin(lab, NOWHERE, &Settings::one_way())?;
    vm.until_end()?
        .expect_failed("Failed to start DMA logging")?;
    vm.order(lab.host())?.expect_states("")?;
    ensure!(vm.status()? == "running");
    expect_untouched(journey, before)
}

/// [29] The arc to PRE_COPY fails, and QEMU sets the device back to RUNNING.
fn set_pre_copy_fails(journey: &mut Journey) -> Result<()> {
    let before = resets(journey)?;
    let (lab, vm, _) = journey.parts();
    lab.fault("save-begin", INTERNAL, 0, 1)?;
    vm.begin(lab, NOWHERE, &Settings::one_way())?;
    vm.until_end()?
        .expect_failed("Failed setting device state to PRE_COPY")?;
    vm.order(lab.host())?.expect_states("->RUNNING")?;
    ensure!(vm.status()? == "running");
    expect_untouched(journey, before)
}

/// [28] REPORT is EIO. The next migration starts the log anew.
fn report_fails(journey: &mut Journey) -> Result<()> {
    let before = resets(journey)?;
    let (lab, vm, _) = journey.parts();
    vm.begin(lab, NOWHERE, &Settings::one_way())?;
    vm.until_rounds(2)?;
    lab.fault("log-sync", INTERNAL, 0, 1)?;
    vm.until_end()?
        .expect_failed("Failed to get DMA logging report")?;
    vm.until_closed(lab)?
        .expect("LOG_START REPORT PRE_COPY LOOP RUNNING SAVED")?;
    ensure!(vm.status()? == "running");
    expect_untouched(journey, before)
}

/// [31] read() is EIO while the guest runs.
fn read_fails_in_pre_copy(journey: &mut Journey) -> Result<()> {
    let before = resets(journey)?;
    let (lab, vm, _) = journey.parts();
    lab.fault("save-read", INTERNAL, 0, 1)?;
    vm.begin(lab, NOWHERE, &Settings::one_way())?;
    vm.until_end()?.expect_failed("Input/output error")?;
    vm.until_closed(lab)?.expect_states("PRE_COPY RUNNING")?;
    ensure!(vm.qmp().events().iter().all(|e| e["event"] != "STOP"));
    expect_untouched(journey, before)
}

/// [17] Cancelled while the device goes to PRE_COPY: QEMU hears of it when it is there.
fn cancelled_in_setup(journey: &mut Journey) -> Result<()> {
    let before = resets(journey)?;
    let (lab, vm, _) = journey.parts();
    lab.nic(
        &json!({"cmd": "fault", "opcode": "save-begin", "action": {"delay": DELAY_MS}, "count": 1}),
    )?;
    vm.begin(lab, NOWHERE, &Settings::one_way())?;
    until_asked(lab, vm)?;
    vm.cancel()?.expect("cancelled")?;
    ensure!(vm.status()? == "running");
    vm.order(lab.host())?
        .expect("LOG_START REPORT PRE_COPY LOOP RUNNING SAVED")?;
    expect_untouched(journey, before)
}

/// Waits until QEMU has asked for PRE_COPY, and waits for the device.
pub(crate) fn until_asked(lab: &Lab, vm: &Vm) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    let last = format!("tail -n 1 /run/vm/{}/trace", vm.name());
    while !lab.host().run(&last)?.trim_end().ends_with(ASKED) {
        ensure!(Instant::now() < end, "the device is not taken to PRE_COPY");
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// [17] Cancelled in pre-copy; that the next migration completes is shown by [18].
fn cancelled_in_pre_copy(journey: &mut Journey) -> Result<()> {
    let before = resets(journey)?;
    let (lab, vm, _) = journey.parts();
    vm.begin(lab, NOWHERE, &Settings::one_way())?;
    vm.until_rounds(3)?;
    vm.cancel()?.expect("cancelled")?;
    vm.order(lab.host())?
        .expect("LOG_START REPORT PRE_COPY LOOP RUNNING SAVED")?;
    ensure!(vm.qmp().events().iter().all(|e| e["event"] != "STOP"));
    expect_untouched(journey, before)
}

/// [31] read() is EIO in the stopped guest. The last part is read ahead as soon as the function
/// has stopped: so it has to take its time to stop, and the fault is set meanwhile.
fn read_fails_in_stop_copy(journey: &mut Journey) -> Result<()> {
    let (lab, vm, _) = journey.parts();
    vm.begin(lab, NOWHERE, &Settings::one_way())?;
    vm.until_rounds(2)?;
    // The second suspension is that to STOP_COPY.
    lab.nic(
        &json!({"cmd": "fault", "opcode": "suspend", "action": {"delay": DELAY_MS}, "after": 1,
            "count": 1}),
    )?;
    let since = SystemTime::now();
    vm.let_go()?;
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let state = driver_state(lab, 0)?;
        if state == "PRE_COPY_P2P" {
            break;
        }
        ensure!(Instant::now() < end, "the function is {state}");
        sleep(Duration::from_millis(50));
    }
    lab.fault("save-read", INTERNAL, 0, 1)?;
    vm.until_end()?.expect_failed("Input/output error")?;
    vm.until_running("running")?;
    let order = vm.order(lab.host())?;
    ensure!(
        order
            .states()
            .starts_with(&["PRE_COPY", "PRE_COPY_P2P", "STOP_COPY"])
            && order.states().ends_with(&["RUNNING"]),
        "{order}"
    );
    ensure!(driver_state(lab, 0)? == "RUNNING");
    journey.excuse_losses_since(since);
    Ok(())
}

/// [36] The guest is stopped and let go in the middle of a migration.
fn stop_and_cont(journey: &mut Journey) -> Result<()> {
    let before = resets(journey)?;
    let (lab, vm, _) = journey.parts();
    vm.begin(lab, NOWHERE, &Settings::one_way())?;
    vm.until_rounds(2)?;
    vm.qmp().execute("stop", Value::Null)?;
    sleep(Duration::from_millis(500));
    ensure!(driver_state(lab, 0)? == "STOP_COPY");
    vm.qmp().execute("cont", Value::Null)?;
    vm.until_running("running")?;
    vm.cancel()?.expect("cancelled")?;
    vm.order(lab.host())?
        .expect_states("PRE_COPY PRE_COPY_P2P STOP_COPY RUNNING_P2P RUNNING")?;
    expect_untouched(journey, before)
}

/// [19] Paused before the switchover and cancelled there.
fn cancelled_before_switchover(journey: &mut Journey) -> Result<()> {
    let before = resets(journey)?;
    let (lab, vm, _) = journey.parts();
    vm.begin(lab, NOWHERE, &Settings::one_way().free().pausing())?;
    vm.until_status("pre-switchover")?;
    ensure!(driver_state(lab, 0)? == "STOP_COPY");
    vm.cancel()?.expect("cancelled")?;
    vm.until_running("running")?;
    vm.order(lab.host())?
        .expect_states("PRE_COPY PRE_COPY_P2P STOP_COPY RUNNING RUNNING_P2P RUNNING")?;
    expect_untouched(journey, before)
}

/// [18] Paused before the switchover for 5 s: nothing is read meanwhile. Then it completes.
fn paused_before_switchover(journey: &mut Journey) -> Result<()> {
    let (lab, vm, _) = journey.parts();
    vm.begin(lab, NOWHERE, &Settings::one_way().free().pausing())?;
    vm.until_status("pre-switchover")?;
    sleep(Duration::from_secs(5));
    let order = vm.order(lab.host())?;
    order.expect("LOG_START REPORT PRE_COPY LOOP PRE_COPY_P2P STOP_COPY")?;
    vm.proceed()?;
    let attempt = vm.until_end()?;
    attempt.expect("completed")?;
    let downtime = attempt.info["downtime"].as_u64().unwrap_or(0);
    ensure!(downtime >= 5000, "downtime of {downtime} ms");
    vm.until_saved(lab)?
        .expect("LOG_START REPORT PRE_COPY LOOP PRE_COPY_P2P STOP_COPY REPORT READ STOP SAVED")?;
    // Where the guest is to go on now is shown by [20].
    vm.qmp().execute("cont", Value::Null)?;
    Ok(())
}

/// [20] After `completed` nobody took the guest over, and the source lets it go on.
fn source_goes_on(journey: &mut Journey) -> Result<()> {
    let before = resets(journey)?;
    let (lab, vm, _) = journey.parts();
    vm.begin(lab, NOWHERE, &Settings::one_way().free())?;
    vm.until_end()?.expect("completed")?;
    vm.until_saved(lab)?;
    ensure!(driver_state(lab, 0)? == "STOP");
    let log = lab.function_stats(0)?["log"]["active"].clone();
    ensure!(log == true, "the log ended with the migration");
    vm.mark(lab.host())?;
    vm.qmp().execute("cont", Value::Null)?;
    vm.until_running("running")?;
    vm.order(lab.host())?.expect_states("RUNNING_P2P RUNNING")?;
    expect_untouched(journey, before)
}
