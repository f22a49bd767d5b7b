// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A guest that moves between versions of QEMU, with the machine type that both know. The older
//! one asks for version 1 of PRECOPY_INFO. And one with the kernel that Debian ships.
//!
//! The program in the guest is at a serial line: QEMU 11.1.3 does not take the state of a
//! virtio-serial device over from 10.0 ("VQ 0 vring.num 1024 exceeds allocated max 128"), with or
//! without VFIO.

use std::fs;

use anyhow::{bail, Context, Result};
use dlr_guest::{
    protocol::{Pong, Request},
    xdp::Action,
};
use dlr_testing::{
    artefacts::Workshop,
    e2e::{
        attempt::Settings,
        traffic::{self, Load},
        Backend, Journey, Lab, Unusual,
    },
};

use crate::{
    group::{Group, Listed},
    hops::{arrive, complete_with, destination},
};

/// Name of the older program in the box.
const OLD: &str = "qemu-old";

/// A guest that was started by the older QEMU.
fn start_old(group: &str) -> Result<Journey> {
    let program = Workshop::open()?.old_qemu()?;
    let lab = Lab::start_with(group, 4, Backend::Iommufd, &[], |config| {
        config.file(OLD, program)
    })?;
    Journey::start_unusual(lab, &[0], Load::light(), &old())
}

/// A guest with Debian's kernel.
fn start_distro(group: &str) -> Result<Journey> {
    let workshop = Workshop::open()?;
    let kernel = workshop.distro_kernel()?;
    let guest = workshop.artefacts()?.guest.context("no guest")?;
    let mut initrd = fs::read(guest)?;
    initrd.extend(fs::read(kernel.join("modules.cpio"))?);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("initrd");
    fs::write(&path, initrd)?;
    let lab = Lab::start_with(group, 4, Backend::Iommufd, &[], |config| {
        config
            .file("distro/vmlinuz", kernel.join("vmlinuz"))
            .file("distro/initrd", path)
    })?;
    Journey::start_unusual(lab, &[0], Load::light(), &distro())
}

fn distro() -> Unusual {
    Unusual {
        boot: Some("/dlr/distro".into()),
        ..Unusual::default()
    }
}

/// The guest with Debian's kernel.
pub(crate) fn distro_group() -> Listed {
    let group = Group::new("distro", start_distro);
    let trials = vec![
        group.scenario("guest_with_debians_kernel_moves", |j| hop(j, &distro())),
        group.scenario("case_15_xdp_attaches_before_and_after_a_move", xdp),
        group.end("the_guest_with_debians_kernel_is_unharmed"),
    ];
    (group, trials)
}

/// The guest that moves between versions.
pub(crate) fn group() -> Listed {
    let group = Group::new("versions", start_old);
    let trials = vec![
        group.scenario("s11_qemu_10_to_qemu_10", |j| hop(j, &old())),
        group.scenario("qemu_10_to_qemu_11", |j| hop(j, &new())),
        group.scenario("qemu_11_to_qemu_10", |j| hop(j, &old())),
        group.end("the_guest_of_both_versions_is_unharmed"),
    ];
    (group, trials)
}

/// Field case 15: the driver refuses XDP where it cannot turn checksum offload off. A program attaches,
/// works, moves with the guest, and can be replaced and taken away at the new place. Kernels of this
/// tree's guests have no BPF.
fn xdp(journey: &mut Journey) -> Result<()> {
    filter_pongs(journey)?;
    hop(journey, &distro())?;
    // What was attached there works here, and so does another attachment.
    expect_silence(journey).context("the program did not move")?;
    set_xdp(journey, None)?;
    filter_pongs(journey)?;
    set_xdp(journey, None)?;
    ping(journey)
}

/// Attaches a program that lets everything through, then one that throws answers to pings away.
fn filter_pongs(journey: &mut Journey) -> Result<()> {
    ping(journey)?;
    set_xdp(journey, Some(Action::Pass))?;
    ping(journey)?;
    set_xdp(journey, Some(Action::DropPongs))?;
    expect_silence(journey).context("the program is not asked")?;
    journey.check_alive()
}

fn set_xdp(journey: &mut Journey, action: Option<Action>) -> Result<()> {
    let (lab, vm, _) = journey.parts();
    vm.guest(lab.host())?.ask(&Request::Xdp { nic: 0, action })
}

/// The peer answers.
fn ping(journey: &mut Journey) -> Result<()> {
    try_ping(journey, 100).map(drop)
}

/// The peer does not answer, as far as the guest can see.
fn expect_silence(journey: &mut Journey) -> Result<()> {
    match try_ping(journey, 10) {
        // Any other error says nothing about the peer.
        Err(e) if format!("{e:#}").contains("does not answer (10 attempts)") => Ok(()),
        Err(e) => Err(e),
        Ok(pong) => bail!("the peer answers: {pong:?}"),
    }
}

fn try_ping(journey: &mut Journey, attempts: u32) -> Result<Pong> {
    let (lab, vm, _) = journey.parts();
    let dst = traffic::address(0, 1);
    vm.guest(lab.host())?.ask(&Request::Ping { dst, attempts })
}

fn new() -> Unusual {
    Unusual {
        machine: Some("pc-q35-10.0".into()),
        serial_line: true,
        ..Unusual::default()
    }
}

fn old() -> Unusual {
    Unusual {
        emulator: Some(format!(
            "/dlr/{OLD} -L /usr/share/qemu -L /usr/share/seabios"
        )),
        ..new()
    }
}

fn hop(journey: &mut Journey, to: &Unusual) -> Result<()> {
    let (here, _, mut destination) = destination(journey, to)?;
    let judged = complete_with(journey, &mut destination, 3, &Settings::held())?;
    arrive(journey, destination, here, judged)
}
