// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::sync::atomic::Ordering;

use dlr_core::{DataFunction, Delivery, FnState, WireRx};
use dlr_pci::{PciFunction, ResetKind};

use crate::{regs::*, testing::*};

pub(super) const RXQ: u16 = RX as u16;
pub(super) const TXQ: u16 = TX as u16;
pub(super) const CTRLQ: u16 = CTRL as u16;

#[test]
fn frames_lie_where_descriptors_say() {
    let rig = Rig::started(PLAIN);
    rig.give(
        RXQ,
        3,
        &[(BUFFERS + 0xff0, 20, true), (BUFFERS + 0x3000, 200, true)],
    );
    rig.seen.dirty.lock().unwrap().clear();
    let sent = frame(100);
    assert_eq!(rig.net.deliver(&sent), Delivery::Accepted);
    let header = rig.peek(BUFFERS + 0xff0, HDR_LEN);
    assert_eq!(header, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(rig.peek(BUFFERS + 0xff0 + 12, 8), sent[..8]);
    assert_eq!(rig.peek(BUFFERS + 0x3000, 92), sent[8..]);
    assert_eq!(rig.returned(RXQ), [(3, 112)]);
    // The device's thread may write the used ring's flags beside this, at any time.
    let mut told: Vec<_> = rig.seen.dirty.lock().unwrap().clone();
    told.retain(|d| *d != (used(RXQ), 2));
    assert_eq!(
        told,
        [
            (BUFFERS + 0xff0, 20),
            (BUFFERS + 0x3000, 92),
            (used(RXQ) + 4, 8),
            (used(RXQ) + 2, 2)
        ]
    );
    assert_eq!(*rig.seen.interrupts.lock().unwrap(), [1]);
    assert_eq!(rig.seen.flows.load(Ordering::SeqCst), 1);
}

#[test]
fn large_frames_take_several_buffers_at_once() {
    let rig = Rig::started(PLAIN);
    for i in 0..3u16 {
        rig.give(RXQ, i, &[(BUFFERS + 0x1000 * u64::from(i), 512, true)]);
    }
    let sent = frame(1400);
    assert_eq!(rig.net.deliver(&sent), Delivery::Accepted);
    assert_eq!(rig.peek(BUFFERS + 10, 2), [3, 0]);
    assert_eq!(rig.peek(BUFFERS + 12, 500), sent[..500]);
    assert_eq!(rig.peek(BUFFERS + 0x1000, 512), sent[500..1012]);
    assert_eq!(rig.peek(BUFFERS + 0x2000, 388), sent[1012..]);
    assert_eq!(rig.returned(RXQ), [(0, 512), (1, 512), (2, 388)]);
    // The index moves once: a driver never sees a part of a frame.
    let moves = rig
        .seen
        .dirty
        .lock()
        .unwrap()
        .iter()
        .filter(|d| d.0 == used(RXQ) + 2)
        .count();
    assert_eq!(moves, 1);
}

#[test]
fn too_few_buffers_stay_the_guests() {
    let rig = Rig::started(PLAIN);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::NoBuffer);
    rig.give(RXQ, 5, &[(BUFFERS, 512, true)]);
    assert_eq!(rig.net.deliver(&frame(1400)), Delivery::NoBuffer);
    assert_eq!(rig.returned(RXQ), []);
    for i in 6..9u16 {
        rig.give(RXQ, i, &[(BUFFERS + 0x1000 * u64::from(i), 512, true)]);
    }
    assert_eq!(rig.net.deliver(&frame(1400)), Delivery::Accepted);
    assert_eq!(rig.returned(RXQ), [(5, 512), (6, 512), (7, 388)]);
    // Without mergeable buffers a frame that does not fit is lost, its buffer is not.
    let rig = Rig::started(PLAIN & !F_MRG_RXBUF);
    rig.give(RXQ, 0, &[(BUFFERS, 512, true)]);
    assert_eq!(rig.net.deliver(&frame(1400)), Delivery::Dropped);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Accepted);
    assert_eq!(rig.returned(RXQ), [(0, 72)]);
}

#[test]
fn filter_and_link() {
    let rig = Rig::started(PLAIN);
    rig.give(RXQ, 0, &[(BUFFERS + 0x2000, 2048, true)]);
    promiscuous(&rig, 0, false);
    rig.seen.interrupts.lock().unwrap().clear();
    let mut foreign = frame(60);
    foreign[5] ^= 1;
    assert_eq!(rig.net.deliver(&foreign), Delivery::Dropped);
    assert_eq!(rig.net.deliver(&[0xff; 13]), Delivery::Dropped);
    let [before] = rig.get::<1>(COMMON + 0x15);
    rig.net.set_link(false);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Dropped);
    assert_eq!(rig.get::<2>(DEVICE + 6), [0, 0]);
    rig.net.set_link(true);
    assert_eq!(*rig.seen.interrupts.lock().unwrap(), [0, 0]);
    assert_eq!(rig.get::<1>(COMMON + 0x15), [before.wrapping_add(2)]);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Accepted);
}

/// Queues a frame for sending.
pub(super) fn send(rig: &Rig, head: u16, frame: &[u8]) {
    let at = BUFFERS + 0x8_0000 + 0x1000 * u64::from(head);
    rig.poke(at, &[0; HDR_LEN]);
    rig.poke(at + HDR_LEN as u64, frame);
    rig.give(
        TXQ,
        head,
        &[
            (at, HDR_LEN as u32, false),
            (at + HDR_LEN as u64, frame.len() as u32, false),
        ],
    );
}

#[test]
fn guest_sends() {
    for features in [PLAIN, FEATURES] {
        let rig = Rig::started(features);
        for i in 0..5 {
            send(&rig, 2 * i, &frame(60 + usize::from(i)));
        }
        rig.ring(TXQ);
        eventually("five frames", || rig.seen.sent.lock().unwrap().len() == 5);
        let sent = rig.seen.sent.lock().unwrap().clone();
        assert!(sent.iter().zip(60..).all(|(got, len)| *got == frame(len)));
        eventually("five buffers", || rig.returned(TXQ).len() == 5);
        // And the next one after the queue ran dry.
        send(&rig, 10, &frame(99));
        rig.ring(TXQ);
        eventually("one more", || rig.seen.sent.lock().unwrap().len() == 6);
    }
}

#[test]
fn guest_sends_indirect_with_checksum() {
    let rig = Rig::started(PLAIN);
    let table = BUFFERS + 0x4000;
    let mut header = [0; HDR_LEN];
    header[0] = HDR_F_NEEDS_CSUM;
    header[6] = 34;
    header[8] = 6;
    rig.poke(BUFFERS, &header);
    rig.poke(BUFFERS + 0x100, &frame(60));
    rig.desc_at(table, 0, BUFFERS, 12, NEXT, 1);
    rig.desc_at(table, 1, BUFFERS + 0x100, 60, 0, 0);
    rig.desc_at(desc(TXQ), 4, table, 32, INDIRECT, 0);
    rig.offer(TXQ, 4);
    rig.ring(TXQ);
    eventually("a frame", || rig.seen.sent.lock().unwrap().len() == 1);
    let sent = rig.seen.sent.lock().unwrap()[0].clone();
    assert_eq!(sent[..40], frame(60)[..40]);
    assert_ne!(sent[40..42], frame(60)[40..42]);
}

pub(super) fn command(rig: &Rig, head: u16, bytes: &[u8]) -> u8 {
    rig.poke(BUFFERS, bytes);
    rig.poke(BUFFERS + 0x1000, &[0xee]);
    let done = rig.returned(CTRLQ).len();
    rig.give(
        CTRLQ,
        head,
        &[
            (BUFFERS, bytes.len() as u32, false),
            (BUFFERS + 0x1000, 1, true),
        ],
    );
    rig.ring(CTRLQ);
    eventually("a command", || rig.returned(CTRLQ).len() == done + 1);
    rig.peek(BUFFERS + 0x1000, 1)[0]
}

/// Whether the guest wants all frames.
pub(super) fn promiscuous(rig: &Rig, head: u16, on: bool) {
    let mode = [CTRL_CLASS_RX, CTRL_RX_PROMISC, on.into()];
    assert_eq!(command(rig, head, &mode), CTRL_OK);
}

#[test]
fn control_queue() {
    let rig = Rig::started(PLAIN);
    rig.give(RXQ, 0, &[(BUFFERS + 0x2000, 2048, true)]);
    rig.give(RXQ, 1, &[(BUFFERS + 0x3000, 2048, true)]);
    promiscuous(&rig, 12, false);
    let other = [2, 0, 0, 0, 0, 0x77];
    let mut to_other = frame(60);
    to_other[..6].copy_from_slice(&other);
    assert_eq!(rig.net.deliver(&to_other), Delivery::Dropped);
    assert_eq!(
        command(&rig, 0, &[CTRL_CLASS_RX, CTRL_RX_PROMISC, 1]),
        CTRL_OK
    );
    assert_eq!(rig.net.deliver(&to_other), Delivery::Accepted);
    assert_eq!(
        command(&rig, 2, &[CTRL_CLASS_RX, CTRL_RX_PROMISC, 0]),
        CTRL_OK
    );
    assert_eq!(rig.net.deliver(&to_other), Delivery::Dropped);
    let set = [&[CTRL_CLASS_MAC, CTRL_MAC_ADDR_SET][..], &other].concat();
    assert_eq!(command(&rig, 4, &set), CTRL_OK);
    assert_eq!(rig.get::<6>(DEVICE), other);
    assert_eq!(rig.net.deliver(&to_other), Delivery::Accepted);
    for bad in [
        &[9, 9][..],
        &[0],
        &[CTRL_CLASS_RX, 0, 2],
        &set[..5],
        &[1, 0, 1, 0, 0, 0],
    ] {
        assert_eq!(command(&rig, 6, bad), CTRL_ERR, "{bad:?}");
    }
    assert_eq!(rig.status() & STATUS_NEEDS_RESET, 0);
}

#[test]
fn resets_of_all_kinds() {
    let rig = Rig::started(PLAIN);
    rig.net.suspend(FnState::Stopped);
    rig.net.bus_master(false);
    let before = rig.stats()["resets"].as_u64().unwrap();
    PciFunction::reset(&*rig.net, ResetKind::FunctionLevel);
    assert_eq!(rig.stats()["resets"], before + 1, "one reset counts once");
    assert_eq!(rig.net.state(), FnState::Running);
    assert_eq!(rig.seen.resets.load(Ordering::SeqCst), 1);
    assert_eq!(rig.status(), 0);
    rig.net.bus_master(true);
    rig.start(PLAIN);
    let told = rig.seen.reconfigured.load(Ordering::SeqCst);
    rig.put(COMMON + 0x14, &[0]);
    assert_eq!(rig.seen.reconfigured.load(Ordering::SeqCst), told + 1);
    assert_eq!(rig.status(), 0);
    // The management function's reset leaves the state alone.
    rig.net.suspend(FnState::Stopped);
    DataFunction::reset(&*rig.net);
    assert_eq!(rig.net.state(), FnState::Stopped);
}

#[test]
fn a_function_without_a_driver_keeps_no_frame_waiting() {
    let rig = Rig::new();
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Dropped);
    rig.start(PLAIN);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::NoBuffer);
    rig.put(COMMON + 0x14, &[0]);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Dropped);
    let stats = rig.stats();
    assert_eq!(
        (&stats["rx_no_driver"], &stats["rx_no_buffer"]),
        (&2.into(), &1.into())
    );
}

#[test]
fn no_bus_master_no_dma() {
    let rig = Rig::started(PLAIN);
    rig.give(RXQ, 0, &[(BUFFERS, 2048, true)]);
    rig.net.bus_master(false);
    send(&rig, 0, &frame(60));
    rig.ring(TXQ);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Dropped);
    rig.net.bus_master(true);
    eventually("the frame", || rig.seen.sent.lock().unwrap().len() == 1);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Accepted);
}

#[test]
fn event_index_spares_interrupts() {
    let rig = Rig::started(FEATURES);
    for i in 0..8u16 {
        rig.give(RXQ, i, &[(BUFFERS + 0x1000 * u64::from(i), 2048, true)]);
    }
    // The driver wants to hear of the third one.
    rig.poke(avail(RXQ) + 4 + 2 * u64::from(RING), &2u16.to_le_bytes());
    for _ in 0..5 {
        assert_eq!(rig.net.deliver(&frame(60)), Delivery::Accepted);
    }
    assert_eq!(*rig.seen.interrupts.lock().unwrap(), [1]);
    // Without event indices there is a flag.
    let rig = Rig::started(PLAIN);
    rig.give(RXQ, 0, &[(BUFFERS, 2048, true)]);
    rig.poke(avail(RXQ), &1u16.to_le_bytes());
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Accepted);
    assert!(rig.seen.interrupts.lock().unwrap().is_empty());
}
