// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The network interface of a box at the end of a [`Cable`].

use anyhow::{Context, Result};

use super::{Cable, HostBox};

impl HostBox {
    /// Gives the box its address in the network of the cable, if there is one.
    pub(super) fn plug_cable(&self) -> Result<()> {
        let Some(cable) = &self.config.cable else {
            return Ok(());
        };
        let interface = self
            .run(&format!(
                "grep -l {} /sys/class/net/*/address | cut -d/ -f5",
                cable.mac()
            ))
            .context("the interface of the cable")?;
        let interface = interface.trim();
        self.run(&format!(
            "ip address add {}/24 dev {interface} && ip link set {interface} up",
            Cable::address(cable.end)
        ))
        .map(drop)
    }
}
