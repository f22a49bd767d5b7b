// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Scenarios with a destination: a guest that moves in unusual ways, and attempts that fail
//! there.

use anyhow::{ensure, Context, Result};
use dlr_testing::e2e::{
    attempt::{driver_state, until_state, Settings},
    trace::Trace,
    Demand, Journey, Judged, NoWindow, Unusual, Vm, Watch,
};
use serde_json::{json, Value};

use crate::{
    group::{start_journey, Group, Listed},
    source::{until_asked, DELAY_MS},
};

/// All of them. The guest is in function 0 before the first and after the last one.
pub(crate) fn group() -> Listed {
    let group = Group::new("hops", start_journey);
    let trials = vec![
        group.scenario("s37_destination_killed_in_setup", killed_in_setup),
        group.scenario("s37_destination_killed_in_pre_copy", killed_in_pre_copy),
        group.scenario("s37_destination_killed_in_stop_copy", killed_in_stop_copy),
        group.scenario("s32_flipped_bit_is_refused", flipped_bit),
        group.scenario("s33_truncated_state_is_refused", truncated),
        group.scenario("s01_exact_order_of_a_move", exact_order),
        group.scenario("s07_paused_guest_moves", paused_guest),
        group.scenario("s08_destination_that_waits", waiting_destination),
        group.scenario("s22_no_report_before_stop_copy", no_report_in_pre_copy),
        group.scenario("state_in_a_file_and_back", by_way_of_a_file),
        group.end("the_guest_that_moved_is_unharmed"),
    ];
    (group, trials)
}

/// Number of the function that the guest is in: the trials take turns.
pub(crate) fn place(journey: &mut Journey) -> Result<usize> {
    let (lab, vm, _) = journey.parts();
    let here = vm.config().functions.first();
    lab.functions()
        .iter()
        .position(|f| Some(f) == here)
        .context("the guest has no function")
}

/// Starts a destination in the other one of the first two functions.
pub(crate) fn destination(journey: &mut Journey, unusual: &Unusual) -> Result<(usize, usize, Vm)> {
    let here = place(journey)?;
    let there = 1 - here;
    let vm = journey.parts().0.unusual_vm(&[there], true, unusual)?;
    Ok((here, there, vm))
}

/// The destination died: the source says `failed` and goes on, and the function that the
/// destination had can be used at once.
fn expect_survival(journey: &mut Journey, here: usize, there: usize) -> Result<()> {
    let (lab, vm, _) = journey.parts();
    // By a write, or by a read of the return path.
    vm.until_end()?
        .expect_failed_with(&["Channel error", "to socket", "from socket"])?;
    vm.until_running("running")?;
    until_state(lab, here, "RUNNING")?;
    let address = lab.functions()[there].clone();
    let info = lab.host().run(&format!("vfio-mig info {address}"))?;
    ensure!(info.contains("RUNNING"), "{info}");
    Ok(())
}

/// [37] While the device is being taken to PRE_COPY: the log has been started.
fn killed_in_setup(journey: &mut Journey) -> Result<()> {
    let (here, there, mut destination) = destination(journey, &Unusual::default())?;
    let (lab, vm, _) = journey.parts();
    lab.nic(
        &json!({"cmd": "fault", "opcode": "save-begin", "action": {"delay": DELAY_MS}, "count": 1}),
    )?;
    let uri = destination.expect_incoming(lab, &Settings::held())?;
    vm.begin(lab, &uri, &Settings::held())?;
    until_asked(lab, vm)?;
    destination.kill(lab.host())?;
    expect_survival(journey, here, there)
}

/// [37] In pre-copy.
fn killed_in_pre_copy(journey: &mut Journey) -> Result<()> {
    let (here, there, mut destination) = destination(journey, &Unusual::default())?;
    let (lab, vm, _) = journey.parts();
    let uri = destination.expect_incoming(lab, &Settings::held())?;
    vm.begin(lab, &uri, &Settings::held())?;
    vm.until_rounds(3)?;
    destination.kill(lab.host())?;
    expect_survival(journey, here, there)
}

/// [37] With the source's device in STOP_COPY.
fn killed_in_stop_copy(journey: &mut Journey) -> Result<()> {
    let (here, there, mut destination) = destination(journey, &Unusual::default())?;
    let (lab, vm, _) = journey.parts();
    let settings = Settings::held().free().pausing();
    let uri = destination.expect_incoming(lab, &settings)?;
    vm.begin(lab, &uri, &settings)?;
    vm.until_status("pre-switchover")?;
    ensure!(driver_state(lab, here)? == "STOP_COPY");
    destination.kill(lab.host())?;
    // The source may notice by itself, or when it goes on.
    let _ = vm.proceed();
    expect_survival(journey, here, there)
}

/// [32] The destination refuses a damaged state and says so; the guest goes on here.
fn flipped_bit(journey: &mut Journey) -> Result<()> {
    // The answer of the destination, or the end of its socket while the source still sends.
    let reasons = ["Sibling indicated error", "Channel error", "socket"];
    refused(journey, "state-bit-flip", &reasons)
}

/// [33] The source's driver does not let a stream end well that has no trailer.
fn truncated(journey: &mut Journey) -> Result<()> {
    refused(journey, "state-truncated", &["Input/output error"])
}

fn refused(journey: &mut Journey, kind: &str, reasons: &[&str]) -> Result<()> {
    let (here, there, mut destination) = destination(journey, &Unusual::default())?;
    let (lab, vm, _) = journey.parts();
    lab.sabotage(kind, 1)?;
    let settings = Settings::held().free();
    let uri = destination.expect_incoming(lab, &settings)?;
    vm.begin(lab, &uri, &settings)?;
    vm.until_end()?.expect_failed_with(reasons)?;
    vm.until_running("running")?;
    lab.sabotage(kind, 0)?;
    ensure!(destination.status()? == "inmigrate");
    destination.quit(lab.host())?;
    ensure!(driver_state(lab, here)? == "RUNNING");
    let info = lab
        .host()
        .run(&format!("vfio-mig info {}", lab.functions()[there]))?;
    ensure!(info.contains("RUNNING"), "{info}");
    Ok(())
}

/// The state goes to a file first, and from there to the destination.
fn by_way_of_a_file(journey: &mut Journey) -> Result<()> {
    const FILE: &str = "file:/run/image";
    let (here, _, mut destination) = destination(journey, &Unusual::default())?;
    let settings = Settings::one_way();
    let judged = journey.complete(FILE, 3, &settings, |_, _| Ok(()))?;
    let lab = journey.parts().0;
    destination.receive(lab, FILE, &settings)?;
    destination.until_running("running")?;
    destination
        .order(lab.host())?
        .expect("RESUMING WRITE RUNNING_P2P RUNNING LOADED")?;
    lab.host().run("rm /run/image")?;
    arrive(journey, destination, here, judged)
}

/// Moves the guest; both sides as they are after `completed`.
fn complete(journey: &mut Journey, destination: &mut Vm, rounds: u64) -> Result<Judged> {
    complete_with(journey, destination, rounds, &Settings::held())
}

/// [`complete`] with these settings, which hold it in pre-copy.
pub(crate) fn complete_with(
    journey: &mut Journey,
    destination: &mut Vm,
    rounds: u64,
    settings: &Settings,
) -> Result<Judged> {
    let uri = destination.expect_incoming(journey.lab(), settings)?;
    journey.complete(&uri, rounds, settings, |_, _| Ok(()))
}

/// The guest runs there now: takes it over and ends the source, whose log was on to the last.
pub(crate) fn arrive(
    journey: &mut Journey,
    mut destination: Vm,
    here: usize,
    judged: Judged,
) -> Result<()> {
    destination.until_running("running")?;
    let old = journey.moved_to(destination, judged);
    let (lab, _, _) = journey.parts();
    let stats = lab.function_stats(here)?;
    ensure!(
        stats["log"]["active"] == true,
        "the log ended early: {stats}"
    );
    old.quit(lab.host())?;
    // [21] The file was closed with an active log: it is off, and the function free.
    let stats = lab.function_stats(here)?;
    ensure!(
        stats["log"]["active"] == false,
        "the log was left on: {stats}"
    );
    Ok(())
}

/// Bytes of device state that the NIC has given for a function, of all sessions.
fn saved_bytes(journey: &Journey, function: usize) -> Result<u64> {
    let stats = journey.lab().function_stats(function)?;
    stats["saved_bytes"].as_u64().context("no count of bytes")
}

/// [1, 9, 21] All requests of both sides in their order; nothing switches over before the
/// destination has what it wanted to have first.
fn exact_order(journey: &mut Journey) -> Result<()> {
    let (here, _, mut destination) = destination(journey, &Unusual::default())?;
    let before = saved_bytes(journey, here)?;
    let judged = complete(journey, &mut destination, 3)?;
    destination.until_running("running")?;
    let saved = saved_bytes(journey, here)? - before;
    let (lab, vm, _) = journey.parts();
    vm.until_saved(lab)?
        .expect("LOG_START REPORT PRE_COPY LOOP PRE_COPY_P2P STOP_COPY REPORT READ STOP SAVED")?;
    destination
        .order(lab.host())?
        .expect("RESUMING WRITE RUNNING_P2P RUNNING LOADED")?;
    let bytes: u64 = vm.until_end()?.info["vfio"]["transferred"]
        .as_u64()
        .unwrap_or(0);
    ensure!(
        saved == bytes,
        "QEMU moved {bytes} bytes, the NIC gave {saved}"
    );
    let approved = lab.host().run(&format!(
        "grep -c loadvm_approve_switchover /run/vm/{}/trace || true",
        destination.name()
    ))?;
    ensure!(approved.trim() != "0", "the destination did not approve");
    arrive(journey, destination, here, judged)
}

/// [7] A guest that stands still before the migration, and still does after it. Its device has
/// been in STOP since then; one that never ran is in `s07_guest_that_never_ran_is_saved`.
fn paused_guest(journey: &mut Journey) -> Result<()> {
    let (here, there, mut destination) = destination(journey, &Unusual::default())?;
    let (lab, vm, _) = journey.parts();
    vm.qmp().execute("stop", Value::Null)?;
    let settings = Settings::held().free();
    let uri = destination.expect_incoming(lab, &settings)?;
    let watch = Watch::begin(lab)?;
    vm.begin(lab, &uri, &settings)?;
    vm.until_end()?.expect("completed")?;
    vm.until_saved(lab)?.expect_states("STOP_COPY STOP")?;
    let trace = Trace::parse(&vm.trace(lab.host())?);
    let judged = watch.judge(lab, &trace, Demand::NoWindow(NoWindow::StandsStill))?;
    destination.until_running("paused")?;
    destination
        .order(lab.host())?
        .expect("RESUMING WRITE LOADED")?;
    ensure!(driver_state(lab, there)? == "RESUMING");
    destination.qmp().execute("cont", Value::Null)?;
    arrive(journey, destination, here, judged)?;
    let (lab, vm, _) = journey.parts();
    vm.order(lab.host())?
        .expect_states("RESUMING RUNNING_P2P RUNNING")
}

/// [8] A destination that was started with `-S`. It is what [22] needs.
fn waiting_destination(journey: &mut Journey) -> Result<()> {
    let unusual = Unusual {
        paused: true,
        device: Some("x-pre-copy-dirty-page-tracking=off".into()),
        ..Unusual::default()
    };
    let (here, there, mut destination) = destination(journey, &unusual)?;
    let judged = complete(journey, &mut destination, 2)?;
    destination.until_running("paused")?;
    let lab = journey.parts().0;
    ensure!(driver_state(lab, there)? == "RESUMING");
    destination
        .order(lab.host())?
        .expect("RESUMING WRITE LOADED")?;
    destination.qmp().execute("cont", Value::Null)?;
    destination.until_running("running")?;
    destination
        .order(lab.host())?
        .expect_states("RESUMING RUNNING_P2P RUNNING")?;
    arrive(journey, destination, here, judged)
}

/// [22] Without tracking in pre-copy the log is asked once, in STOP_COPY. The source is the
/// destination of [8], which a new bench does not have.
fn no_report_in_pre_copy(journey: &mut Journey) -> Result<()> {
    if journey.vm().config().unusual.device.is_none() {
        waiting_destination(journey).context("the destination of s08")?;
    }
    let (here, _, mut destination) = destination(journey, &Unusual::default())?;
    let judged = complete(journey, &mut destination, 2).context("without tracking")?;
    let (lab, vm, _) = journey.parts();
    let order = vm.order(lab.host())?;
    let steps = order.names();
    let stop = steps.iter().position(|s| *s == "STOP_COPY");
    let reports: Vec<usize> = (0..steps.len()).filter(|&n| steps[n] == "REPORT").collect();
    ensure!(
        stop.is_some() && reports.len() == 1 && reports.first() > stop.as_ref(),
        "{order}"
    );
    ensure!(steps.first() == Some(&"LOG_START"), "{order}");
    arrive(journey, destination, here, judged)
}
