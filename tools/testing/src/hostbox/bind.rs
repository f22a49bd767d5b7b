// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Loads the driver in the box and binds functions to it.

use std::{
    collections::BTreeMap,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure, Context, Result};

use super::{
    qemu::{port_of_device, Location},
    HostBox,
};

/// Driver of the data functions, as in `/sys/bus/pci/drivers`.
pub(super) const DATA_DRIVER: &str = "dlr_vfio_pci";

/// Driver of the management function.
pub(super) const MANAGEMENT_DRIVER: &str = "dlr-mgmt";

/// The module in the box.
const MODULE: &str = "/dlr/modules/dlr_vfio_pci.ko";

/// How long driver and NIC may take to free what an answered command needed.
const SETTLED: Duration = Duration::from_secs(5);
/// How long commands may be in flight for which a test waits.
const PATIENCE: Duration = Duration::from_secs(30);

impl HostBox {
    /// PCI addresses of a NIC's functions, the management function first.
    ///
    /// # Errors
    ///
    /// There is no such NIC, or the box does not see a function.
    pub fn addresses(&self, nic: usize) -> Result<Vec<String>> {
        let mut addresses = Vec::new();
        for plug in self.plugs(nic)? {
            addresses.push(match &plug.location {
                Location::Address(address) => address.clone(),
                Location::Behind(port) => self.behind(port, 0)?,
                Location::Switch(port, index) => {
                    let upstream = self.behind(port, 0)?;
                    let downstream = self.behind(&upstream, *index)?;
                    self.behind(&downstream, 0)?
                }
            });
        }
        Ok(addresses)
    }

    /// PCI address of one of [`BoxConfig::devices`](crate::BoxConfig::devices).
    ///
    /// # Errors
    ///
    /// The box does not see it.
    pub fn device(&self, number: usize) -> Result<String> {
        self.behind(&port_of_device(number), 0)
    }

    /// PCI address of a function behind a port, the `index`th.
    ///
    /// # Errors
    ///
    /// The box does not see so many there.
    pub fn behind(&self, port: &str, index: usize) -> Result<String> {
        let listing = self.run(&format!("ls /sys/bus/pci/devices/{port}/"))?;
        listing
            .lines()
            .filter(|name| name.len() == 12 && name.starts_with("0000:"))
            .nth(index)
            .map(str::to_string)
            .with_context(|| format!("no function {index} behind the port {port}"))
    }

    /// Loads the driver with parameters such as `ring_order=4`, unless it is
    /// loaded.
    ///
    /// # Errors
    ///
    /// The module was not built, or insmod says why.
    pub fn load_driver(&self, parameters: &str) -> Result<()> {
        ensure!(
            self.artefacts().module.is_some(),
            "the driver was not built: run `make modules`"
        );
        // A mutant of the driver (see crate::mutants) is chosen when it is loaded.
        let mutant = std::env::var("DLR_MUTANT").map_or(String::new(), |n| format!("mutant={n}"));
        self.run(&format!(
            "[ -d /sys/module/dlr_vfio_pci ] || insmod {MODULE} {parameters} {mutant}"
        ))
        .map(drop)
    }

    /// Binds a function to a driver by `driver_override`, whatever has it now.
    ///
    /// # Errors
    ///
    /// The driver does not take the function; see the kernel log.
    pub fn bind(&self, address: &str, driver: &str) -> Result<()> {
        let device = format!("/sys/bus/pci/devices/{address}");
        self.run(&format!(
            "[ ! -e {device}/driver ] || echo {address} > {device}/driver/unbind; \
             echo {driver} > {device}/driver_override && \
             echo {address} > /sys/bus/pci/drivers_probe"
        ))?;
        let bound = self.driver(address)?;
        if bound.as_deref() != Some(driver) {
            bail!("{address} did not bind to {driver}: it has {bound:?} (see console.log)");
        }
        Ok(())
    }

    /// The driver that has a function.
    ///
    /// # Errors
    ///
    /// The box is gone.
    pub fn driver(&self, address: &str) -> Result<Option<String>> {
        let link = self.run(&format!(
            "basename \"$(readlink /sys/bus/pci/devices/{address}/driver)\""
        ))?;
        let name = link.trim();
        Ok((!name.is_empty()).then(|| name.to_string()))
    }

    /// Loads the driver and binds all functions of a NIC. Returns the PCI
    /// addresses of the data functions.
    ///
    /// # Errors
    ///
    /// The module was not built or a function does not bind.
    pub fn bind_dlr(&self, nic: usize) -> Result<Vec<String>> {
        self.load_driver("")?;
        let mut addresses = self.addresses(nic)?;
        let management = addresses.remove(0);
        if self.driver(&management)?.as_deref() != Some(MANAGEMENT_DRIVER) {
            self.bind(&management, MANAGEMENT_DRIVER)?;
        }
        for address in &addresses {
            self.bind(address, DATA_DRIVER)?;
        }
        Ok(addresses)
    }

    /// Fails if the driver or the NIC has anything left of a session, a log or a command of a
    /// NIC that nobody uses.
    ///
    /// # Errors
    ///
    /// Says what is left over.
    pub fn check_idle(&self, nic: usize, management: &str) -> Result<()> {
        let begin = Instant::now();
        loop {
            let idle = self
                .check_none_left(management, &["buffers", "in_flight", "log_rings"])
                .and_then(|()| self.nic(nic)?.check_idle());
            // A thread is woken before the driver has freed the last buffer and told the NIC.
            if idle.is_ok() || begin.elapsed() > SETTLED {
                return idle;
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the driver has no command in flight on this management function.
    ///
    /// # Errors
    ///
    /// One is left after half a minute.
    pub fn until_none_in_flight(&self, management: &str) -> Result<()> {
        let begin = Instant::now();
        while !self.is_none_in_flight(management)? {
            ensure!(begin.elapsed() < PATIENCE, "commands stay in flight");
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Whether the driver has no command in flight on this management function.
    ///
    /// # Errors
    ///
    /// Its debugfs file cannot be read.
    pub fn is_none_in_flight(&self, management: &str) -> Result<bool> {
        let counts = self.counts(management)?;
        let count = counts.get("in_flight").context("no count in_flight")?;
        Ok(count == "0")
    }

    /// What the driver counts for this management function.
    fn counts(&self, management: &str) -> Result<BTreeMap<String, String>> {
        let file = format!("/sys/kernel/debug/dlr_vfio_pci/{management}/stats");
        let text = String::from_utf8(self.read_file(&file)?)?;
        let pairs = text.lines().filter_map(|l| l.split_once(' '));
        Ok(pairs
            .map(|(name, count)| (name.to_owned(), count.to_owned()))
            .collect())
    }

    fn check_none_left(&self, management: &str, names: &[&str]) -> Result<()> {
        let counts = self.counts(management)?;
        for name in names {
            let count = counts.get(*name).map(String::as_str);
            ensure!(count == Some("0"), "{count:?} {name} are left over");
        }
        Ok(())
    }
}
