// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Idle guests that move to and fro: how long they stand still.

use anyhow::{ensure, Context, Result};
use dlr_guest::protocol::{Hello, Request};

use super::bed::Bench;
use crate::{
    e2e::{lab::GUEST_MIB, migrate, Backend, Lab, Plan, Stop, Unusual, Vm},
    BoxConfig, NicConfig,
};

/// The same guest with a NIC of QEMU.
const EMULATED: &str = "-netdev hubport,id=n0,hubid=0 \
                        -device pcie-root-port,id=rp0,chassis=1,slot=1 \
                        -device virtio-net-pci,disable-legacy=on,netdev=n0,bus=rp0,romfile=";

/// A box for so many guests at a time, a NIC with so many functions.
pub(super) fn lab(bench: &Bench, name: &str, functions: u16, guests: u32) -> Result<Lab> {
    let config = BoxConfig::new(name)
        .nic(NicConfig::new(functions))
        .memory(1536 + guests * GUEST_MIB)
        .huge_pages(guests * GUEST_MIB / 2 + 8);
    Lab::in_box(config, bench.artefacts.clone(), "", Backend::Iommufd)
}

/// A guest that has a number of functions, or a NIC of QEMU, and moves.
pub(super) struct Mover {
    vm: Vm,
    /// The functions it has now, and those it moves to.
    now: Vec<usize>,
    next: Vec<usize>,
    unusual: Unusual,
}

impl Mover {
    /// With these functions, which it exchanges for those.
    pub(super) fn passed_through(lab: &mut Lab, now: &[usize], next: &[usize]) -> Result<Self> {
        Self::start(lab, now, next, Unusual::default())
    }

    /// With a NIC of QEMU.
    pub(super) fn emulated(lab: &mut Lab) -> Result<Self> {
        let unusual = Unusual {
            words: EMULATED.into(),
            ..Unusual::default()
        };
        Self::start(lab, &[], &[], unusual)
    }

    fn start(lab: &mut Lab, now: &[usize], next: &[usize], unusual: Unusual) -> Result<Self> {
        let mut vm = lab.unusual_vm(now, false, &unusual)?;
        vm.guest(lab.host())?;
        Ok(Self {
            vm,
            now: now.to_vec(),
            next: next.to_vec(),
            unusual,
        })
    }

    /// Moves once; the guest has to answer afterwards.
    pub(super) fn hop(&mut self, lab: &mut Lab) -> Result<Stop> {
        let mut to = lab.unusual_vm(&self.next, true, &self.unusual)?;
        let migration = migrate::migrate(lab, &mut self.vm, &mut to, &Plan::quick())?;
        ensure!(migration.completed(), "{migration:?}");
        let host = lab.host();
        let stop = Stop::parse(&self.vm.trace(host)?, &to.trace(host)?);
        let stop = stop.context("the traces do not show the stop")?;
        let left = std::mem::replace(&mut self.vm, to);
        std::mem::swap(&mut self.now, &mut self.next);
        left.quit(host)?;
        let _: Hello = self.vm.guest(host)?.ask(&Request::Hello)?;
        Ok(stop)
    }

    /// Ends it.
    pub(super) fn end(self, lab: &Lab) -> Result<()> {
        self.vm.quit(lab.host())
    }
}

/// A part of a stop, and its microseconds.
type Phase = (&'static str, fn(&Stop) -> u64);

/// What of it is told by itself.
pub(super) const PHASES: [Phase; 10] = [
    ("suspend", |s| s.suspend),
    ("report", |s| s.report),
    ("read", |s| s.read),
    ("others_saved", |s| s.others_saved),
    ("between", Stop::between),
    ("load", |s| s.load),
    ("load.config", |s| s.config),
    ("others_loaded", |s| s.others_loaded),
    ("resume", |s| s.resume),
    ("resume.before_run", |s| s.before_run),
];
