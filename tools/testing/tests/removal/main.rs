// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Functions that go while they are in use, in every state, with and without a log (contract S10, S13 to S16,
//! S18, L20, L21, K7 to K13, P11). Removal is sysfs's: unplugging a vfio-user function ends QEMU 11.1 with an
//! assertion (memory_region_del_subregion), and for the drivers it comes to the same.

mod bench;
mod channel;
mod citizen;
mod ends;
mod holds;
mod neighbours;
mod sleepers;
mod starved;
mod starved_life;
mod traffic;

use anyhow::{ensure, Context, Result};
use serde_json::json;

use bench::{Bench, STATES};

/// Another state that can be reached from this one with a command; for ERROR, any.
fn away(state: &str) -> &'static str {
    match state {
        "RUNNING" | "STOP" | "ERROR" => "RUNNING_P2P",
        // Refused for want of a trailer otherwise.
        "RESUMING" => "STOP",
        _ => "RUNNING",
    }
}

/// What every call says when the management function is gone.
fn expect_gone(bench: &mut Bench, state: &str) -> Result<()> {
    for function in 0..2 {
        bench.expect_state(function, state)?;
        bench.expect(function, json!({"cmd": "size"}), &["ENOTCONN"])?;
        bench.expect_file(function, state, &["ENOTCONN"])?;
        if state.starts_with("PRE_COPY") {
            bench.expect(function, json!({"cmd": "precopy"}), &["ENOTCONN"])?;
        }
        // A save session ends without the device (B4); no further arc is taken.
        let (outcome, left) = match state {
            "ERROR" => ("EIO", state),
            "PRE_COPY" => ("OK", "RUNNING"),
            "PRE_COPY_P2P" => ("ENOTCONN", "RUNNING_P2P"),
            "STOP_COPY" => ("ENOTCONN", "STOP"),
            _ => ("ENOTCONN", state),
        };
        let set = json!({"cmd": "set", "state": away(state)});
        bench.expect(function, set, &[outcome])?;
        bench.expect_state(function, left)?;
        let report = bench.report(function)?;
        let wanted = if function == 0 { "ENOTCONN" } else { "EINVAL" };
        ensure!(report == wanted, "function {function}: REPORT is {report}");
        bench.expect(function, json!({"cmd": "log-stop"}), &["OK"])?;
        let start = json!({"cmd": "log-start", "ranges": ["0+1M"]});
        bench.expect(function, start.clone(), &["ENOTCONN"])?;
        bench.reset(function, state)?;
        bench.expect(function, start, &["ENOTCONN"])?;
    }
    Ok(())
}

#[test]
fn the_management_function_goes_in_every_state() -> Result<()> {
    let mut bench = Bench::new()?;
    let management = bench.management.clone();
    for what in ["unbound", "removed"] {
        for state in STATES {
            (|| {
                bench.enter(state)?;
                if what == "unbound" {
                    bench.unbind(&management)?;
                } else {
                    // Registers read as all ones by the time the driver hears of it.
                    bench.nic(&json!({"cmd": "tear-out", "gone": true}))?;
                    bench.remove(&management)?;
                    bench.nic(&json!({"cmd": "tear-out", "gone": false}))?;
                }
                expect_gone(&mut bench, state)?;
                if what == "removed" {
                    bench.rescan()?;
                }
                bench.bind_management()?;
                // No session and no log of the old one is left: the function that stayed open is paired
                // with the new one (H5).
                bench.expect(1, json!({"cmd": "set", "state": "STOP"}), &["OK"])?;
                bench.close()?;
                bench.check_works()
            })()
            .with_context(|| format!("management function {what} in {state}"))?;
        }
    }
    bench.finish()
}

#[test]
fn the_management_function_is_reset_in_every_state() -> Result<()> {
    let mut bench = Bench::without_vfs()?;
    let management = bench.management.clone();
    for state in STATES {
        (|| {
            bench.enter(state)?;
            bench.reset_function(&management)?;
            for function in 0..2 {
                bench.expect_state(function, state)?;
                // The log is gone with all it knew: never clean.
                let report = bench.report(function)?;
                let wanted = if function == 0 { "EIO" } else { "EINVAL" };
                ensure!(report == wanted, "function {function}: REPORT is {report}");
                // The NIC has forgotten the session. What has been read ahead is good: in STOP_COPY that may
                // be all.
                let mut ends = vec!["EIO", "EINVAL"];
                if state == "STOP_COPY" {
                    ends.push("OK");
                }
                bench.expect_file(function, state, &ends)?;
                bench.reset(function, state)?;
                // The driver has heard of the reset, so no command runs into a queue that is off.
                bench.expect(function, json!({"cmd": "log-stop"}), &["OK"])?;
            }
            // The same handle works on: this is no loss.
            if bench.drives[1].set("STOP")? != "OK" {
                bench.drives[1].go("STOP")?;
            }
            bench.close()?;
            bench.check_works()
        })()
        .with_context(|| format!("management function reset in {state}"))?;
    }
    bench.finish()
}

#[test]
fn a_data_function_is_reset_in_every_state() -> Result<()> {
    let mut bench = Bench::new()?;
    for state in STATES {
        (|| {
            bench.enter(state)?;
            for function in 0..2 {
                let address = bench.data[function].clone();
                bench.reset_function(&address)?;
                bench.expect_state(function, "RUNNING")?;
                bench.expect_file(function, state, &["ENODEV"])?;
                bench.forget(function)?;
                // A reset is nothing to the log (L20).
                let report = bench.report(function)?;
                let wanted = if function == 0 { "OK" } else { "EINVAL" };
                ensure!(report == wanted, "function {function}: REPORT is {report}");
                bench.drives[function].go("PRE_COPY")?;
            }
            bench.close()?;
            bench.check_works()
        })()
        .with_context(|| format!("data function reset in {state}"))?;
    }
    bench.finish()
}

#[test]
fn a_data_function_goes_in_every_state() -> Result<()> {
    let mut bench = Bench::new()?;
    for what in ["unbound", "removed"] {
        for state in STATES {
            (|| {
                bench.enter(state)?;
                let mut waiting = Vec::new();
                for address in bench.data.clone() {
                    let device = format!("/sys/bus/pci/devices/{address}");
                    let waiters = waiting.len() + 1;
                    let program = match what {
                        "unbound" => {
                            let path = format!("{device}/driver/unbind");
                            bench.blocked(&path, &address, "vfio_unregister_group_dev", waiters)?
                        }
                        // The first waits for its user, and the second for the first.
                        _ => {
                            let path = format!("{device}/remove");
                            let function = "pci_stop_and_remove_bus_device_locked";
                            let program = bench.blocked(&path, "1", function, waiters)?;
                            bench.until_in("vfio_unregister_group_dev", 1)?;
                            program
                        }
                    };
                    waiting.push(program);
                }
                // The user goes on meanwhile (K9), but for RESET, which whoever removes excludes. One
                // removal waits for the other before it gets to its device.
                for function in 0..2 {
                    bench.expect_state(function, state)?;
                    let excluded: &[&str] = match (what, function) {
                        ("removed", 1) => &["EAGAIN", "OK"],
                        _ => &["EAGAIN"],
                    };
                    bench.expect(function, json!({"cmd": "reset"}), excluded)?;
                    let wanted = if function == 0 { "OK" } else { "EINVAL" };
                    let report = bench.report(function)?;
                    ensure!(report == wanted, "REPORT meanwhile: {report}");
                    bench.drives[function].close()?;
                }
                for program in waiting {
                    bench.unblocked(program)?;
                }
                // The data files have outlived both (K7), and keep the module (K8).
                let sessions = u32::from(state.contains("COPY") || state == "RESUMING");
                ensure!(bench.users()? == 2 * sessions, "{} users", bench.users()?);
                if sessions > 0 {
                    ensure!(!bench.unload()?, "unloaded under its files");
                }
                for function in 0..2 {
                    bench.expect_file(function, state, &["ENODEV"])?;
                    bench.forget(function)?;
                }
                bench.check_clean()?;
                if what == "removed" {
                    bench.rescan()?;
                }
                for address in &bench.data {
                    bench.host.bind(address, "dlr_vfio_pci")?;
                }
                bench.check_works()
            })()
            .with_context(|| format!("data functions {what} in {state}"))?;
        }
    }
    bench.finish()
}
