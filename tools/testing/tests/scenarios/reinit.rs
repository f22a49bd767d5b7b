// SPDX-License-Identifier: Apache-2.0 OR MIT

//! [10] The guest sets its device up anew in pre-copy: what QEMU has read until then describes another
//! device, and it learns that from PRECOPY_INFO.

use std::{
    net::Ipv4Addr,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use dlr_guest::protocol::{Address, Nic, Pong, Request};
use dlr_testing::e2e::{
    attempt::Settings, trace::Trace, traffic::address, Demand, Judged, Lab, NoWindow, Vm, Watch,
};

use crate::blocked::Blocked;

/// The source tells the destination that the initial data have been sent.
const SENT: &str = "vfio_send_init_data_flag";
/// The destination has to approve once more, by REINIT.
const AGAIN: &str = "vfio_query_precopy_size_request_switchover_ack";

/// How often QEMU has traced this.
fn count(lab: &Lab, vm: &Vm, event: &str) -> Result<usize> {
    let path = format!("/run/vm/{}/trace", vm.name());
    let count = lab.host().run(&format!("grep -c {event} {path} || true"))?;
    count.trim().parse().context("no number of lines")
}

/// Waits until QEMU has traced this so often: no number of rounds says when.
fn until_traced(lab: &Lab, vm: &Vm, event: &str, times: usize) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    while count(lab, vm, event)? < times {
        ensure!(Instant::now() < end, "no {event}");
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Gives the interface its address with this last byte, and waits for an answer of the peer. Returns the
/// Ethernet address that the guest sees.
pub(crate) fn expect_network(lab: &Lab, vm: &mut Vm, last: u8) -> Result<String> {
    let guest = vm.guest(lab.host())?;
    let host = |n| -> Ipv4Addr { address(0, n) };
    let nics = vec![Address {
        address: host(last),
        prefix: 24,
    }];
    let found: Vec<Nic> = guest.ask(&Request::Net {
        nics,
        timeout_s: 30,
    })?;
    let _: Pong = guest.ask(&Request::Ping {
        dst: host(1),
        attempts: 100,
    })?;
    let first = found.into_iter().next().context("no interface")?;
    Ok(first.mac)
}

/// See the module.
pub(crate) fn set_up_anew(bench: &mut Blocked) -> Result<()> {
    let mut vm = bench.start(String::new(), false)?;
    expect_network(&bench.lab, &mut vm, 2)?;
    let mut destination = bench.lab.vm(&[1], true)?;
    let lab = &bench.lab;
    let settings = Settings::held();
    let uri = destination.expect_incoming(lab, &settings)?;
    let watch = Watch::begin(lab)?;
    vm.begin(lab, &uri, &settings)?;
    vm.until_rounds(2)?;
    ensure!(count(lab, &vm, AGAIN)? == 0, "REINIT before its time");
    until_traced(lab, &vm, SENT, 1)?;
    ensure!(count(lab, &vm, SENT)? == 1, "sent again by itself");
    let () = vm.guest(lab.host())?.ask(&Request::Rebind { nic: 0 })?;
    // The new set-up is part of what moves.
    expect_network(lab, &mut vm, 2)?;
    vm.until_rounds(4)?;
    until_traced(lab, &vm, AGAIN, 1).context("QEMU did not hear of it")?;
    vm.let_go()?;
    vm.until_end()?.expect("completed")?;
    let trace = Trace::parse(&vm.trace(lab.host())?);
    let _: Judged = watch.judge(lab, &trace, Demand::NoWindow(NoWindow::NoTraffic))?;
    destination.until_running("running")?;
    let sent = count(lab, &vm, SENT)?;
    ensure!(sent >= 2, "the initial data were sent {sent} times");
    let _: Pong = destination.guest(lab.host())?.ask(&Request::Ping {
        dst: address(0, 1),
        attempts: 100,
    })?;
    vm.quit(lab.host())?;
    destination.quit(lab.host())
}
