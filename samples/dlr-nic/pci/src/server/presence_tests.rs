// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A function that sleeps, vanishes, or takes its time for a reset.

use super::*;

#[test]
fn a_sleeping_function_answers_nothing_but_configuration_space() {
    let (port, function) = (port(), Fake::default());
    let send = |command, region, offset, count, data: &[u8]| {
        let payload = access(region, offset, count, data);
        ask(&port, &function, request(command, &payload, vec![])).unwrap()
    };
    // PMCSR of the capability behind the PCIe capability at 0x40.
    send(CMD_REGION_WRITE, REGION_CONFIG, 0x80, 2, &[3, 0]);
    send(CMD_REGION_WRITE, 0, 8, 4, &[1, 2, 3, 4]);
    assert!(function.writes.lock().unwrap().is_empty());
    assert_eq!(
        send(CMD_REGION_READ, 0, 8, 4, &[])[16..],
        [0xff; 4],
        "a memory request was answered in D3hot"
    );
    assert_eq!(
        send(CMD_REGION_READ, REGION_CONFIG, 0, 2, &[])[16..],
        [0xf4, 0x1a]
    );
    send(CMD_REGION_WRITE, REGION_CONFIG, 0x80, 2, &[0, 0]);
    send(CMD_REGION_WRITE, 0, 8, 4, &[1, 2, 3, 4]);
    assert_eq!(function.writes.lock().unwrap().len(), 1);
}

/// What a client reads at the start of configuration space and of BAR 0.
fn answers(port: &Port, fake: &Fake) -> (Vec<u8>, Vec<u8>) {
    let read = |region| {
        let payload = access(region, 0, 4, &[]);
        ask(port, fake, request(CMD_REGION_READ, &payload, vec![])).unwrap()[16..].to_vec()
    };
    (read(REGION_CONFIG), read(0))
}

fn write(port: &Port, fake: &Fake, region: u32, offset: u64, data: &[u8]) {
    let payload = access(region, offset, data.len() as u32, data);
    ask(port, fake, request(CMD_REGION_WRITE, &payload, vec![])).unwrap();
}

/// Sets the FLR bit of DevCtl.
fn flr(port: &Port, fake: &Fake, at: u64) {
    write(port, fake, REGION_CONFIG, at, &[0x80]);
}

/// Offset of the upper byte of DevCtl.
fn flr_at(port: &Port) -> u64 {
    let byte = |at: u8| {
        let mut byte = [0];
        port.config().read(at.into(), &mut byte);
        byte[0]
    };
    let mut at = byte(0x34);
    while byte(at) != 0x10 {
        at = byte(at + 1);
        assert_ne!(at, 0, "no PCIe capability");
    }
    u64::from(at) + 9
}

#[test]
fn a_function_that_vanished_reads_as_ones_until_it_comes_back() {
    let (port, fake) = (port(), Fake::default());
    let here = answers(&port, &fake);
    let at = flr_at(&port);
    assert_ne!(here.0, [0xff; 4]);
    write(&port, &fake, REGION_CONFIG, 4, &[6, 0]);
    port.vanish(&fake);
    assert!(port.is_gone());
    assert_eq!(fake.resets.lock().unwrap()[..], [ResetKind::FunctionLevel]);
    assert_eq!(fake.master.lock().unwrap()[..], [true, false]);
    let gone = (vec![0xff; 4], vec![0xff; 4]);
    assert_eq!(answers(&port, &fake), gone);
    // Nothing reaches it: neither a BAR nor bus mastering nor an FLR; and a reset of the device
    // does not bring it back.
    write(&port, &fake, 0, 0, &[1; 4]);
    write(&port, &fake, REGION_CONFIG, 4, &[6, 0]);
    flr(&port, &fake, at);
    ask(&port, &fake, request(CMD_DEVICE_RESET, &[], vec![])).unwrap();
    assert_eq!(answers(&port, &fake), gone);
    assert!(fake.writes.lock().unwrap().is_empty());
    assert_eq!(
        fake.master.lock().unwrap().iter().filter(|on| **on).count(),
        1
    );
    assert!(!fake.resets.lock().unwrap()[1..].contains(&ResetKind::FunctionLevel));
    port.come_back();
    assert_eq!(answers(&port, &fake), here);
    assert!(!port.config().bus_master(), "power-on state");
    port.vanish(&fake);
    port.reset(&fake, ResetKind::ClientGone);
    assert_eq!(answers(&port, &fake), here, "another client");
}

#[test]
fn a_function_level_reset_can_take_its_time() {
    let (port, fake) = (port(), Fake::default());
    let here = answers(&port, &fake);
    let at = flr_at(&port);
    flr(&port, &fake, at);
    assert_eq!(fake.resets.lock().unwrap()[..], [ResetKind::FunctionLevel]);
    assert_eq!(answers(&port, &fake), here, "at once");
    port.set_reset_time(std::time::Duration::from_millis(80));
    flr(&port, &fake, at);
    assert_eq!(answers(&port, &fake).0, [0xff; 4]);
    assert!(!port.is_gone());
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while answers(&port, &fake) != here {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // Only that kind of reset.
    ask(&port, &fake, request(CMD_DEVICE_RESET, &[], vec![])).unwrap();
    assert_eq!(answers(&port, &fake), here);
}
