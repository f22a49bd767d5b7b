// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Waits for what comes after the end of a migration: QEMU says `completed` or `failed` first.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;

use crate::e2e::{
    lab::Lab,
    order::Order,
    vm::{stopped_by_itself, Vm},
};

/// Limit for each wait.
const LIMIT: Duration = Duration::from_secs(60);

impl Vm {
    /// Waits for `query-status` to be `status`.
    ///
    /// # Errors
    ///
    /// It is not within a minute.
    pub fn until_running(&mut self, status: &str) -> Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            let now = self.status()?;
            if now == status {
                return Ok(());
            }
            if Instant::now() > end {
                let what = format!("QEMU `{}` is {now}, not {status}", self.name());
                if status == "running" && stopped_by_itself(&now) {
                    return Err(self.silent(what));
                }
                bail!(what);
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// Waits until QEMU has cleaned up behind a migration that completed: it says `completed` before
    /// it stops the device and closes its data file. Returns what it asked since the last mark.
    ///
    /// # Errors
    ///
    /// It does not within a minute.
    pub fn until_saved(&mut self, lab: &Lab) -> Result<Order> {
        self.until_running("postmigrate")?;
        self.until_closed(lab)
    }

    /// Waits until QEMU has closed its device's data file, at the end of the clean-up behind a migration
    /// that completed or failed. Returns what it asked since the last mark.
    ///
    /// # Errors
    ///
    /// It does not within a minute.
    pub fn until_closed(&self, lab: &Lab) -> Result<Order> {
        let end = Instant::now() + LIMIT;
        loop {
            let order = self.order(lab.host())?;
            if order.names().last() == Some(&"SAVED") {
                return Ok(order);
            }
            ensure!(
                Instant::now() < end,
                "QEMU `{}` does not close the data file: {order}",
                self.name()
            );
            sleep(Duration::from_millis(100));
        }
    }
}

/// The state of a device by the driver's own account in debugfs.
///
/// # Errors
///
/// There is none.
pub fn driver_state(lab: &Lab, function: usize) -> Result<String> {
    let address = lab.functions().get(function).context("no such function")?;
    let path = format!("/sys/kernel/debug/dlr_vfio_pci/{address}/state");
    Ok(lab.host().run(&format!("cat {path}"))?.trim().to_owned())
}

/// Waits until the driver says that a device is in `state`.
///
/// # Errors
///
/// It is not within a minute.
pub fn until_state(lab: &Lab, function: usize, state: &str) -> Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        let now = driver_state(lab, function)?;
        if now == state {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "function {function} is {now}, not {state}"
        );
        sleep(Duration::from_millis(100));
    }
}

/// Waits until a device is RUNNING and has no log, as before the migration: QEMU says `failed`
/// before it cleans up. Returns what the NIC says about the function.
///
/// # Errors
///
/// It is not within a minute.
pub fn until_at_rest(lab: &Lab, function: usize) -> Result<Value> {
    until_state(lab, function, "RUNNING")?;
    let end = Instant::now() + LIMIT;
    loop {
        let stats = lab.function_stats(function)?;
        if stats["log"]["active"] == false {
            return Ok(stats);
        }
        ensure!(Instant::now() < end, "the log goes on: {stats}");
        sleep(Duration::from_millis(100));
    }
}
