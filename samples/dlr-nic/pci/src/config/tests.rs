// SPDX-License-Identifier: Apache-2.0 OR MIT

use proptest::prelude::*;

use super::{regs::*, *};

fn word(space: &ConfigSpace, at: usize) -> u32 {
    let mut data = [0; 4];
    space.read(at as u16, &mut data);
    u32::from_le_bytes(data)
}

fn mf() -> ConfigSpace {
    ConfigSpace::management(0x1122_3344_5566_7788, 65)
}

/// (id, offset) of the chain from `CAPABILITIES` on.
fn chain(space: &ConfigSpace) -> Vec<(u8, usize)> {
    let mut found = Vec::new();
    let mut at = word(space, CAPABILITIES) as usize & 0xff;
    while at != 0 {
        assert!(at >= FIRST_CAP && at % 4 == 0 && found.len() < 16);
        let head = word(space, at);
        found.push((head as u8, at));
        at = (head >> 8) as usize & 0xff;
    }
    found
}

fn extended(space: &ConfigSpace) -> Vec<(u16, usize)> {
    let mut found = Vec::new();
    let mut at = FIRST_EXT_CAP;
    while at != 0 {
        assert!(at % 4 == 0 && found.len() < 16);
        let head = word(space, at);
        found.push((head as u16, at));
        at = (head >> 20) as usize;
    }
    found
}

#[test]
fn header_and_chain() {
    let space = mf();
    assert_eq!(word(&space, VENDOR), 0x10f0_1af4);
    assert_eq!(word(&space, REVISION) >> 8, 0x08_80_00);
    assert_ne!(word(&space, COMMAND) >> 16 & 0x10, 0);
    let ids: Vec<_> = chain(&space).into_iter().map(|c| c.0).collect();
    assert_eq!(ids, [CAP_PCIE, CAP_PM, CAP_MSIX]);
    let ids: Vec<_> = extended(&space).into_iter().map(|c| c.0).collect();
    assert_eq!(ids, [EXT_CAP_DVSEC, EXT_CAP_SERIAL, EXT_CAP_AER]);
}

#[test]
fn dvsec_says_who_it_is() {
    let space = mf();
    let at = extended(&space)[0].1;
    let field = |offset: u32| word(&space, at + offset as usize);
    assert_eq!(field(abi::DLR_DVSEC_HEADER1), 0x0202_1af4);
    assert_eq!(field(abi::DLR_DVSEC_HEADER2), 0x0002_0d17);
    assert_eq!(
        field(abi::DLR_DVSEC_FUNCTION),
        abi::DLR_DVSEC_FUNCTION_ROLE_MF
    );
    assert_eq!(field(abi::DLR_DVSEC_SERIAL_LO), 0x5566_7788);
    assert_eq!(field(abi::DLR_DVSEC_SERIAL_HI), 0x1122_3344);
}

#[test]
fn a_nonce_is_shown_until_the_next_reset_and_the_host_cannot_write_it() {
    let mut space = mf();
    let at = extended(&space)[0].1;
    let nonce = |space: &ConfigSpace| {
        let half = |offset: u32| u64::from(word(space, at + offset as usize));
        half(abi::DLR_DVSEC_NONCE_LO) | half(abi::DLR_DVSEC_NONCE_HI) << 32
    };
    assert_eq!(nonce(&space), 0);
    space.set_nonce(0x1234_5678_9abc_def0);
    let before = space.bytes.clone();
    space.write(at as u16, &[0x5a; abi::DLR_DVSEC_LENGTH as usize]);
    assert_eq!(space.bytes, before, "a word of the DVSEC was written");
    assert_eq!(nonce(&space), 0x1234_5678_9abc_def0);
    space.reset();
    assert_eq!(nonce(&space), 0);
}

#[test]
fn a_subsystem_may_have_ids_of_its_own() {
    let identity = Identity {
        vendor: 1,
        device: 2,
        class: 0,
        revision: 0,
    };
    let plain = ConfigBuilder::new(&identity).build();
    assert_eq!(word(&plain, SUBSYSTEM_VENDOR), 0x0002_0001);
    let own = ConfigBuilder::new(&identity).subsystem(3, 4).build();
    assert_eq!(word(&own, SUBSYSTEM_VENDOR), 0x0004_0003);
    assert_eq!(word(&own, VENDOR), 0x0002_0001);
}

#[test]
fn error_reporting_can_be_set_and_has_nothing_to_report() {
    let mut space = ConfigBuilder::new(&Identity {
        vendor: 1,
        device: 2,
        class: 0,
        revision: 0,
    })
    .serial_number(1)
    .aer()
    .build();
    let found = extended(&space);
    let ids: Vec<_> = found.iter().map(|c| c.0).collect();
    assert_eq!(ids, [EXT_CAP_SERIAL, EXT_CAP_AER]);
    let at = found[1].1;
    assert_eq!(word(&space, at + AER_UNCOR_SEVERITY), 0x0046_2030);
    space.write(at as u16 + 4, &[0xff; AER_LENGTH - 4]);
    assert_eq!(
        word(&space, at + 4),
        0,
        "an error that never was was reported"
    );
    assert_eq!(word(&space, at + AER_UNCOR_MASK), AER_UNCOR_WRITABLE);
    space.reset();
    assert_eq!(word(&space, at + AER_UNCOR_SEVERITY), 0x0046_2030);
}

#[test]
fn bars_size_themselves() {
    let mut space = mf();
    space.write(BAR0 as u16, &[0xff; 24]);
    assert_eq!(word(&space, BAR0), 0xffff_c000);
    assert_eq!(word(&space, BAR0 + 4), 0);
    assert_eq!(word(&space, BAR0 + 8), 0xffff_e000);
    assert_eq!(space.bar_size(0), 0x4000);
    assert_eq!(space.bar_size(MSIX_BAR), 0x2000);
    assert_eq!(space.bar_size(9), 0);
}

#[test]
fn msix_says_where_it_is() {
    let space = mf();
    let at = chain(&space)[2].1;
    assert_eq!(word(&space, at) >> 16, 64);
    assert_eq!(word(&space, at + MSIX_TABLE), u32::from(MSIX_BAR));
    assert_eq!(word(&space, at + MSIX_PBA), 0x1000 | u32::from(MSIX_BAR));
    assert_eq!(space.vectors(), 65);
}

#[test]
fn flr_is_noticed_and_reads_as_zero() {
    let mut space = mf();
    let devctl = (chain(&space)[0].1 + PCIE_DEVCTL) as u16;
    assert!(!space.write(devctl, &[0x10, 0x28]).flr);
    assert!(space.write(devctl, &[0x10, 0xa8]).flr);
    assert!(space.write(devctl + 1, &[0x80]).flr);
    let mut read = [0; 2];
    space.read(devctl, &mut read);
    assert_eq!(read, [0x10, 0x00]);
    space.reset();
    space.read(devctl, &mut read);
    assert_eq!(read, PCIE_DEVCTL_VALUE.to_le_bytes());
}

#[test]
fn device_control_has_only_what_the_capabilities_offer() {
    let mut space = mf();
    let devctl = (chain(&space)[0].1 + PCIE_DEVCTL) as u16;
    space.write(devctl, &[0xff, 0x7f]);
    let mut read = [0; 2];
    space.read(devctl, &mut read);
    // No larger payload (7:5), extended tags (8), phantom functions (9) or auxiliary power (10).
    assert_eq!(u16::from_le_bytes(read) & 0x07e0, 0);
    assert_eq!(u16::from_le_bytes(read), 0x781f);
}

#[test]
fn a_function_that_sleeps_starts_no_dma_and_wakes_up_as_it_was() {
    let mut space = mf();
    let (id, pm) = chain(&space)[1];
    assert_eq!((id, word(&space, pm) >> 16), (CAP_PM, 3));
    let control = (pm + PM_CONTROL) as u16;
    assert_eq!(word(&space, pm + PM_CONTROL), 0x8, "No_Soft_Reset, D0");
    space.write(COMMAND as u16, &[0x06, 0]);
    assert!(space.powered() && space.bus_master());
    assert_eq!(space.write(control, &[3, 0]).bus_master, Some(false));
    assert!(!space.powered());
    assert_eq!(word(&space, pm + PM_CONTROL), 0xb);
    // D1 and D2 do not exist; PME# neither.
    for nothing in [1, 2] {
        assert_eq!(space.write(control, &[nothing, 0x81]).bus_master, None);
        assert_eq!(word(&space, pm + PM_CONTROL), 0xb);
    }
    // Nothing but configuration space is awake: the bit alone allows no DMA.
    assert_eq!(space.write(COMMAND as u16, &[0x02, 0]).bus_master, None);
    assert_eq!(space.write(COMMAND as u16, &[0x06, 0]).bus_master, None);
    assert_eq!(space.write(control, &[0, 0]).bus_master, Some(true));
    space.write(control, &[3, 0]);
    space.reset();
    assert!(space.powered());
}

#[test]
fn bus_master_is_noticed_once() {
    let mut space = mf();
    let on = [0x06, 0x00];
    assert_eq!(space.write(COMMAND as u16, &on).bus_master, Some(true));
    assert_eq!(space.write(COMMAND as u16, &on).bus_master, None);
    assert_eq!(
        space.write(COMMAND as u16, &[0x02, 0]).bus_master,
        Some(false)
    );
}

#[test]
fn beyond_the_end() {
    let mut space = mf();
    let mut data = [0; 4];
    space.read(4094, &mut data);
    assert_eq!(data, [0, 0, 0xff, 0xff]);
    assert_eq!(space.write(4094, &[1; 8]), WriteEffect::default());
    assert_eq!(space.write(u16::MAX, &[1; 8]), WriteEffect::default());
}

proptest! {
    /// Whatever is written, bits outside the mask stay, and a reset undoes all of it.
    #[test]
    fn writes_stay_inside_the_mask(
        writes in prop::collection::vec((0u16..4096, prop::collection::vec(any::<u8>(), 1..8)), 1..64)
    ) {
        let before = mf();
        let mut space = before.clone();
        for (offset, data) in &writes {
            space.write(*offset, data);
        }
        for at in 0..CONFIG_SIZE {
            let fixed = !space.writable[at];
            prop_assert_eq!(space.bytes[at] & fixed, before.bytes[at] & fixed, "offset {:#x}", at);
        }
        space.reset();
        prop_assert_eq!(&space.bytes, &before.bytes);
    }
}
