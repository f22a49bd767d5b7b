// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A box for virtual machines without traffic.

use anyhow::{Context, Result};
use dlr_testing::e2e::{Backend, Lab, Unusual, Vm};

use crate::group::Bench;

/// Function of the second NIC, which plain vfio-pci has.
const INCAPABLE: usize = 1;

/// Room for a guest of 3 GiB.
const HUGE_PAGES: u32 = 1600;
const MEMORY_MIB: u32 = 5000;

/// A box with the driver's functions and one that cannot migrate.
pub(crate) struct Blocked {
    pub(crate) lab: Lab,
    /// Address of the one that cannot.
    pub(crate) incapable: String,
}

/// Starts such a box.
pub(crate) fn start(group: &str) -> Result<Blocked> {
    let lab = Lab::start_with(group, 2, Backend::Iommufd, &[], |config| {
        config
            .functions(1)
            .huge_pages(HUGE_PAGES)
            .memory(MEMORY_MIB)
    })?;
    let host = lab.host();
    let incapable = host
        .addresses(1)?
        .into_iter()
        .nth(INCAPABLE)
        .context("the second NIC has no data function")?;
    host.bind(&incapable, "vfio-pci")?;
    Ok(Blocked { lab, incapable })
}

impl Bench for Blocked {
    fn mark(&self) -> Result<()> {
        self.lab.mark_consoles()
    }

    /// There is no guest between two scenarios.
    fn check_guest(&mut self) -> Result<()> {
        Ok(())
    }

    fn check_box(&mut self) -> Result<()> {
        self.lab.check()
    }

    fn failed(&mut self) {
        self.lab.keep_results();
        // What a failed scenario has left running would stand in the next one's way.
        let _ = self.lab.host().run(
            "for p in $(pidof qemu-system-x86_64); do kill -9 $p; done; \
             while pidof qemu-system-x86_64; do sleep 0.2; done",
        );
    }

    fn blame(&self, result: Result<()>) -> Result<()> {
        self.lab.blame(result)
    }

    /// Its guests have no traffic: there is nothing that the peer could be asked.
    fn salvage(mut self) -> Result<()> {
        self.check_box()
    }

    fn close(self) -> Result<()> {
        self.lab.finish()
    }
}

impl Blocked {
    /// A VM that has not begun to run, with function 0 of the driver.
    pub(crate) fn standing(&mut self, words: String) -> Result<Vm> {
        self.start(words, true)
    }

    /// A VM with function 0 of the driver.
    pub(crate) fn start(&mut self, words: String, paused: bool) -> Result<Vm> {
        let unusual = Unusual {
            paused,
            words,
            ..Unusual::default()
        };
        self.lab.unusual_vm(&[0], false, &unusual)
    }
}
