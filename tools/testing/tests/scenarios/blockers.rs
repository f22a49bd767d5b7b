// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What QEMU refuses to migrate, with its words, and sources that die: no guest is needed, the
//! most virtual machines do not even run.

use anyhow::{ensure, Context, Result};
use dlr_testing::e2e::{
    attempt::{driver_state, Settings, NOWHERE},
    trace::Trace,
    Demand, Judged, NoWindow, Unusual, Watch,
};
use serde_json::json;

use crate::{
    address,
    blocked::{start, Blocked},
    group::{Group, Listed},
    refusal, reinit,
};

/// Memory of a guest that has some above 4 GiB.
const LARGE_MIB: u32 = 3072;

pub(crate) fn group() -> Listed {
    let group = Group::new("blockers", start);
    let trials = vec![
        group.scenario("s39_blocked_by_an_incapable_device", incapable_device),
        group.scenario("s39_blocked_by_a_viommu", viommu),
        group.scenario("s39_blocked_by_postcopy", postcopy),
        group.scenario("s07_guest_that_never_ran_is_saved", never_ran),
        group.scenario("s06_memory_beyond_4_gib_is_tracked", large_guest),
        group.scenario("s38_source_killed_in_pre_copy", source_killed_in_pre_copy),
        group.scenario("s38_source_killed_in_stop_copy", source_killed_in_stop_copy),
        group.scenario("s10_device_set_up_anew_in_pre_copy", reinit::set_up_anew),
        group.scenario("s24_guest_boots_during_migration", boots_meanwhile),
        group.scenario("s47_address_moves_with_the_guest", address::moves),
        group.scenario("s40_other_nic_same_configuration_space", other_nic),
        group.end("the_box_of_the_blockers_is_well"),
    ];
    (group, trials)
}

/// [39] A device that cannot migrate, in the same VM: `auto` lets it in, `migrate` is refused.
fn incapable_device(bench: &mut Blocked) -> Result<()> {
    let address = &bench.incapable;
    let words = format!(
        "-device pcie-root-port,id=rp9,chassis=9,slot=9 \
         -device vfio-pci,id=vf9,bus=rp9,host={address},iommufd=iommufd0,rombar=0"
    );
    let vm = bench.standing(words)?;
    refusal::expect(
        &bench.lab,
        vm,
        "VFIO migration init failed: migration is not supported in kernel",
    )
}

/// [39] A vIOMMU in the guest, which the device's own log cannot follow.
fn viommu(bench: &mut Blocked) -> Result<()> {
    let unusual = Unusual {
        paused: true,
        words: "-device intel-iommu,caching-mode=on,intremap=off".into(),
        // With `on` QEMU refuses to start, with the same words.
        device: Some("enable-migration=auto".into()),
        ..Unusual::default()
    };
    let vm = bench.lab.unusual_vm(&[0], false, &unusual)?;
    refusal::expect(
        &bench.lab,
        vm,
        "Migration is currently not supported with vIOMMU enabled",
    )
}

/// [39] Postcopy: refused as soon as it is asked for, or at the latest by `migrate`.
fn postcopy(bench: &mut Blocked) -> Result<()> {
    let mut vm = bench.standing(String::new())?;
    let list = json!([{"capability": "postcopy-ram", "state": true}]);
    // QEMU 11.1 accepts the capability and refuses to migrate; which of the two is its business.
    let refused = vm
        .qmp()
        .execute("migrate-set-capabilities", json!({"capabilities": list}));
    if let Err(e) = refused {
        ensure!(format!("{e:#}").contains("postcopy"), "{e:#}");
        return vm.quit(bench.lab.host());
    }
    refusal::expect(&bench.lab, vm, "postcopy")
}

/// [7] A VM that never ran: its device is RUNNING, so it goes through PRE_COPY, but not through
/// P2P.
fn never_ran(bench: &mut Blocked) -> Result<()> {
    let mut vm = bench.standing(String::new())?;
    let lab = &bench.lab;
    let watch = Watch::begin(lab)?;
    vm.begin(lab, NOWHERE, &Settings::one_way().free())?;
    vm.until_end()?.expect("completed")?;
    let trace = Trace::parse(&vm.trace(lab.host())?);
    let _: Judged = watch.judge(lab, &trace, Demand::NoWindow(NoWindow::NeverRan))?;
    vm.until_saved(lab)?
        .expect_states("PRE_COPY STOP_COPY STOP")?;
    vm.quit(lab.host())
}

/// [6] Memory below and above 4 GiB: the log is started with a range for each.
fn large_guest(bench: &mut Blocked) -> Result<()> {
    let unusual = Unusual {
        paused: true,
        memory_mib: Some(LARGE_MIB),
        ..Unusual::default()
    };
    let mut vm = bench.lab.unusual_vm(&[0], false, &unusual)?;
    let lab = &bench.lab;
    vm.begin(lab, NOWHERE, &Settings::one_way())?;
    vm.until_status("active")?;
    let trace = vm.trace(lab.host())?;
    let start = trace
        .lines()
        .find(|l| l.contains("vfio_device_dirty_tracking_start"))
        .context("the log was not started")?;
    ensure!(
        start.contains("nr_ranges 2") && start.contains("64:[0x100000000 - "),
        "{start}"
    );
    let log = lab.host().run(&format!(
        "cat /sys/kernel/debug/dlr_vfio_pci/{}/log",
        lab.functions()[0]
    ))?;
    ensure!(log.contains("tracked_ranges 2"), "{log}");
    vm.cancel()?.expect("cancelled")?;
    vm.quit(lab.host())
}

/// [24] A guest that boots while it is being migrated maps its BARs then: QEMU asks for ranges
/// that the log was not started with, and an error would end the migration. (A VM that is let go
/// by `cont` in pre-copy cannot complete: QEMU 11.1 sets its device to RUNNING and reads on.)
fn boots_meanwhile(bench: &mut Blocked) -> Result<()> {
    let mut vm = bench.start(String::new(), false)?;
    let lab = &bench.lab;
    vm.begin(lab, NOWHERE, &Settings::one_way().slow())?;
    vm.guest(lab.host())?;
    vm.let_go()?;
    vm.until_end()?.expect("completed")?;
    let steps = vm.until_saved(lab)?;
    let trace = vm.trace(lab.host())?;
    let end = u64::from(dlr_testing::e2e::lab::GUEST_MIB) << 20;
    let outside = trace
        .lines()
        .filter(|l| l.contains("vfio_container_query_dirty_bitmap"))
        .filter_map(|l| l.split_once("iova=0x")?.1.split(' ').next())
        .filter_map(|text| u64::from_str_radix(text, 16).ok())
        .any(|iova| iova >= end);
    ensure!(
        outside,
        "the guest was too fast: nothing was asked beyond its memory"
    );
    ensure!(
        steps.states() == ["PRE_COPY", "PRE_COPY_P2P", "STOP_COPY", "STOP"],
        "{steps}"
    );
    vm.quit(lab.host())
}

/// [40] From one NIC to another one, with another serial number: QEMU compares configuration
/// space, and the driver shows no identity in it.
fn other_nic(bench: &mut Blocked) -> Result<()> {
    bench.lab.adopt(1)?;
    let mut source = bench.standing(String::new())?;
    let mut destination = bench.lab.vm(&[2], true)?;
    let lab = &bench.lab;
    let settings = Settings::held().free();
    let uri = destination.expect_incoming(lab, &settings)?;
    let watch = Watch::begin(lab)?;
    source.begin(lab, &uri, &settings)?;
    source.until_end()?.expect("completed")?;
    let trace = Trace::parse(&source.trace(lab.host())?);
    let _: Judged = watch.judge(lab, &trace, Demand::NoWindow(NoWindow::NeverRan))?;
    // The state of the VM moves along: it never ran.
    destination.until_running("prelaunch")?;
    source.quit(lab.host())?;
    destination.quit(lab.host())
}

/// The source dies: the destination notices, nothing keeps the functions or the module.
fn source_killed(bench: &mut Blocked, settings: &Settings) -> Result<()> {
    // Only a VM that runs can be stopped.
    let mut source = bench.start(String::new(), !settings.pause)?;
    let mut destination = bench.lab.vm(&[1], true)?;
    let lab = &bench.lab;
    let uri = destination.expect_incoming(lab, settings)?;
    source.begin(lab, &uri, settings)?;
    if settings.pause {
        source.until_status("pre-switchover")?;
        ensure!(driver_state(lab, 0)? == "STOP_COPY");
    } else {
        source.until_rounds(2)?;
        ensure!(driver_state(lab, 0)? == "PRE_COPY");
    }
    source.kill(lab.host())?;
    destination.until_end()?.expect("failed")?;
    ensure!(destination.status()? == "inmigrate");
    destination.quit(lab.host())?;
    for function in lab.functions() {
        let info = lab.host().run(&format!("vfio-mig info {function}"))?;
        ensure!(info.contains("RUNNING"), "{info}");
    }
    let log = lab.function_stats(0)?["log"]["active"].clone();
    ensure!(log == false, "the log was left on");
    // No reference is left: the module goes and comes back.
    lab.host().run("rmmod dlr_vfio_pci")?;
    lab.host().bind_dlr(0)?;
    Ok(())
}

/// [38] In pre-copy.
fn source_killed_in_pre_copy(bench: &mut Blocked) -> Result<()> {
    source_killed(bench, &Settings::held())
}

/// [38] With its device in STOP_COPY.
fn source_killed_in_stop_copy(bench: &mut Blocked) -> Result<()> {
    source_killed(bench, &Settings::held().free().pausing())
}
