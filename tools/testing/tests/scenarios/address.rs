// SPDX-License-Identifier: Apache-2.0 OR MIT

//! [47] The guest's Ethernet address moves with it, survives a reboot at the new place, and is no
//! other guest's: not that of the function which the guest has left.

use anyhow::{ensure, Context, Result};
use dlr_guest::protocol::{Pong, Request};
use dlr_testing::e2e::{
    attempt::Settings, trace::Trace, traffic, Demand, Judged, Lab, NoWindow, Vm, Watch,
};
use serde_json::json;

use crate::{blocked::Blocked, reinit::expect_network};

/// The address that a driver finds in this function.
fn address(lab: &Lab, function: usize) -> Result<String> {
    let stats = lab.function_stats(function)?;
    let mac = stats["net"]["mac"].as_str();
    Ok(mac.context("the NIC says no address")?.to_owned())
}

fn ping(lab: &Lab, vm: &mut Vm) -> Result<()> {
    let _: Pong = vm.guest(lab.host())?.ask(&Request::Ping {
        dst: traffic::address(0, 1),
        attempts: 100,
    })?;
    Ok(())
}

/// See the module.
pub(crate) fn moves(bench: &mut Blocked) -> Result<()> {
    let mut vm = bench.start(String::new(), false)?;
    let guest = expect_network(&bench.lab, &mut vm, 2)?;
    ensure!(guest == address(&bench.lab, 0)?, "the guest sees {guest}");
    let other = address(&bench.lab, 1)?;
    ensure!(guest != other, "two functions with {guest}");
    let mut destination = bench.lab.vm(&[1], true)?;
    let lab = &bench.lab;
    let settings = Settings::held();
    let uri = destination.expect_incoming(lab, &settings)?;
    let watch = Watch::begin(lab)?;
    vm.begin(lab, &uri, &settings)?;
    vm.until_rounds(2)?;
    vm.let_go()?;
    vm.until_end()?.expect("completed")?;
    let trace = Trace::parse(&vm.trace(lab.host())?);
    let _: Judged = watch.judge(lab, &trace, Demand::NoWindow(NoWindow::NoTraffic))?;
    destination.until_running("running")?;
    ping(lab, &mut destination)?;

    // A reboot while the source is still open, and one after it is closed.
    let quiet = json!({"reboot": "reset"});
    destination.qmp().execute("set-action", quiet)?;
    let mut source = Some(vm);
    for _ in 0..2 {
        destination.qmp().execute("system_reset", json!(null))?;
        destination.forget_guest();
        let now = expect_network(lab, &mut destination, 2)?;
        ensure!(now == guest, "{guest} has become {now}");
        if let Some(vm) = source.take() {
            vm.quit(lab.host())?;
        }
    }

    // The function that the guest has left is used again.
    let mut next = bench.start(String::new(), false)?;
    let lab = &bench.lab;
    let addresses = (expect_network(lab, &mut next, 3)?, address(lab, 1)?);
    ensure!(addresses == (other, guest), "{addresses:?}");
    for _ in 0..5 {
        ping(lab, &mut next)?;
        ping(lab, &mut destination)?;
    }
    let wire = lab.wire(json!({"cmd": "stats"}))?;
    ensure!(
        wire["conflicts"] == 0,
        "two stations with one address: {wire}"
    );
    next.quit(lab.host())?;
    destination.quit(lab.host())
}
