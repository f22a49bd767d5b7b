// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Switches that break a rule in the function itself.

use dlr_core::{DataFunction, Delivery, FnState, Purpose, SabotageKind, WireRx};

use super::tests::*;
use crate::{regs::*, testing::*};

/// What a sabotaged log tells apart.
#[test]
fn writes_say_what_they_are_for() {
    let rig = Rig::started(FEATURES);
    rig.give(RXQ, 0, &[(BUFFERS, 2048, true)]);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Accepted);
    let set = [CTRL_CLASS_MAC, CTRL_MAC_ADDR_SET, 2, 0, 0, 0, 0, 9];
    assert_eq!(command(&rig, 0, &set), CTRL_OK);
    eventually("a wish for a doorbell", || {
        rig.seen.purposes.lock().unwrap().contains(&Purpose::Event)
    });
    let dirty = rig.seen.dirty.lock().unwrap().clone();
    let purposes = rig.seen.purposes.lock().unwrap().clone();
    let of = |from: u64, to: u64| {
        let inside = dirty.iter().zip(&purposes);
        let inside = inside.filter(move |(w, _)| (from..to).contains(&w.0));
        inside.map(|(_, purpose)| *purpose).collect::<Vec<_>>()
    };
    assert_eq!(of(BUFFERS, BUFFERS + 2048), [Purpose::Data]);
    let ring = used(RXQ);
    let element = ring + 4 + 8 * u64::from(RING);
    assert!(of(ring, element).iter().all(|p| *p == Purpose::UsedRing));
    assert_eq!(of(ring, element).len(), 2, "an element and the index");
    for queue in 0..QUEUES as u16 {
        let event = used(queue) + 4 + 8 * u64::from(RING);
        assert!(of(event, event + 2).iter().all(|p| *p == Purpose::Event));
    }
    assert!(purposes.contains(&Purpose::Control));
    assert_eq!(Purpose::now(), Purpose::Data);
}

#[test]
fn a_stale_image_passes_every_check() {
    let old = Rig::started(PLAIN);
    for i in 0..8u16 {
        old.give(RXQ, i, &[(BUFFERS + 0x1000 * u64::from(i), 2048, true)]);
    }
    for _ in 0..4 {
        assert_eq!(old.net.deliver(&frame(100)), Delivery::Accepted);
    }
    old.net.suspend(FnState::Stopped);
    let right = old.net.save();
    old.sabotage.set(SabotageKind::StateStale, 2);
    let stale = old.net.save();
    old.sabotage.set(SabotageKind::StateStale, 0);
    assert_ne!(stale, right);
    assert_eq!(old.net.save(), right, "the function itself is unharmed");
    let new = old.twin();
    new.net.suspend(FnState::Stopped);
    new.net.load(&stale).unwrap();
    new.net.resume(FnState::Running);
    // The guest got this buffer back long ago.
    new.poke(BUFFERS + 0x2000, &[0; 200]);
    assert_eq!(new.net.deliver(&frame(90)), Delivery::Accepted);
    assert_ne!(new.peek(BUFFERS + 0x2000, 200), [0; 200]);
}

#[test]
fn a_stray_write_lands_at_the_resume() {
    let rig = Rig::started(PLAIN);
    let at = BUFFERS + 0x4000;
    rig.sabotage.set(SabotageKind::StrayWrite, at);
    rig.net.suspend(FnState::Stopped);
    rig.net.resume(FnState::RunningP2p);
    assert_eq!(rig.peek(at, 4096), [0; 4096], "no DMA in RUNNING_P2P");
    rig.net.resume(FnState::Running);
    assert_eq!(rig.peek(at, 4096), [0x5a; 4096]);
    assert_eq!(rig.peek(at + 4096, 16), [0; 16]);
    // Nothing is mapped there.
    rig.sabotage.set(SabotageKind::StrayWrite, 0x10);
    rig.net.suspend(FnState::Stopped);
    rig.net.resume(FnState::Running);
}
