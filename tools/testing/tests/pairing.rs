// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Which management function a data function is paired with: the right one or none (review items H1, H5, L13;
//! field cases 9 and 17).

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use dlr_testing::{
    drive::{outcome, Drive},
    BoxConfig, HostBox, NicConfig, Placement,
};
use serde_json::json;

const DATA_DRIVER: &str = "dlr_vfio_pci";
const MANAGEMENT_DRIVER: &str = "dlr-mgmt";

/// A box with two NICs of one serial and one data function each.
fn twins() -> Result<HostBox> {
    let nic = || NicConfig::new(1).args(["--serial=0x1"]);
    HostBox::start(BoxConfig::for_test().nic(nic()).nic(nic()))
}

/// Asks a function to bind, and says whether it did. The kernel tries a deferred probe again when it
/// likes, and sysfs names the driver while a probe runs, also one that fails in the end: bound is what
/// stays bound for longer than a probe takes.
fn try_bind(host: &HostBox, address: &str) -> Result<bool> {
    // Whether it is bound is looked at below.
    let _ = host.bind(address, DATA_DRIVER);
    let end = Instant::now() + Duration::from_secs(4);
    while host.driver(address)?.as_deref() == Some(DATA_DRIVER) {
        if Instant::now() > end {
            return Ok(true);
        }
        sleep(Duration::from_millis(200));
    }
    Ok(false)
}

/// Whether the kernel probes a function again when a driver has bound.
fn is_deferred(host: &HostBox, address: &str) -> Result<bool> {
    let list = host.read_file("/sys/kernel/debug/devices_deferred")?;
    let list = String::from_utf8_lossy(&list);
    let mut names = list
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    Ok(names.any(|name| name == address))
}

/// The device link of a data function to its management function: seen from both ends, and what is
/// different for each link that is made.
fn device_link(host: &HostBox, data: &str, management: &str) -> Result<String> {
    host.run(&format!(
        "cd /sys/bus/pci/devices && [ -e {management}/consumer:pci:{data} ] && \
         stat -L -c %i {data}/supplier:pci:{management}"
    ))
}

/// Admin commands that a NIC has got so far.
fn commands(host: &HostBox, nic: usize) -> Result<u64> {
    let stats = host.nic(nic)?.control(&json!({"cmd": "stats"}))?;
    stats["queue"]["submitted"].as_u64().context("no counter")
}

/// Saves the state of a function, and says how many commands that cost each of two NICs.
fn cost_of_saving(host: &HostBox, address: &str) -> Result<[u64; 2]> {
    let before = [commands(host, 0)?, commands(host, 1)?];
    host.run(&format!(
        "vfio-mig save {address} /tmp/state && rm /tmp/state"
    ))?;
    let after = [commands(host, 0)?, commands(host, 1)?];
    Ok([after[0] - before[0], after[1] - before[1]])
}

#[test]
fn h1_two_nics_of_one_serial_are_told_apart() -> Result<()> {
    let host = twins()?;
    host.load_driver("")?;
    let [first, second] = [host.addresses(0)?, host.addresses(1)?];
    // Management functions bind by themselves. The first NIC's stays, the second one's goes.
    host.bind(&first[0], MANAGEMENT_DRIVER)?;
    host.run(&format!(
        "echo {0} > /sys/bus/pci/devices/{0}/driver/unbind",
        second[0]
    ))?;
    ensure!(
        !try_bind(&host, &second[1])?,
        "paired with the management function of another NIC"
    );
    host.bind(&first[1], DATA_DRIVER)?;
    host.bind(&second[0], MANAGEMENT_DRIVER)?;
    host.bind(&second[1], DATA_DRIVER)?;
    // Each data function is served by its own NIC.
    let cost = cost_of_saving(&host, &first[1])?;
    ensure!(cost[0] > 5 && cost[1] == 0, "commands: {cost:?}");
    let cost = cost_of_saving(&host, &second[1])?;
    ensure!(cost[0] == 0 && cost[1] > 5, "commands: {cost:?}");
    // And its writes are logged there.
    let report = host.run(&format!(
        "vfio-mig mirror --cycles 1 {} {}",
        first[1], second[1]
    ))?;
    ensure!(report.contains("PASS"), "{report}");
    host.finish()
}

#[test]
fn h1_a_function_that_shows_no_nonce_does_not_bind() -> Result<()> {
    let host = HostBox::start(BoxConfig::for_test().functions(2))?;
    host.load_driver("")?;
    let addresses = host.addresses(0)?;
    host.bind(&addresses[0], MANAGEMENT_DRIVER)?;
    // What may come is waited for: the kernel tries again when a driver binds. What shows the nonce of
    // another NIC never belongs to this one.
    let kinds = [
        (json!({"status": 0}), true),
        (json!("wrong-nonce"), false),
        (json!({"elsewhere": 1}), true),
    ];
    for (action, deferred) in kinds {
        let fault = json!({"cmd": "fault", "opcode": "attest", "action": action, "count": 1000});
        host.nic(0)?.control(&fault)?;
        ensure!(
            !try_bind(&host, &addresses[1])?,
            "bound without a proof ({action})"
        );
        ensure!(
            is_deferred(&host, &addresses[1])? == deferred,
            "deferred is not {deferred} ({action})"
        );
        host.nic(0)?.control(&json!({"cmd": "mend"}))?;
        // The same function in the same box binds when it shows the nonce.
        host.bind(&addresses[1], DATA_DRIVER)?;
        host.run(&format!(
            "echo {0} > /sys/bus/pci/devices/{0}/driver/unbind",
            addresses[1]
        ))?;
    }
    // A nonce that comes late is waited for.
    let late = json!({"cmd": "fault", "opcode": "attest", "action": {"late": 300}, "count": 1});
    host.nic(0)?.control(&late)?;
    host.bind(&addresses[1], DATA_DRIVER)?;
    host.finish()
}

/// A search takes five seconds at most, however many management functions are silent: probe holds the
/// device lock meanwhile. One that is silent takes no time from one that answers.
#[test]
fn m7_a_search_takes_five_seconds_at_most() -> Result<()> {
    const NICS: usize = 4;
    // One after the other would take twenty seconds, and two searches ten.
    const LIMIT: Duration = Duration::from_secs(9);
    let nic = || NicConfig::new(1).args(["--serial=0x1", "--cmd-timeout=60000"]);
    let host =
        HostBox::start((0..NICS).fold(BoxConfig::for_test(), |config, _| config.nic(nic())))?;
    host.load_driver("")?;
    let silent = json!({"cmd": "fault", "opcode": "attest", "action": "drop", "count": 1000});
    for nic in 0..NICS {
        host.bind(&host.addresses(nic)?[0], MANAGEMENT_DRIVER)?;
        host.nic(nic)?.control(&silent)?;
    }
    let [first, second] = [host.addresses(0)?, host.addresses(1)?];
    let begin = Instant::now();
    // Whether it is bound is looked at below.
    let _ = host.bind(&first[1], DATA_DRIVER);
    let took = begin.elapsed();
    ensure!(took < LIMIT, "took {took:?}");
    // The kernel may be trying again already.
    let end = Instant::now() + Duration::from_secs(120);
    while host.driver(&first[1])?.is_some() || !is_deferred(&host, &first[1])? {
        ensure!(Instant::now() < end, "bound without a proof, or given up");
        sleep(Duration::from_millis(200));
    }
    // Whichever is asked first.
    for (nic, data) in [(0, &first[1]), (1, &second[1])] {
        host.nic(nic)?.control(&json!({"cmd": "mend"}))?;
        let begin = Instant::now();
        host.bind(data, DATA_DRIVER)?;
        // The kernel may be in the midst of a search of its own. Three silent NICs would take fifteen
        // seconds.
        ensure!(begin.elapsed() < LIMIT);
    }
    host.finish()
}

#[test]
fn h1_unprogrammed_serials_pair_nothing() -> Result<()> {
    let nic = |serial: &str| NicConfig::new(1).args([format!("--serial={serial}")]);
    let host = HostBox::start(
        BoxConfig::for_test()
            .nic(nic("0"))
            .nic(nic("0xffffffffffffffff")),
    )?;
    host.load_driver("")?;
    for nic in 0..2 {
        let addresses = host.addresses(nic)?;
        host.bind(&addresses[0], MANAGEMENT_DRIVER)?;
        ensure!(!try_bind(&host, &addresses[1])?, "NIC {nic} was paired");
    }
    host.finish()
}

#[test]
fn case_17_a_function_in_its_managements_group_is_refused() -> Result<()> {
    let nic = NicConfig::new(1).placed(Placement::OneSlot);
    let host = HostBox::start(BoxConfig::for_test().nic(nic))?;
    host.load_driver("")?;
    let addresses = host.addresses(0)?;
    host.bind(&addresses[0], MANAGEMENT_DRIVER)?;
    ensure!(!try_bind(&host, &addresses[1])?, "bound in one group");
    let log = host.run("dmesg")?;
    ensure!(log.contains("same IOMMU group"), "no reason in the log");
    host.finish()
}

#[test]
fn h5_a_running_function_finds_its_management_again() -> Result<()> {
    let host = HostBox::start(BoxConfig::for_test().functions(1))?;
    let data = host.bind_dlr(0)?.remove(0);
    let management = host.addresses(0)?.remove(0);
    let mut drive = Drive::start(&host, &data)?;
    drive.open()?;
    let mut link = device_link(&host, &data, &management)?;
    for _ in 0..2 {
        let start = json!({"cmd": "log-start", "ranges": ["0+1M"]});
        drive.ok(&start)?;
        host.run(&format!(
            "echo {management} > /sys/bus/pci/devices/{management}/driver/unbind"
        ))?;
        ensure!(drive.set("STOP_COPY")? == "ENOTCONN");
        host.bind(&management, MANAGEMENT_DRIVER)?;
        // A log of the old one hangs on it: nothing is clean by accident.
        let report = json!({"cmd": "report", "range": "0+1M"});
        ensure!(drive.errno(&report)? == "ENOTCONN");
        drive.ok(&json!({"cmd": "log-stop"}))?;
        // Now nothing does, and everything works without closing the device.
        drive.ok(&start)?;
        drive.ok(&report)?;
        // The core suspends and shuts down the two in order, as before.
        let anew = device_link(&host, &data, &management)?;
        ensure!(anew != link, "the device link is the old one");
        link = anew;
        drive.go("STOP_COPY")?;
        drive.ok(&json!({"cmd": "read", "save": "image"}))?;
        drive.go("RUNNING")?;
        drive.ok(&json!({"cmd": "log-stop"}))?;
    }
    drive.close()?;
    drive.quit()?;
    host.finish()
}

/// State of function 0 as the NIC has it: 0 is RUNNING.
fn level(host: &HostBox) -> Result<u64> {
    let stats = host.nic(0)?.control(&json!({"cmd": "stats"}))?;
    stats["functions"][0]["state"].as_u64().context("no state")
}

/// The management function goes while a SUSPEND is carried out, whose answer nobody gets: the function
/// stays suspended. It runs again, without a reset, when its state is asked for and the management
/// function is back, whatever hangs on the old one: a log, and a session.
#[test]
fn h5_an_arc_that_cannot_be_taken_back_is_when_the_management_is_back() -> Result<()> {
    let host = HostBox::start(BoxConfig::for_test().functions(1))?;
    let data = host.bind_dlr(0)?.remove(0);
    let management = host.addresses(0)?.remove(0);
    let mut drive = Drive::start(&host, &data)?;
    for (from, to) in [("RUNNING", "RUNNING_P2P"), ("PRE_COPY", "PRE_COPY_P2P")] {
        drive.open()?;
        drive.ok(&json!({"cmd": "log-start", "ranges": ["0+1M"]}))?;
        drive.go(from)?;
        let lost = json!({"cmd": "fault", "opcode": "suspend", "action": "drop", "count": 1});
        host.nic(0)?.control(&lost)?;
        let job = drive.begin(json!({"cmd": "set", "state": to}))?;
        let early = drive.wait(job, Duration::from_millis(300))?;
        ensure!(early.is_none(), "SUSPEND was answered: {early:?}");
        host.run(&format!(
            "echo {management} > /sys/bus/pci/devices/{management}/driver/unbind"
        ))?;
        let answer = drive.wait(job, Duration::from_secs(30))?;
        let ended = outcome(&answer.context("sleeps on")?)?;
        ensure!(ended == "ENOTCONN", "SUSPEND ended with {ended}");
        ensure!(drive.state()? == from, "{} of {from}", drive.state()?);
        ensure!(level(&host)? == 1, "the function is not suspended");
        // What a VMM asks for whose migration has failed.
        let set = drive.set("RUNNING")?;
        ensure!(set == "ENOTCONN", "RUNNING is {set} and does not run");
        host.bind(&management, MANAGEMENT_DRIVER)?;
        // The log hangs on the old one, and is not taken for one of the new.
        let set = drive.set("RUNNING")?;
        ensure!(set == "ENOTCONN", "RUNNING is {set} with the old log");
        let report = drive.errno(&json!({"cmd": "report", "range": "0+1M"}))?;
        ensure!(report == "ENOTCONN", "REPORT is {report}");
        drive.ok(&json!({"cmd": "log-stop"}))?;
        drive.go("RUNNING")?;
        ensure!(level(&host)? == 0, "the function stands still");
        for state in ["PRE_COPY", "STOP_COPY", "RUNNING"] {
            drive.go(state)?;
        }
        ensure!(level(&host)? == 0, "the function stands still");
        drive.close()?;
        let status = drive.ok(&json!({"cmd": "status"}))?;
        for file in status["files"].as_array().into_iter().flatten() {
            drive.ok(&json!({"cmd": "forget", "file": file}))?;
        }
    }
    drive.quit()?;
    host.check_idle(0, &management)?;
    host.finish()
}

#[test]
fn l13_other_abilities_are_an_error_that_says_so() -> Result<()> {
    let host = HostBox::start(BoxConfig::for_test().functions(1))?;
    let data = host.bind_dlr(0)?.remove(0);
    let management = host.addresses(0)?.remove(0);
    let mut drive = Drive::start(&host, &data)?;
    drive.open()?;
    let rebind = || -> Result<()> {
        host.run(&format!(
            "echo {management} > /sys/bus/pci/devices/{management}/driver/unbind"
        ))?;
        host.bind(&management, MANAGEMENT_DRIVER)
    };
    host.nic(0)?
        .control(&json!({"cmd": "firmware", "without": ["p2p"]}))?;
    rebind()?;
    ensure!(drive.set("STOP")? == "ENODEV");
    let log = host.run("dmesg")?;
    ensure!(log.contains("other abilities"), "no reason in the log");
    host.nic(0)?
        .control(&json!({"cmd": "firmware", "without": []}))?;
    rebind()?;
    // No look more often than once a second after a failure.
    host.run("sleep 1.2")?;
    drive.go("STOP")?;
    drive.close()?;
    drive.quit()?;
    host.finish()
}
