// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Drivers that break the rules.

use dlr_core::{DataFunction, Delivery, FnState, WireRx};

use super::tests::*;
use crate::{regs::*, testing::*};

/// A driver that is up, and what it does wrong.
fn breaks(wrong: impl Fn(&Rig)) {
    let rig = Rig::started(PLAIN);
    let neighbour = Rig::started(PLAIN);
    wrong(&rig);
    rig.ring(TXQ);
    rig.ring(CTRLQ);
    eventually("NEEDS_RESET", || {
        rig.net.deliver(&frame(60));
        rig.status() & STATUS_NEEDS_RESET != 0
    });
    assert!(rig.seen.interrupts.lock().unwrap().contains(&0));
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Dropped);
    assert_eq!(neighbour.status(), 0x0f);
    // A reset helps.
    rig.poke(BASE, &vec![0; (BUFFERS - BASE) as usize]);
    rig.start(PLAIN);
    assert_eq!(rig.status(), 0x0f);
    rig.give(RXQ, 0, &[(BUFFERS, 2048, true)]);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Accepted);
}

#[test]
fn misbehaving_drivers_break_their_own_function() {
    // A loop.
    breaks(|rig| {
        rig.desc_at(desc(TXQ), 0, BUFFERS, 16, NEXT, 1);
        rig.desc_at(desc(TXQ), 1, BUFFERS, 16, NEXT, 0);
        rig.offer(TXQ, 0);
    });
    // A chain that leaves the table.
    breaks(|rig| {
        rig.desc_at(desc(RXQ), 0, BUFFERS, 16, NEXT | WRITE, RING);
        rig.offer(RXQ, 0);
    });
    // A head out of range.
    breaks(|rig| rig.offer(TXQ, 0x8000));
    // An index that jumps.
    breaks(|rig| rig.poke(avail(TXQ) + 2, &(RING + 1).to_le_bytes()));
    // Addresses that are not mapped: to read, to write, past the end of the space.
    breaks(|rig| rig.give(TXQ, 0, &[(0x6666_0000, 100, false)]));
    breaks(|rig| rig.give(RXQ, 0, &[(0x6666_0000, 2048, true)]));
    breaks(|rig| rig.give(RXQ, 0, &[(u64::MAX - 8, 2048, true)]));
    breaks(|rig| rig.give(TXQ, 0, &[(BASE + SIZE - 8, 100, false)]));
    // An indirect table with more descriptors than the queue has.
    breaks(|rig| {
        for i in 0..=RING {
            let next = if i < RING { NEXT } else { 0 };
            rig.desc_at(BUFFERS, i, BUFFERS + 0x2000, 8, next, i + 1);
        }
        let len = 16 * (u32::from(RING) + 1);
        rig.desc_at(desc(TXQ), 0, BUFFERS, len, INDIRECT, 0);
        rig.offer(TXQ, 0);
    });
    // Directions.
    breaks(|rig| rig.give(TXQ, 0, &[(BUFFERS, 100, false), (BUFFERS, 100, true)]));
    breaks(|rig| rig.give(RXQ, 0, &[(BUFFERS, 2048, false)]));
    breaks(|rig| rig.give(CTRLQ, 0, &[(BUFFERS, 2, true), (BUFFERS, 8, false)]));
    // Receive buffers of no length.
    breaks(|rig| rig.give(RXQ, 0, &[(BUFFERS, 0, true)]));
    // Indirect tables: of odd length, nested, not mapped, empty.
    for (addr, len) in [
        (BUFFERS, 17),
        (BUFFERS, 16),
        (0x6666_0000, 32),
        (BUFFERS, 0),
    ] {
        breaks(|rig| {
            rig.desc_at(BUFFERS, 0, BUFFERS + 0x100, 16, INDIRECT, 0);
            rig.desc_at(desc(TXQ), 0, addr, len, INDIRECT, 0);
            rig.offer(TXQ, 0);
        });
    }
}

/// Sixteen frames of 65 KB, far more than one hold of the gate may move.
#[test]
fn one_hold_of_the_gate_moves_only_so_much() {
    let rig = Rig::started(PLAIN);
    rig.net.suspend(FnState::RunningP2p);
    for head in 0..RING {
        rig.desc_at(desc(TXQ), head, BUFFERS, 65_000, 0, 0);
        rig.offer(TXQ, head);
    }
    let mut gated = rig.net.shared.gate.lock();
    let memory = rig.space.lock();
    let mut moved = Vec::new();
    loop {
        let (frames, more) = gated.device.transmit(&memory);
        moved.push(frames.iter().map(Vec::len).sum::<usize>());
        if !more {
            break;
        }
    }
    assert!(
        moved.iter().all(|bytes| *bytes < 2 * crate::chain::BUDGET),
        "{moved:?}"
    );
    assert_eq!(moved.iter().sum::<usize>(), 16 * (65_000 - HDR_LEN));
}

/// Entries of the longer queue of [`fragments`].
const LONG: u16 = 64;

/// Fills `queue` with [`LONG`] chains of as many descriptors each, in indirect tables: `long(i)` bytes in
/// the i-th of a table. The queue is as long as that.
fn fragments(rig: &Rig, queue: u16, flags: u16, long: impl Fn(u16) -> u32) {
    {
        let queue = &mut rig.net.shared.gate.lock().device.queues[usize::from(queue)];
        queue.size = LONG;
        queue.ring = Some(queue.build(false).unwrap());
    }
    for head in 0..LONG {
        let table = BUFFERS + 0x1_0000 + 0x400 * u64::from(head);
        for i in 0..LONG {
            let next = if i + 1 < LONG { NEXT } else { 0 };
            rig.desc_at(table, i, BUFFERS, long(i), flags | next, i + 1);
        }
        let bytes = 16 * u32::from(LONG);
        rig.desc_at(desc(queue), head, table, bytes, INDIRECT, 0);
        rig.poke(avail(queue) + 4 + 2 * u64::from(head), &head.to_le_bytes());
    }
    rig.poke(avail(queue) + 2, &LONG.to_le_bytes());
}

/// Receive buffers in pieces of one byte.
#[test]
fn a_frame_takes_only_so_many_pieces() {
    let rig = Rig::started(PLAIN);
    fragments(&rig, RXQ, WRITE, |_| 1);
    assert_eq!(rig.net.deliver(&frame(1400)), Delivery::Dropped);
    assert_eq!(rig.stats()["rx_too_long"], 1);
    // The buffers are the guest's still.
    assert_eq!(rig.net.deliver(&frame(400)), Delivery::Accepted);
    assert_eq!(rig.returned(RXQ)[0], (0, 64));
}

/// Descriptors without a length cost the device as much as others.
#[test]
fn empty_pieces_are_pieces() {
    let rig = Rig::started(PLAIN);
    fragments(&rig, RXQ, WRITE, |i| if i == 0 { 2 } else { 0 });
    // 36 buffers of two bytes, 2304 descriptors.
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Dropped);
    assert_eq!(rig.stats()["rx_too_long"], 1);

    let rig = Rig::started(PLAIN);
    rig.net.suspend(FnState::RunningP2p);
    fragments(&rig, TXQ, 0, |i| if i == 0 { 72 } else { 0 });
    let mut gated = rig.net.shared.gate.lock();
    let memory = rig.space.lock();
    let mut moved = Vec::new();
    loop {
        let (frames, more) = gated.device.transmit(&memory);
        moved.push(frames.len());
        if !more {
            break;
        }
    }
    // Eight chains of 64 descriptors under one hold of the gate.
    assert!(moved.iter().all(|frames| *frames <= 8), "{moved:?}");
    assert_eq!(moved.iter().sum::<usize>(), 64);
}

#[test]
fn rings_that_are_unmapped_break_the_function() {
    let rig = Rig::started(PLAIN);
    rig.space.unmap(BASE, SIZE);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Dropped);
    assert_ne!(rig.status() & STATUS_NEEDS_RESET, 0);
    assert_eq!(rig.stats()["dma_faults"], 1);
}
