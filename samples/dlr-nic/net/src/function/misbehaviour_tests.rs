// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Drivers that break the rules.

use dlr_core::{Delivery, WireRx};

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
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::NoBuffer);
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

#[test]
fn rings_that_are_unmapped_break_the_function() {
    let rig = Rig::started(PLAIN);
    rig.space.unmap(BASE, SIZE);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::NoBuffer);
    assert_ne!(rig.status() & STATUS_NEEDS_RESET, 0);
    assert_eq!(rig.stats()["dma_faults"], 1);
}
