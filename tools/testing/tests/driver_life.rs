// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The life of the driver: loading, binding, unbinding and unloading, in every order, and the loss of the
//! management function under its users.

use std::time::Duration;

use anyhow::{ensure, Context, Result};
use dlr_testing::{BoxConfig, HostBox, NicConfig};
use serde_json::json;

const DATA_DRIVER: &str = "dlr_vfio_pci";
const LIMIT: Duration = Duration::from_secs(120);

/// A NIC whose management function is a PF: an FLR of it takes the data functions away (H7).
fn pf(functions: u16) -> NicConfig {
    NicConfig::new(functions).args(["--sriov-like"])
}

/// Ends a test. The driver must have reset the management function without an FLR.
fn finish(host: HostBox) -> Result<()> {
    if let Ok(nic) = host.nic(0) {
        let stats = nic.control(&json!({"cmd": "stats"}))?;
        ensure!(stats["flrs"] == 0, "{} FLRs", stats["flrs"]);
    }
    host.finish()
}

fn unbind(host: &HostBox, address: &str) -> Result<()> {
    host.run(&format!(
        "echo {address} > /sys/bus/pci/devices/{address}/driver/unbind"
    ))
    .map(drop)
}

fn unload(host: &HostBox) -> Result<()> {
    host.run("rmmod dlr_vfio_pci").map(drop)
}

/// Whether the whole state of a function can be saved.
fn save(host: &HostBox, address: &str, backend: &str) -> Result<()> {
    host.run(&format!(
        "vfio-mig save --backend {backend} {address} /tmp/state && rm /tmp/state"
    ))
    .map(drop)
}

/// Starts a user whose log is running.
fn start_log(host: &HostBox, address: &str) -> Result<()> {
    host.run(&format!(
        "rm -f /tmp/code /tmp/log; \
         (vfio-mig log --interval 100 {address} > /tmp/log 2>&1; echo $? > /tmp/code) & \
         for i in $(seq 100); do grep -q . /tmp/log 2>/dev/null && exit 0; sleep 0.1; done; \
         exit 1"
    ))
    .map(drop)
}

/// Waits for the user of `start_log` to end with an error.
fn expect_log_to_fail(host: &HostBox) -> Result<()> {
    let code = host
        .run("for i in $(seq 300); do [ -s /tmp/code ] && break; sleep 0.1; done; cat /tmp/code")?;
    ensure!(
        !["", "0"].contains(&code.trim()),
        "the log went on: {code:?}\n{}",
        host.run("cat /tmp/log")?
    );
    Ok(())
}

/// Waits until the box has lost a function.
fn expect_gone(host: &HostBox, address: &str) -> Result<()> {
    host.run(&format!(
        "for i in $(seq 300); do \
             [ -e /sys/bus/pci/devices/{address} ] || exit 0; sleep 0.1; \
         done; exit 1"
    ))
    .with_context(|| format!("{address} did not go"))
    .map(drop)
}

#[test]
fn driver_loads_binds_and_unloads_repeatedly() -> Result<()> {
    let host = HostBox::start(BoxConfig::for_test().nic(pf(2)))?;
    for _ in 0..3 {
        let functions = host.bind_dlr(0)?;
        save(&host, &functions[0], "iommufd")?;
        for address in &functions {
            unbind(&host, address)?;
            host.bind(address, DATA_DRIVER)?;
        }
        save(&host, &functions[1], "legacy")?;
        // With everything bound.
        unload(&host)?;
    }
    // With nothing bound.
    host.load_driver("")?;
    unload(&host)?;
    finish(host)
}

#[test]
fn nothing_binds_without_driver_override() -> Result<()> {
    let host = HostBox::start(BoxConfig::for_test().nic(pf(1)))?;
    let addresses = host.addresses(0)?;
    let data = addresses.get(1).context("the NIC has no data function")?;
    host.load_driver("")?;
    host.bind(&addresses[0], "dlr-mgmt")?;
    unbind(&host, data)?;
    let forced = host.try_run(
        &format!("echo {data} > /sys/bus/pci/drivers/{DATA_DRIVER}/bind"),
        LIMIT,
    )?;
    ensure!(!forced.success(), "bound by force, without an override");
    host.run(&format!("echo {data} > /sys/bus/pci/drivers_probe"))?;
    ensure!(host.driver(data)?.as_deref() != Some(DATA_DRIVER));
    host.bind(data, DATA_DRIVER)?;
    finish(host)
}

#[test]
fn parameters_out_of_range_are_refused() -> Result<()> {
    let host = HostBox::start(BoxConfig::for_test())?;
    for bad in [
        "log_ring_order=3",
        "log_ring_order=20",
        "log_memory_mib=1048577",
        "save_buffers=1",
        "save_buffer_kib=6",
    ] {
        ensure!(host.load_driver(bad).is_err(), "{bad} was accepted");
    }
    host.load_driver("log_ring_order=4 save_buffers=2 save_buffer_kib=4")?;
    finish(host)
}

#[test]
fn smallest_buffers_and_ring_work() -> Result<()> {
    let host = HostBox::start(BoxConfig::for_test().nic(pf(1)))?;
    host.load_driver("log_ring_order=4 save_buffers=2 save_buffer_kib=4")?;
    let functions = host.bind_dlr(0)?;
    save(&host, &functions[0], "iommufd")?;
    host.run(&format!("vfio-mig log --count 3 {}", functions[0]))?;
    finish(host)
}

#[test]
fn users_outlive_the_management_function() -> Result<()> {
    let host = HostBox::start(BoxConfig::for_test().nic(pf(2)))?;
    let functions = host.bind_dlr(0)?;
    let management = host.addresses(0)?.remove(0);
    for _ in 0..2 {
        start_log(&host, &functions[0])?;
        unbind(&host, &management)?;
        expect_log_to_fail(&host)?;
        let refused = host.try_run(&format!("vfio-mig save {} /tmp/state", functions[1]), LIMIT)?;
        ensure!(!refused.success(), "saved without a management function");
        // All is as before when it is back.
        host.bind(&management, "dlr-mgmt")?;
        for address in &functions {
            ensure!(host.driver(address)?.as_deref() == Some(DATA_DRIVER));
            save(&host, address, "iommufd")?;
        }
    }
    unload(&host)?;
    finish(host)
}

/// Removal through sysfs, which is what unplugging comes to for the drivers. The real thing does not
/// work with QEMU 11.1: an assertion (memory_region_del_subregion) ends it when a vfio-user function goes.
#[test]
fn functions_can_be_removed_and_found_again() -> Result<()> {
    let host = HostBox::start(BoxConfig::for_test().nic(pf(2)))?;
    let functions = host.bind_dlr(0)?;
    let management = host.addresses(0)?.remove(0);
    let remove = |address: &str| {
        host.run(&format!("echo 1 > /sys/bus/pci/devices/{address}/remove"))?;
        expect_gone(&host, address)
    };
    // The management function first, under a user.
    start_log(&host, &functions[0])?;
    remove(&management)?;
    expect_log_to_fail(&host)?;
    for address in &functions {
        remove(address)?;
    }
    host.run("echo 1 > /sys/bus/pci/rescan")?;
    for address in &host.bind_dlr(0)? {
        save(&host, address, "iommufd")?;
    }
    unload(&host)?;
    finish(host)
}
