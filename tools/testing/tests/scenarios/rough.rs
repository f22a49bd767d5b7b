// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Scenarios after which the guest's network is gone, as its device has been reset under its
//! driver: the guest itself goes on, and a reboot brings the network back.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use dlr_guest::protocol::{Address, Nic, Pong, Request};
use dlr_testing::e2e::{
    attempt::{driver_state, until_at_rest, Settings, NOWHERE},
    trace::Trace,
    traffic, Backend, Demand, Judged, Lab, NoWindow, Vm, Watch,
};
use rustix::process::Signal;
use serde_json::{json, Value};

use crate::group::{Bench, Group, Listed};

/// `DLR_STATUS_INTERNAL`.
const INTERNAL: u16 = 9;

/// For so long the NIC holds a command back during which it is to pause: a busy machine has to notice
/// that the NIC has it. With the pause it is far less than the NIC's command timeout of 10 s.
const DELAY_MS: u64 = 2000;

/// A guest without traffic.
pub(crate) struct Rough {
    lab: Lab,
    vm: Vm,
    function: usize,
}

fn start(group: &str) -> Result<Rough> {
    let mut lab = Lab::start(group, 2, Backend::Iommufd, &[])?;
    let begun = begin(&mut lab);
    let vm = lab.blame(begun)?;
    Ok(Rough {
        lab,
        vm,
        function: 0,
    })
}

/// A guest that has its network.
fn begin(lab: &mut Lab) -> Result<Vm> {
    let mut vm = lab.vm(&[0], false)?;
    reach_peer(lab, &mut vm)?;
    Ok(vm)
}

impl Bench for Rough {
    fn mark(&self) -> Result<()> {
        self.lab.mark_consoles()
    }

    /// The guest answers.
    fn check_guest(&mut self) -> Result<()> {
        self.vm.expect_running()?;
        let guest = self.vm.guest(self.lab.host())?;
        guest.ask::<Value>(&Request::Hello).map(drop)
    }

    fn check_box(&mut self) -> Result<()> {
        self.lab.check()
    }

    fn failed(&mut self) {
        self.lab.keep_results();
    }

    fn blame(&self, result: Result<()>) -> Result<()> {
        self.lab.blame(result)
    }

    /// Its guests have no traffic: there is nothing that the peer could be asked.
    fn salvage(mut self) -> Result<()> {
        self.check_box()
    }

    fn close(self) -> Result<()> {
        let ended = self.vm.quit(self.lab.host());
        self.lab.blame(ended)?;
        self.lab.finish()
    }
}

pub(crate) fn group() -> Listed {
    let group = Group::new("rough", start);
    let trials = vec![
        group.scenario("s44_nic_that_pauses_in_a_state_change", nic_pauses),
        group.scenario("s30_set_pre_copy_p2p_fails", |b| suspend_fails(b, 0)),
        group.scenario("s30_set_stop_copy_fails", |b| suspend_fails(b, 1)),
        group.scenario("s42_function_reset_in_pre_copy", function_reset),
        group.scenario("s35_system_reset_in_pre_copy", system_reset),
        group.scenario("s43_unbound_in_pre_copy", unbound),
        group.scenario("s34_activation_fails", activation_fails),
        group.end("the_box_of_the_resets_is_well"),
    ];
    (group, trials)
}

/// Gives the guest its address, and waits until the peer answers.
fn reach_peer(lab: &Lab, vm: &mut Vm) -> Result<()> {
    let guest = vm.guest(lab.host())?;
    let _: Vec<Nic> = guest.ask(&Request::Net {
        nics: vec![Address {
            address: traffic::address(0, 2),
            prefix: 24,
        }],
        timeout_s: 30,
    })?;
    let _: Pong = guest.ask(&Request::Ping {
        dst: traffic::address(0, 1),
        attempts: 100,
    })?;
    Ok(())
}

impl Rough {
    fn resets(&self) -> Result<u64> {
        let stats = self.lab.function_stats(self.function)?;
        stats["net"]["resets"]
            .as_u64()
            .context("no count of resets")
    }

    fn expect_running(&mut self) -> Result<()> {
        self.vm.until_running("running")?;
        until_at_rest(&self.lab, self.function).map(drop)
    }
}

/// [44] The NIC stands still for 3 s while the function is to be suspended: the migration takes
/// longer, that is all.
fn nic_pauses(bench: &mut Rough) -> Result<()> {
    let Rough { lab, vm, .. } = bench;
    vm.begin(lab, NOWHERE, &Settings::one_way())?;
    vm.until_rounds(2)?;
    // A held migration asks for reports all the time, which read registers: if the NIC stood still
    // before it has the command, the whole box would wait for one of these. It takes its time with
    // the command, and pauses meanwhile.
    let before = suffered(lab)?;
    lab.nic(
        &json!({"cmd": "fault", "opcode": "suspend", "action": {"delay": DELAY_MS}, "count": 1}),
    )?;
    vm.let_go()?;
    let end = Instant::now() + Duration::from_secs(60);
    while suffered(lab)? == before {
        ensure!(Instant::now() < end, "the function is not suspended");
        sleep(Duration::from_millis(5));
    }
    let nic = lab.host().nic(0)?;
    nic.signal(Signal::STOP)?;
    sleep(Duration::from_secs(3));
    nic.signal(Signal::CONT)?;
    let ended = vm.until_end()?;
    ended.expect("completed")?;
    // The box's clock is not exact.
    let downtime = ended.info["downtime"].as_u64().unwrap_or(0);
    ensure!(downtime >= 2500, "downtime of {downtime} ms");
    vm.until_saved(lab)?;
    vm.qmp().execute("cont", Value::Null)?;
    vm.until_running("running")?;
    vm.order(lab.host())?
        .expect_states("PRE_COPY PRE_COPY_P2P STOP_COPY STOP RUNNING_P2P RUNNING")?;
    reach_peer(lab, vm)
}

/// Faults that the NIC's commands have suffered.
fn suffered(lab: &Lab) -> Result<u64> {
    let stats = lab.nic(&json!({"cmd": "stats"}))?;
    stats["faults"].as_u64().context("no count of faults")
}

/// [30] A suspend fails, the first or the second one: QEMU resets the device, once.
fn suspend_fails(bench: &mut Rough, after: u64) -> Result<()> {
    let before = bench.resets()?;
    let Rough { lab, vm, .. } = bench;
    vm.begin(lab, NOWHERE, &Settings::one_way())?;
    vm.until_rounds(2)?;
    lab.fault("suspend", INTERNAL, after, 1)?;
    vm.let_go()?;
    let (state, wanted): (_, &[&str]) = match after {
        0 => ("PRE_COPY_P2P", &["PRE_COPY", "->RUNNING"]),
        _ => ("STOP_COPY", &["PRE_COPY", "PRE_COPY_P2P", "->RUNNING"]),
    };
    vm.until_end()?
        .expect_failed(&format!("Failed setting device state to {state}. "))?;
    let states = vm.order(lab.host())?;
    ensure!(states.states().starts_with(wanted), "{states}");
    let resets = bench.resets()? - before;
    ensure!(resets == 1, "{resets} resets");
    bench.expect_running()
}

/// [42] The function is reset through sysfs under a VM that is being migrated: the data file is
/// dead, the migration fails.
fn function_reset(bench: &mut Rough) -> Result<()> {
    let Rough { lab, vm, .. } = bench;
    vm.begin(lab, NOWHERE, &Settings::one_way())?;
    vm.until_rounds(2)?;
    let path = format!("/sys/bus/pci/devices/{}/reset", lab.functions()[0]);
    lab.host().run(&format!("echo 1 > {path}"))?;
    ensure!(driver_state(lab, 0)? == "RUNNING");
    vm.until_end()?.expect_failed("No such device")?;
    bench.expect_running()
}

/// [35] The guest is reset in pre-copy: QEMU reads from the old file and has to be told that it
/// is dead. The guest boots and has its network back.
fn system_reset(bench: &mut Rough) -> Result<()> {
    let Rough { lab, vm, .. } = bench;
    vm.qmp().execute("set-action", json!({"reboot": "reset"}))?;
    vm.begin(lab, NOWHERE, &Settings::one_way())?;
    vm.until_rounds(2)?;
    vm.qmp().execute("system_reset", Value::Null)?;
    vm.until_end()?.expect_failed("No such device")?;
    vm.forget_guest();
    bench.expect_running()?;
    let Rough { lab, vm, .. } = bench;
    reach_peer(lab, vm)
}

/// [43] The driver is unbound under a VM that is being migrated. It asks the VM to let go of the
/// function and waits until then; the migration ends, and nothing breaks.
fn unbound(bench: &mut Rough) -> Result<()> {
    let Rough { lab, vm, .. } = bench;
    vm.begin(lab, NOWHERE, &Settings::one_way())?;
    vm.until_rounds(2)?;
    let address = lab.functions()[0].clone();
    lab.host().run(&format!(
        "rm -f /tmp/unbound; (echo {address} > /sys/bus/pci/devices/{address}/driver/unbind; \
         touch /tmp/unbound) > /dev/null 2>&1 &"
    ))?;
    sleep(Duration::from_secs(3));
    let early = lab.host().run("ls /tmp/unbound 2>/dev/null || true")?;
    let status = vm.qmp().execute("query-migrate", Value::Null)?["status"].clone();
    ensure!(
        early.trim().is_empty() || status == "failed",
        "unbound in the middle of a migration that is {status}"
    );
    if status == "active" {
        vm.cancel()?.expect("cancelled")?;
    }
    // Whether the guest lets it go now is the guest's business; the end of the VM does.
    // QEMU's end may cut the answer off.
    let _ = vm.qmp().execute("quit", Value::Null);
    let end = Instant::now() + Duration::from_secs(180);
    while lab
        .host()
        .run("ls /tmp/unbound 2>/dev/null || true")?
        .trim()
        .is_empty()
    {
        ensure!(Instant::now() < end, "the driver is not unbound");
        sleep(Duration::from_millis(100));
    }
    lab.host().bind(&address, "dlr_vfio_pci")?;
    // The next one has a guest of its own.
    bench.vm = bench.lab.vm(&[0], false)?;
    let Rough { lab, vm, .. } = bench;
    reach_peer(lab, vm)
}

/// [34] The destination cannot activate what it has accepted. QEMU says `completed` and resets
/// the function: why every check of a stream is made before its last byte is accepted. This guards
/// the driver's part: it says so loudly, and the function can be used.
fn activation_fails(bench: &mut Rough) -> Result<()> {
    let mut destination = bench.lab.vm(&[1], true)?;
    let Rough { lab, vm, .. } = bench;
    let settings = Settings::held();
    let uri = destination.expect_incoming(lab, &settings)?;
    let watch = Watch::begin(lab)?;
    vm.begin(lab, &uri, &settings)?;
    vm.until_rounds(2)?;
    lab.fault("resume", INTERNAL, 0, 1)?;
    vm.let_go()?;
    vm.until_end()?.expect("completed")?;
    let trace = Trace::parse(&vm.trace(lab.host())?);
    let _: Judged = watch.judge(lab, &trace, Demand::NoWindow(NoWindow::NoTraffic))?;
    destination.until_running("running")?;
    let order = destination.order(lab.host())?;
    ensure!(
        order.states().starts_with(&["RESUMING", "->RUNNING"]),
        "{order}"
    );
    ensure!(driver_state(lab, 1)? == "RUNNING");
    let words = format!("{}: the device does not resume", lab.functions()[1]);
    // What the kernel says is on its console a little later.
    let end = Instant::now() + Duration::from_secs(30);
    while !lab.host().kernel_log()?.contains(&words) {
        ensure!(Instant::now() < end, "the driver said nothing");
        sleep(Duration::from_millis(200));
    }
    bench.function = 1;
    let old = std::mem::replace(&mut bench.vm, destination);
    old.quit(bench.lab.host())
}
