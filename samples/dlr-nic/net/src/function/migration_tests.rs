// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Suspension, state and the dirty log.

use std::sync::Arc;

use dlr_core::{DataFunction, Delivery, FnState, SabotageKind, WireRx};

use super::tests::*;
use crate::{regs::*, testing::*};

#[test]
fn suspension_forgets_nothing() {
    let rig = Rig::started(PLAIN);
    rig.give(RXQ, 0, &[(BUFFERS, 2048, true)]);
    rig.net.suspend(FnState::RunningP2p);
    assert_eq!(rig.net.state(), FnState::RunningP2p);
    rig.seen.dirty.lock().unwrap().clear();
    send(&rig, 0, &frame(60));
    rig.ring(TXQ);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Dropped);
    rig.net.suspend(FnState::Stopped);
    // The internal state stands still.
    let before = rig.net.save();
    rig.put(COMMON + 0x16, &2u16.to_le_bytes());
    rig.put(COMMON + 0x14, &[0]);
    rig.get::<1>(ISR);
    assert_eq!(rig.net.save(), before);
    assert_eq!(rig.status(), 0x0f);
    assert!(rig.seen.sent.lock().unwrap().is_empty());
    assert!(rig.seen.dirty.lock().unwrap().is_empty());
    rig.net.resume(FnState::RunningP2p);
    assert!(rig.seen.interrupts.lock().unwrap().is_empty());
    rig.net.resume(FnState::Running);
    eventually("the frame", || rig.seen.sent.lock().unwrap().len() == 1);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Accepted);
}

#[test]
fn a_guest_moves_to_another_function() {
    for features in [PLAIN, FEATURES] {
        let old = Rig::started(features);
        for i in 0..8u16 {
            old.give(RXQ, i, &[(BUFFERS + 0x1000 * u64::from(i), 2048, true)]);
        }
        send(&old, 0, &frame(70));
        old.ring(TXQ);
        eventually("a frame", || old.returned(TXQ).len() == 1);
        assert_eq!(old.net.deliver(&frame(100)), Delivery::Accepted);
        let set = [CTRL_CLASS_MAC, CTRL_MAC_ADDR_SET, 2, 0, 0, 0, 0, 9];
        assert_eq!(command(&old, 0, &set), CTRL_OK);
        old.net.suspend(FnState::Stopped);
        let image = old.net.save();

        let new = old.twin();
        new.net.suspend(FnState::Stopped);
        new.net.load(&image).unwrap();
        assert_eq!(new.net.save(), image);
        send(&new, 2, &frame(71));
        new.net.resume(FnState::Running);
        eventually("a frame from the new place", || {
            new.seen.sent.lock().unwrap().ends_with(&[frame(71)])
        });
        assert_eq!(new.net.deliver(&frame(101)), Delivery::Accepted);
        assert_eq!(new.returned(RXQ), [(0, 112), (1, 113)]);
        assert_eq!(new.peek(BUFFERS + 0x1000 + 12, 101), frame(101));
    }
}

#[test]
fn quiesced_excludes_dma() {
    let rig = Arc::new(Rig::started(PLAIN));
    for i in 0..8u16 {
        rig.give(RXQ, i, &[(BUFFERS + 0x1000 * u64::from(i), 2048, true)]);
    }
    let other = Arc::clone(&rig);
    let mut worker = None;
    rig.net.quiesced(&mut || {
        let other = Arc::clone(&other);
        worker = Some(std::thread::spawn(move || other.net.deliver(&frame(60))));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(rig.returned(RXQ).is_empty());
    });
    assert_eq!(worker.unwrap().join().unwrap(), Delivery::Accepted);
}

#[test]
fn sabotaged_suspension_writes_late_and_unlogged() {
    let rig = Rig::started(PLAIN);
    for i in 0..3u16 {
        rig.give(RXQ, i, &[(BUFFERS + 0x1000 * u64::from(i), 2048, true)]);
    }
    rig.sabotage.set(SabotageKind::SuspendEarly, 200);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Accepted);
    rig.seen.dirty.lock().unwrap().clear();
    rig.net.suspend(FnState::Stopped);
    assert_eq!(rig.returned(RXQ).len(), 1);
    // The state says that two were delivered.
    let twin = rig.twin();
    twin.net.suspend(FnState::Stopped);
    twin.net.load(&rig.net.save()).unwrap();
    assert_eq!(
        twin.net.shared.gate.lock().device.queues[RX]
            .ring
            .as_ref()
            .unwrap()
            .state()
            .next_used,
        2
    );
    eventually("the late write", || rig.returned(RXQ).len() == 2);
    assert_eq!(rig.peek(BUFFERS + 0x1000 + 12, 60), frame(60));
    assert!(rig.seen.dirty.lock().unwrap().is_empty());
    // A buffer is kept back for it.
    rig.net.resume(FnState::Running);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::NoBuffer);
}
