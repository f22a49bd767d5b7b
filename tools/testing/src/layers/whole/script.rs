// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the scripts of this layer have in common.

use std::time::Duration;

use anyhow::{ensure, Result};

use crate::{
    native::{complaints, Bed},
    NicConfig,
};

/// How long one run may take.
pub(super) const LIMIT: Duration = Duration::from_secs(900);

/// Unbinds everything: nothing may be left of the sessions and logs.
pub(super) const UNLOAD: &str = "rmmod dlr_vfio_pci || fail rmmod\n";

/// Loads the driver and binds so many data functions.
pub(super) fn load(functions: u16) -> String {
    let mut text = String::from("insmod /module.ko || fail insmod\n");
    for number in 1..=functions {
        let function = format!("0000:00:{number:02x}.0");
        text += &format!(
            "echo dlr_vfio_pci > /sys/bus/pci/devices/{function}/driver_override\n\
             echo {function} > /sys/bus/pci/drivers_probe\n"
        );
    }
    text
}

/// Runs `script` with that NIC; the answer is the log.
///
/// # Errors
///
/// The run could not be begun, or the NIC has something left at its end.
pub(super) fn run(bed: &Bed, name: &str, config: NicConfig, script: &str) -> Result<String> {
    bed.run(name, config, script, LIMIT).run()
}

/// Neither the kernel nor the script of the run `name` complains.
///
/// # Errors
///
/// Says what they complain about.
pub(super) fn quiet(bed: &Bed, name: &str, log: &str) -> Result<()> {
    let found = complaints(log);
    ensure!(
        found.is_empty(),
        "{} (logs are here: {})",
        found.join("; "),
        bed.results.join(name).display()
    );
    Ok(())
}
