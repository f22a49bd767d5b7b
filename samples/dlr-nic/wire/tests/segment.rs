// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The wire as data functions see it: switching, the peer's services, a guest that moves.

#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex,
    },
    time::{Duration, Instant},
};

use dlr_core::{Delivery, WireRx};
use dlr_wire::{Wire, WireConfig};
use serde_json::json;

const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];
const PEER_MAC: [u8; 6] = [0x02, 0xd1, 0x72, 0, 0, 1];

/// A data function whose guest takes frames while it is switched on.
#[derive(Default)]
struct Function {
    running: AtomicBool,
    /// Without buffers.
    starting: AtomicBool,
    frames: Mutex<Vec<Vec<u8>>>,
}

impl WireRx for Function {
    fn deliver(&self, frame: &[u8]) -> Delivery {
        if !self.running.load(Ordering::SeqCst) {
            return if self.starting.load(Ordering::SeqCst) {
                Delivery::NoBuffer
            } else {
                Delivery::Dropped
            };
        }
        if frame[..6] != GUEST_MAC && frame[0] & 1 == 0 {
            return Delivery::Dropped;
        }
        self.frames.lock().unwrap().push(frame.to_vec());
        Delivery::Accepted
    }
}

impl Function {
    fn wait(&self, n: usize) -> Vec<Vec<u8>> {
        let end = Instant::now() + Duration::from_secs(5);
        while self.frames.lock().unwrap().len() < n {
            assert!(
                Instant::now() < end,
                "only {} frames",
                self.frames.lock().unwrap().len()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        self.frames.lock().unwrap().clone()
    }
}

fn wire(config: &str) -> (Wire, [Arc<Function>; 2]) {
    let wire = Wire::new(&config.parse::<WireConfig>().unwrap(), 3).unwrap();
    let functions = [Arc::new(Function::default()), Arc::new(Function::default())];
    for (n, function) in functions.iter().enumerate() {
        wire.attach(n, function.clone());
    }
    functions[0].running.store(true, Ordering::SeqCst);
    (wire, functions)
}

fn arp_request() -> Vec<u8> {
    let mut frame = [0xff; 42].to_vec();
    frame[6..12].copy_from_slice(&GUEST_MAC);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&GUEST_MAC);
    frame[28..32].copy_from_slice(&[10, 9, 0, 2]);
    frame[32..38].fill(0);
    frame[38..42].copy_from_slice(&[10, 9, 0, 1]);
    frame
}

/// A UDP frame from the guest; a checksum of 0 means none.
fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [PEER_MAC, GUEST_MAC].concat();
    let len = u16::try_from(payload.len()).unwrap();
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((len + 28).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1]);
    let mut sum: u32 = frame[14..34]
        .chunks(2)
        .map(|c| u32::from(c[0]) << 8 | u32::from(c[1]))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[24..26].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
    frame.extend(4000_u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend((len + 8).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

/// What a function sends for a guest that has moved to it.
fn announcement() -> Vec<u8> {
    let mut frame = [[0xff; 6], GUEST_MAC].concat();
    frame.extend([0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
    frame.resize(60, 0);
    frame
}

/// A frame for the guest from a neighbour.
fn from_neighbour() -> Vec<u8> {
    let mut frame = [GUEST_MAC, [2, 0, 0, 0, 0, 6]].concat();
    frame.resize(60, 0);
    frame
}

fn linked(wires: [&Wire; 2]) {
    let end = Instant::now() + Duration::from_secs(5);
    while wires.iter().any(|w| w.stats()["backend"]["up"] != true) {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_peer_answers_arp_and_echoes() {
    let (wire, functions) = wire("peer");
    wire.tx(0).send(&arp_request());
    let frames = functions[0].wait(1);
    assert_eq!(frames[0][..12], [GUEST_MAC, PEER_MAC].concat()[..]);
    assert_eq!(frames[0][12..14], [8, 6]);
    wire.tx(0).send(&udp(7, b"hello, peer"));
    let frames = functions[0].wait(2);
    assert!(frames[1].ends_with(b"hello, peer"));
}

#[test]
fn the_sink_counts_what_comes() {
    let (wire, _functions) = wire("peer");
    let tx = wire.tx(0);
    tx.send(&arp_request());
    for seq in [0, 1, 3, 4, 4] {
        tx.send(&udp(9, &dlr_traffic::build(5, seq, 500).unwrap()));
    }
    let mut bad = dlr_traffic::build(5, 5, 500).unwrap();
    bad[400] ^= 1;
    tx.send(&udp(9, &bad));
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let stats = wire.stats();
        let sink = &stats["backend"]["sinks"]["streams"][0];
        if sink["report"]["corrupt"] == 1 {
            assert_eq!(sink["report"]["received"], 4);
            assert_eq!(sink["report"]["missing"], 1);
            assert_eq!(sink["report"]["duplicates"], 1);
            assert_eq!(sink["jumps"][0]["got"], 3);
            return;
        }
        assert!(Instant::now() < end, "{stats}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

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
    // Somebody else may start there, who has no buffers yet.
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
fn requests_are_checked() {
    let (wire, _functions) = wire("peer");
    for bad in [
        json!({"cmd": "start"}),
        json!({"cmd": "nothing"}),
        json!({"cmd": "start", "stream": 1, "dst": "10.9.0.2", "port": 1, "size": 10, "pps": 1}),
        json!(3),
    ] {
        let answer = wire.control(bad);
        assert_eq!(answer["ok"], false, "{answer}");
        assert!(answer["error"].is_string());
    }
}

#[test]
fn two_wires_linked() {
    let path = std::env::temp_dir().join(format!("dlr-link-{}.sock", std::process::id()));
    let config = format!("link:{}", path.display());
    let ((a, fa), (b, fb)) = (wire(&config), wire(&config));
    let end = Instant::now() + Duration::from_secs(5);
    while a.stats()["backend"]["up"] != true || b.stats()["backend"]["up"] != true {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    a.tx(0).send(&arp_request());
    assert_eq!(fb[0].wait(1)[0], arp_request());
    b.tx(0).send(&arp_request());
    fa[0].wait(1);
    std::fs::remove_file(path).unwrap();
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
fn guests_of_one_nic_talk_without_the_back_end() {
    let (wire, [a, b]) = wire("none");
    b.running.store(true, Ordering::SeqCst);
    wire.tx(1).send(&arp_request());
    assert_eq!(a.wait(1)[0], arp_request());
    assert!(b.frames.lock().unwrap().is_empty());
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
fn a_guest_that_was_never_heard_is_found() {
    let (wire, [guest, other]) = wire("none");
    wire.tx(1).send(&from_neighbour());
    guest.wait(1);
    assert!(other.frames.lock().unwrap().is_empty());
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

#[test]
fn an_idle_or_slow_port_delays_no_other() {
    let (wire, [guest, slow]) = wire("none");
    // One without buffers for ever, known to the switch.
    slow.starting.store(true, Ordering::SeqCst);
    let mut hello = from_neighbour();
    hello[..6].fill(0xff);
    wire.tx(1).send(&hello);
    wire.tx(0).send(&arp_request());
    guest.wait(1);
    let mut to_slow = from_neighbour();
    to_slow.rotate_left(6);
    to_slow.resize(60, 0);
    to_slow[..6].copy_from_slice(&[2, 0, 0, 0, 0, 6]);
    let start = Instant::now();
    for n in 0..10 {
        for _ in 0..20 {
            wire.tx(2).send(&to_slow);
        }
        wire.tx(2).send(&{
            let mut frame = from_neighbour();
            frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 7]);
            frame
        });
        guest.wait(2 + n);
    }
    // Each of the ten would have waited for 50 ms behind the others' frames.
    let took = start.elapsed();
    assert!(took < Duration::from_millis(250), "{took:?}");
    assert_eq!(wire.stats()["ports"][0]["no_buffer"], 0);
}
