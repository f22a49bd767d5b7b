// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Everything that a driver has set up is there after a move, and works.

use dlr_core::{DataFunction, Delivery, FnState, WireRx};
use dlr_pci::PciFunction;

use super::tests::*;
use crate::{regs::*, testing::*, window};

const FRIEND: [u8; 6] = [2, 0, 0, 0, 0, 0x21];
const STRANGER: [u8; 6] = [2, 0, 0, 0, 0, 0x22];
const GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const OTHER_GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 2];

fn to(mac: [u8; 6]) -> Vec<u8> {
    let mut frame = frame(60);
    frame[..6].copy_from_slice(&mac);
    frame
}

fn tables(unicast: &[[u8; 6]], multicast: &[[u8; 6]]) -> Vec<u8> {
    let mut command = vec![CTRL_CLASS_MAC, CTRL_MAC_TABLE_SET];
    for list in [unicast, multicast] {
        command.extend_from_slice(&(list.len() as u32).to_le_bytes());
        command.extend_from_slice(list.as_flattened());
    }
    command
}

/// Moves the guest of `old` into a function of another NIC, stopped.
fn moved(old: &Rig) -> Rig {
    old.net.suspend(FnState::Stopped);
    let new = old.twin();
    new.net.suspend(FnState::Stopped);
    new.net.load(&old.net.save()).unwrap();
    new
}

/// All registers that a driver can read: both halves of the features, and each queue's.
fn registers(rig: &Rig) -> Vec<Vec<u8>> {
    let mut all = vec![
        rig.get::<0x38>(COMMON).to_vec(),
        rig.get::<12>(DEVICE).to_vec(),
    ];
    for queue in 0..=QUEUES as u16 {
        rig.net.shared.gate.lock().device.queue_select = queue;
        all.push(rig.get::<0x38>(COMMON).to_vec());
    }
    for half in 0..2 {
        let device = &mut rig.net.shared.gate.lock().device;
        (device.device_feature_select, device.driver_feature_select) = (half, half);
        let mut read = [0; 0x10];
        device.read(COMMON, &mut read, true);
        all.push(read.to_vec());
    }
    all
}

fn give_buffers(rig: &Rig) {
    for i in 0..8u16 {
        rig.give(
            RXQ,
            i,
            &[(BUFFERS + 0x2000 + 0x1000 * u64::from(i), 2048, true)],
        );
    }
}

#[test]
fn every_register_reads_the_same_afterwards() {
    let old = Rig::new();
    old.start(FEATURES);
    give_buffers(&old);
    assert_eq!(old.net.deliver(&frame(60)), Delivery::Accepted);
    for (register, value) in [(0x00, 1), (0x08, 1)] {
        old.put(COMMON + register, &u32::to_le_bytes(value));
    }
    old.put(COMMON + 0x10, &2u16.to_le_bytes());
    old.put(COMMON + 0x16, &1u16.to_le_bytes());
    // Vectors that are not the ones a reset leaves, each of them another one.
    for (queue, vector) in [(0u16, 3u16), (1, 0), (2, 1)] {
        old.put(COMMON + 0x16, &queue.to_le_bytes());
        old.put(COMMON + 0x1a, &vector.to_le_bytes());
    }
    let new = moved(&old);
    assert_eq!(registers(&new), registers(&old));
    assert_eq!(new.get::<1>(ISR), old.get::<1>(ISR));
    assert_ne!(new.get::<1>(ISR), [0]);
    // And the vectors are used.
    new.net.resume(FnState::Running);
    new.seen.interrupts.lock().unwrap().clear();
    new.poke(avail(RXQ) + 4 + 2 * u64::from(RING), &1u16.to_le_bytes());
    assert_eq!(new.net.deliver(&frame(60)), Delivery::Accepted);
    assert_eq!(*new.seen.interrupts.lock().unwrap(), [3]);
}

#[test]
fn what_the_guest_wants_to_receive_moves() {
    let old = Rig::started(PLAIN);
    give_buffers(&old);
    promiscuous(&old, 0, false);
    assert_eq!(command(&old, 2, &tables(&[FRIEND], &[GROUP])), CTRL_OK);
    let new = moved(&old);
    new.net.resume(FnState::Running);
    for (mac, expected) in [
        (FRIEND, Delivery::Accepted),
        (GROUP, Delivery::Accepted),
        (STRANGER, Delivery::Dropped),
        (OTHER_GROUP, Delivery::Dropped),
        (MAC, Delivery::Accepted),
    ] {
        assert_eq!(new.net.deliver(&to(mac)), expected, "{mac:x?}");
    }
    // All of a kind, by command and because the tables were too small.
    let all = [CTRL_CLASS_RX, CTRL_RX_ALLMULTI, 1];
    assert_eq!(command(&new, 4, &all), CTRL_OK);
    let newer = moved(&new);
    newer.net.resume(FnState::Running);
    assert_eq!(newer.net.deliver(&to(OTHER_GROUP)), Delivery::Accepted);
    assert_eq!(newer.net.deliver(&to(STRANGER)), Delivery::Dropped);
    let many = [STRANGER; crate::filter::TABLE + 1];
    assert_eq!(command(&newer, 6, &tables(&many, &[])), CTRL_OK);
    let newest = moved(&newer);
    newest.net.resume(FnState::Running);
    assert_eq!(
        newest.net.deliver(&to([2, 7, 7, 7, 7, 7])),
        Delivery::Accepted
    );
}

#[test]
fn a_promiscuous_guest_stays_so() {
    let old = Rig::started(PLAIN);
    give_buffers(&old);
    promiscuous(&old, 0, true);
    let new = moved(&old);
    // The new place's own setting is another one.
    new.net.resume(FnState::Running);
    assert_eq!(new.net.deliver(&to(STRANGER)), Delivery::Accepted);
    promiscuous(&new, 2, false);
    let newer = moved(&new);
    newer.net.resume(FnState::Running);
    assert_eq!(newer.net.deliver(&to(STRANGER)), Delivery::Dropped);
}

#[test]
fn interrupts_that_may_have_been_lost_are_raised_again() {
    let old = Rig::started(PLAIN);
    let new = moved(&old);
    new.net.resume(FnState::RunningP2p);
    assert!(new.seen.interrupts.lock().unwrap().is_empty());
    new.net.resume(FnState::Running);
    // Configuration, then each queue.
    assert_eq!(*new.seen.interrupts.lock().unwrap(), [0, 1, 2, 3]);
    // The same function after a stop: each queue.
    new.net.suspend(FnState::RunningP2p);
    new.seen.interrupts.lock().unwrap().clear();
    new.net.resume(FnState::Running);
    assert_eq!(*new.seen.interrupts.lock().unwrap(), [1, 2, 3]);
}

#[test]
fn another_link_at_the_new_place_is_told() {
    let old = Rig::started(PLAIN);
    old.net.suspend(FnState::Stopped);
    let image = old.net.save();
    for cable in [true, false] {
        let new = old.twin();
        new.net.set_link(cable);
        new.net.suspend(FnState::Stopped);
        new.net.load(&image).unwrap();
        assert_eq!(new.get::<2>(DEVICE + 6), [1, 0], "frozen");
        let [before] = new.get::<1>(COMMON + 0x15);
        assert_eq!([before], old.get::<1>(COMMON + 0x15));
        new.net.resume(FnState::Running);
        assert_eq!(new.get::<2>(DEVICE + 6), [cable.into(), 0]);
        let more = before.wrapping_add(u8::from(!cable));
        assert_eq!(new.get::<1>(COMMON + 0x15), [more]);
        assert_eq!(new.seen.interrupts.lock().unwrap()[0], 0);
    }
}

#[test]
fn no_interrupt_is_doubled_or_lost_with_event_indices() {
    let old = Rig::started(FEATURES);
    give_buffers(&old);
    // The driver has seen two, and wants to hear of the fourth.
    old.poke(avail(RXQ) + 4 + 2 * u64::from(RING), &3u16.to_le_bytes());
    for _ in 0..2 {
        assert_eq!(old.net.deliver(&frame(60)), Delivery::Accepted);
    }
    assert!(old.seen.interrupts.lock().unwrap().is_empty());
    let new = moved(&old);
    new.net.resume(FnState::Running);
    new.seen.interrupts.lock().unwrap().clear();
    assert_eq!(new.net.deliver(&frame(60)), Delivery::Accepted);
    assert!(
        new.seen.interrupts.lock().unwrap().is_empty(),
        "one too many"
    );
    assert_eq!(new.net.deliver(&frame(60)), Delivery::Accepted);
    assert_eq!(*new.seen.interrupts.lock().unwrap(), [1]);
    // An index that is behind what was signalled: a device that has forgotten how far it had come
    // takes it for one that lies ahead.
    new.seen.interrupts.lock().unwrap().clear();
    new.poke(avail(RXQ) + 4 + 2 * u64::from(RING), &1u16.to_le_bytes());
    let newer = moved(&new);
    newer.net.resume(FnState::Running);
    newer.seen.interrupts.lock().unwrap().clear();
    assert_eq!(newer.net.deliver(&frame(60)), Delivery::Accepted);
    assert!(newer.seen.interrupts.lock().unwrap().is_empty());
}

#[test]
fn receive_offloads_can_be_switched_and_move() {
    let first_byte = |rig: &Rig| {
        let n = rig.returned(RXQ).len() as u64;
        assert_eq!(rig.net.deliver(&datagram(true)), Delivery::Accepted);
        rig.peek(BUFFERS + 0x2000 + 0x1000 * n, 1)[0]
    };
    let set = |rig: &Rig, head, offloads: u64| {
        let bytes = offloads.to_le_bytes();
        let class = [CTRL_CLASS_GUEST_OFFLOADS, CTRL_GUEST_OFFLOADS_SET];
        command(rig, head, &[&class[..], &bytes].concat())
    };
    let old = Rig::started(PLAIN);
    give_buffers(&old);
    assert_eq!(first_byte(&old), HDR_F_DATA_VALID);
    // Of a frame that was damaged on its way the guest has to find out.
    let before = old.returned(RXQ).len() as u64;
    assert_eq!(old.net.deliver(&datagram(false)), Delivery::Accepted);
    assert_eq!(old.peek(BUFFERS + 0x2000 + 0x1000 * before, 1), [0]);
    // Attaching an XDP program switches them off.
    assert_eq!(set(&old, 0, 0), CTRL_OK);
    assert_eq!(first_byte(&old), 0);
    let new = moved(&old);
    new.net.resume(FnState::Running);
    assert_eq!(first_byte(&new), 0);
    assert_eq!(set(&new, 2, F_GUEST_CSUM), CTRL_OK);
    assert_eq!(first_byte(&new), HDR_F_DATA_VALID);
    // Only what was negotiated, and only where the command was.
    assert_eq!(set(&new, 4, 1 << 7), CTRL_ERR);
    let class = [CTRL_CLASS_GUEST_OFFLOADS, CTRL_GUEST_OFFLOADS_SET, 0];
    assert_eq!(command(&new, 6, &class), CTRL_ERR);
    let plain = Rig::started(PLAIN & !F_CTRL_GUEST_OFFLOADS);
    assert_eq!(set(&plain, 0, 0), CTRL_ERR);
    // A driver that comes later finds all of them on.
    assert_eq!(set(&new, 8, 0), CTRL_OK);
    new.poke(BASE, &vec![0; (BUFFERS - BASE) as usize]);
    new.start(PLAIN);
    give_buffers(&new);
    assert_eq!(first_byte(&new), HDR_F_DATA_VALID);
}

#[test]
fn configuration_space_has_a_window_to_the_registers() {
    let old = Rig::new();
    let cap = window::capability(&pci_config(1, 0)).expect("virtio 1.3, 4.1.4.9.1: a MUST");
    let look = |rig: &Rig, offset: u32, length: u32| {
        rig.net.config_write(cap + 4, &[BAR]);
        rig.net.config_write(cap + 8, &offset.to_le_bytes());
        rig.net.config_write(cap + 12, &length.to_le_bytes());
    };
    let read = |rig: &Rig, len: usize| {
        let mut data = vec![0xee; len];
        rig.net.config_read(cap + 16, &mut data);
        data
    };
    // As firmware does it: status, then the number of queues.
    look(&old, COMMON as u32 + 0x14, 1);
    old.net.config_write(cap + 16, &[3]);
    assert_eq!(old.status(), 3);
    assert_eq!(read(&old, 1), [3]);
    look(&old, COMMON as u32 + 0x12, 2);
    assert_eq!(read(&old, 2), [QUEUES as u8, 0]);
    look(&old, DEVICE as u32, 4);
    assert_eq!(read(&old, 4), MAC[..4]);
    // A window is state: it moves, and it is frozen meanwhile.
    let new = moved(&old);
    assert_eq!(read(&new, 4), MAC[..4]);
    look(&new, 0, 0);
    assert_eq!(read(&new, 4), MAC[..4]);
    new.net.resume(FnState::Running);
    look(&new, 0, 0);
    assert_eq!(read(&new, 4), [0; 4], "a window of no length shows nothing");
    PciFunction::reset(&*old.net, dlr_pci::ResetKind::FunctionLevel);
    assert_eq!(read(&old, 4), [0; 4]);
}
