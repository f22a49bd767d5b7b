// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Work that waits for room in the dirty log (rule 6).

use std::time::{Duration, Instant};

use dlr_core::{DataFunction, Delivery, FnState, WireRx};

use super::tests::*;
use crate::testing::*;

fn hold(rig: &Rig, until: Option<Duration>) {
    *rig.seen.hold.lock().unwrap() = until.map(|ms| Instant::now() + ms);
}

/// A rig whose engine has done what the start of the driver asks of it: it looks whether there is
/// work before it asks for room, and must not find what a test queues a moment later.
fn started() -> Rig {
    let rig = Rig::started(PLAIN);
    // It tells the driver to keep quiet, under the gate.
    eventually("the engine", || rig.peek(used(RXQ), 2) == [1, 0]);
    drop(rig.net.shared.gate.lock());
    rig
}

fn asked(rig: &Rig) -> usize {
    rig.seen.asked.lock().unwrap().len()
}

#[test]
fn held_work_is_not_begun_and_leaves_the_gate_open() {
    let rig = started();
    rig.give(RXQ, 0, &[(BUFFERS, 2048, true)]);
    hold(&rig, Some(Duration::from_secs(60)));
    rig.seen.dirty.lock().unwrap().clear();
    send(&rig, 0, &frame(60));
    rig.ring(TXQ);
    eventually("the question", || asked(&rig) > 0);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::NoBuffer);
    assert_eq!(rig.stats()["rx_held"], 1);
    // POSTED and SYNC do not wait for it, nor does a suspension.
    let begin = Instant::now();
    let mut ran = false;
    rig.net.quiesced(&mut || ran = true);
    rig.net.suspend(FnState::Stopped);
    assert!(ran && begin.elapsed() < Duration::from_secs(10));
    assert!(rig.seen.dirty.lock().unwrap().is_empty());
    assert!(rig.returned(TXQ).is_empty() && rig.returned(RXQ).is_empty());
    // Nothing is forgotten over it.
    hold(&rig, None);
    rig.net.resume(FnState::Running);
    eventually("the frame", || rig.seen.sent.lock().unwrap().len() == 1);
    assert_eq!(rig.net.deliver(&frame(60)), Delivery::Accepted);
}

#[test]
fn it_goes_on_when_there_is_room() {
    let rig = started();
    hold(&rig, Some(Duration::from_secs(60)));
    send(&rig, 0, &frame(60));
    rig.ring(TXQ);
    eventually("the question", || asked(&rig) > 0);
    hold(&rig, None);
    std::thread::sleep(Duration::from_millis(30));
    assert!(rig.seen.sent.lock().unwrap().is_empty());
    rig.net.room();
    eventually("the frame", || rig.seen.sent.lock().unwrap().len() == 1);
}

#[test]
fn it_asks_again_when_the_time_is_up() {
    let rig = started();
    let begin = Instant::now();
    hold(&rig, Some(Duration::from_millis(60)));
    send(&rig, 0, &frame(60));
    rig.ring(TXQ);
    eventually("the question", || asked(&rig) > 0);
    hold(&rig, None);
    eventually("the frame", || rig.seen.sent.lock().unwrap().len() == 1);
    assert!(begin.elapsed() >= Duration::from_millis(60));
}

#[test]
fn only_who_has_work_asks() {
    let rig = started();
    rig.net.shared.gate.lock().device.filter.promiscuous = false;
    rig.ring(TXQ);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(asked(&rig), 0);
    let mut other = frame(60);
    other[..6].copy_from_slice(&[2, 1, 1, 1, 1, 1]);
    rig.net.deliver(&other);
    assert_eq!(asked(&rig), 0, "a frame for another guest");
    // A large frame needs more room than a small one.
    rig.net.deliver(&frame(60));
    rig.net.deliver(&frame(9000));
    let asked = rig.seen.asked.lock().unwrap().clone();
    assert!(asked.len() == 2 && asked[0] < asked[1], "{asked:?}");
}
