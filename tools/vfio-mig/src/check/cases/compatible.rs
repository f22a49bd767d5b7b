// SPDX-License-Identifier: Apache-2.0 OR MIT

//! R10: is the second device one that the guest of the first can go on with?

use vfio_bindings::bindings::vfio as vb;

use crate::check::{
    config::differences,
    dut::Dut,
    verdict::{accepted, ensure, skip, Outcome},
    Case, Ctx, Group, Needs,
};

/// Offsets that are named in a deviation.
const NAMED: usize = 8;

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    vec![Case::new(
        Group::Pair,
        "R10.same-configuration-space",
        Needs::MIGRATION | Needs::PAIR,
        "a stream goes to a compatible device (uapi:1184): one that the guest cannot tell from its \
         own, which a VMM verifies by configuration space (QEMU: get_pci_config_device)",
        same_configuration_space,
    )]
}

fn configuration_space(dut: &mut Dut) -> Outcome<Vec<u8>> {
    // Opening resets it, so that both have the values that they begin with.
    let device = dut.reopen()?;
    let size = device.region_size(vb::VFIO_PCI_CONFIG_REGION_INDEX);
    let mut config = vec![0; usize::try_from(size.min(4096))?];
    accepted(
        "read() of configuration space",
        device.region_read(vb::VFIO_PCI_CONFIG_REGION_INDEX, 0, &mut config),
    )?;
    Ok(config)
}

fn same_configuration_space(ctx: &mut Ctx) -> Outcome {
    if !ctx.dut.is_pci() {
        skip!("it is no PCI device");
    }
    let here = configuration_space(&mut ctx.dut)?;
    let there = configuration_space(ctx.pair()?)?;
    let differ = differences(&here, &there);
    let named = differ.iter().take(NAMED).map(|at| format!("{at:#x}"));
    let named: Vec<String> = named.collect();
    ensure!(
        differ.is_empty(),
        "{} of {} bytes differ that neither guest nor hardware may change, at {}{}",
        differ.len(),
        here.len().max(there.len()),
        named.join(", "),
        if differ.len() > NAMED { ", …" } else { "" }
    );
    Ok(())
}
