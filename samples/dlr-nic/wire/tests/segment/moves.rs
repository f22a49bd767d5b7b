// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A guest that moves, to another function or another NIC.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use dlr_wire::Wire;
use serde_json::json;

use crate::bench::{
    announcement, arp_request, from_neighbour, linked, udp, wire, Function, GUEST_MAC,
};

#[test]
fn a_stream_follows_a_guest_that_moves() {
    let (wire, [before, after]) = wire("peer");
    follow(&wire, &wire, 1, &before, &after);
}

#[test]
fn a_stream_follows_a_guest_to_another_nic() {
    let path = std::env::temp_dir().join(format!("dlr-trunk-{}.sock", std::process::id()));
    let (a, [before, _]) = wire(&format!("peer+link:{}", path.display()));
    let (b, [after, _]) = wire(&format!("link:{}", path.display()));
    after.running.store(false, Ordering::SeqCst);
    let end = Instant::now() + Duration::from_secs(5);
    while a.stats()["backend"]["link"]["up"] != true {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    follow(&a, &b, 0, &before, &after);

    // What is broadcast over there is answered from here.
    let answers = after.frames.lock().unwrap().len();
    b.tx(0).send(&arp_request());
    after.wait(answers + 1);
    std::fs::remove_file(path).unwrap();
}

/// A guest moves from one function to another while a stream of `wire` runs to it; `then` is what
/// it is plugged into afterwards, and where. The guest itself is silent.
fn follow(wire: &Wire, then: &Wire, port: usize, before: &Function, after: &Function) {
    wire.tx(0).send(&arp_request());
    let start = json!({"cmd": "start", "stream": 1, "dst": "10.9.0.2", "port": 5000, "size": 2000,
        "pps": 500, "patience_ms": 20});
    assert_eq!(wire.control(start)["ok"], true);
    before.wait(20);
    before.running.store(false, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(300));
    // Another guest may start there, and it has no buffers yet.
    before.starting.store(true, Ordering::SeqCst);
    after.running.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(50));
    assert!(
        after.frames.lock().unwrap().is_empty(),
        "found without being announced"
    );
    then.tx(port).send(&announcement());
    after.wait(20);
    then.tx(port).send(&udp(9, &[0; 24]));
    assert_eq!(
        wire.control(json!({"cmd": "stop", "stream": 1}))["ok"],
        true
    );

    let stream = wire.stats()["backend"]["streams"][0].clone();
    let all = [
        before.frames.lock().unwrap().clone(),
        after.frames.lock().unwrap().clone(),
    ]
    .concat();
    let mut tracker = dlr_traffic::Tracker::default();
    for frame in all.iter().filter(|f| f[12..14] == [8, 0]) {
        tracker.enter(&dlr_traffic::verify(&frame[42..]));
    }
    let report = tracker.report();
    assert_eq!(
        (report.corrupt, report.duplicates, report.reordered),
        (0, 0, 0)
    );
    assert_eq!(stream["accepted"], report.received);
    assert_eq!(stream["lost"], report.missing);
    assert!(report.missing > 0 && report.gaps.len() == 1);
    assert_eq!(stream["losses"][0]["first"], report.gaps[0].first);
    assert_eq!(stream["losses"][0]["last"], report.gaps[0].last);
    let end = Instant::now() + Duration::from_secs(5);
    while wire.stats()["backend"]["sinks"]["unknown"] != 1 {
        assert!(Instant::now() < end, "{}", wire.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_neighbour_finds_a_guest_that_moved_to_another_nic() {
    let path = std::env::temp_dir().join(format!("dlr-moved-{}.sock", std::process::id()));
    let config = format!("link:{}", path.display());
    let ((a, _), (b, [there, _])) = (wire(&config), wire(&config));
    let end = Instant::now() + Duration::from_secs(5);
    while a.stats()["backend"]["up"] != true || b.stats()["backend"]["up"] != true {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    // Seen at the first port of the one NIC, then from the other.
    a.tx(0).send(&arp_request());
    there.wait(1);
    b.tx(0).send(&arp_request());
    let before = there.frames.lock().unwrap().len();
    while a.stats()["backend"]["received"] == 0 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut frame = [GUEST_MAC, [2, 0, 0, 0, 0, 6]].concat();
    frame.resize(60, 0);
    a.tx(1).send(&frame);
    assert_eq!(there.wait(before + 1)[before], frame);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_silent_guest_that_moved_is_found_by_all_at_once() {
    let (wire, [before, after]) = wire("none");
    // It was heard at the first port. A neighbour that it never heard of sends from the third.
    wire.tx(0).send(&arp_request());
    wire.tx(2).send(&from_neighbour());
    before.wait(1);
    before.running.store(false, Ordering::SeqCst);
    after.running.store(true, Ordering::SeqCst);
    wire.tx(1).send(&announcement());
    wire.tx(2).send(&from_neighbour());
    after.wait(1);
    assert_eq!(before.frames.lock().unwrap().len(), 1);
}

#[test]
fn a_silent_guest_that_moved_to_the_other_host_is_found_from_both() {
    let path = std::env::temp_dir().join(format!("dlr-silent-{}.sock", std::process::id()));
    let config = format!("link:{}", path.display());
    let ((a, [here, _]), (b, [there, _])) = (wire(&config), wire(&config));
    there.running.store(false, Ordering::SeqCst);
    linked([&a, &b]);
    a.tx(0).send(&arp_request());
    // From the other host to this one, from a neighbour that it never heard of.
    b.tx(1).send(&from_neighbour());
    here.wait(1);
    let end = Instant::now() + Duration::from_secs(5);
    while b.stats()["backend"]["received"] != 1 {
        assert!(Instant::now() < end, "{}", b.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
    here.running.store(false, Ordering::SeqCst);
    there.running.store(true, Ordering::SeqCst);
    b.tx(0).send(&announcement());
    while a.stats()["backend"]["received"] != 2 {
        assert!(Instant::now() < end, "{}", a.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
    a.tx(1).send(&from_neighbour());
    b.tx(1).send(&from_neighbour());
    there.wait(2);
    assert_eq!(here.frames.lock().unwrap().len(), 1);
    std::fs::remove_file(path).unwrap();
}
