// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A guest that moves between versions of QEMU, with the machine type that both know. The older
//! one asks for version 1 of PRECOPY_INFO. And one with the kernel that Debian ships. Part of
//! `make test-wide`.

use std::{fs, sync::Arc};

use anyhow::{Context, Result};
use dlr_testing::{
    artefacts::Workshop,
    e2e::{attempt::Settings, traffic::Load, Backend, Journey, Lab, Unusual},
};
use libtest_mimic::Trial;

use crate::{
    group::{Bench, Group},
    hops::{arrive, destination},
    wide,
};

/// Name of the older program in the box.
const OLD: &str = "qemu-old";

/// A guest that was started by the older QEMU.
pub(crate) struct Versions(Journey);

impl Bench for Versions {
    fn open(group: &str) -> Result<Self> {
        let program = Workshop::open()?.old_qemu()?;
        let lab = Lab::start_with(group, 4, Backend::Iommufd, &[], |config| {
            config.file(OLD, program)
        })?;
        Journey::start_unusual(lab, &[0], Load::light(), &old()).map(Self)
    }

    fn check(&mut self) -> Result<()> {
        self.0.check()
    }

    fn failed(&mut self) {
        self.0.failed();
    }

    fn is_excused(&self) -> bool {
        self.0.is_excused()
    }

    fn close(self) -> Result<()> {
        self.0.close()
    }
}

/// A guest with Debian's kernel.
pub(crate) struct Distro(Journey);

impl Bench for Distro {
    fn open(group: &str) -> Result<Self> {
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
        Journey::start_unusual(lab, &[0], Load::light(), &distro()).map(Self)
    }

    fn check(&mut self) -> Result<()> {
        self.0.check()
    }

    fn failed(&mut self) {
        self.0.failed();
    }

    fn is_excused(&self) -> bool {
        self.0.is_excused()
    }

    fn close(self) -> Result<()> {
        self.0.close()
    }
}

fn distro() -> Unusual {
    Unusual {
        boot: Some("/dlr/distro".into()),
        ..Unusual::default()
    }
}

pub(crate) fn distro_trials(group: &Arc<Group<Distro>>) -> Vec<Trial> {
    if !wide::wanted() {
        return Vec::new();
    }
    vec![
        group.scenario("guest_with_debians_kernel_moves", |d| {
            hop(&mut d.0, &distro())
        }),
        group.end("the_guest_with_debians_kernel_is_unharmed"),
    ]
}

pub(crate) fn trials(group: &Arc<Group<Versions>>) -> Vec<Trial> {
    if !wide::wanted() {
        return Vec::new();
    }
    vec![
        group.scenario("s11_qemu_10_to_qemu_10", |v| hop(&mut v.0, &old())),
        group.scenario("qemu_10_to_qemu_11", |v| hop(&mut v.0, &new())),
        group.scenario("qemu_11_to_qemu_10", |v| hop(&mut v.0, &old())),
        group.end("the_guest_of_both_versions_is_unharmed"),
    ]
}

fn new() -> Unusual {
    Unusual {
        machine: Some("pc-q35-10.0".into()),
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
    // QEMU 10.0 cannot be held in pre-copy by its bandwidth.
    let settings = Settings::held().free();
    let (lab, vm, _) = journey.parts();
    let uri = destination.expect_incoming(lab, &settings)?;
    vm.begin(lab, &uri, &settings)?;
    vm.until_end()?.expect("completed")?;
    arrive(journey, destination, here)
}
