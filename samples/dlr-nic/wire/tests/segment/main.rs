// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The wire as data functions see it: switching, the peer's services, a guest that moves.

#![allow(clippy::unwrap_used)]

mod bench;
mod moves;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use serde_json::json;

use self::bench::{arp_request, from_neighbour, udp, wire, GUEST_MAC, PEER_MAC};

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
fn guests_of_one_nic_talk_without_the_back_end() {
    let (wire, [a, b]) = wire("none");
    b.running.store(true, Ordering::SeqCst);
    wire.tx(1).send(&arp_request());
    assert_eq!(a.wait(1)[0], arp_request());
    assert!(b.frames.lock().unwrap().is_empty());
}

#[test]
fn a_guest_that_was_never_heard_is_found() {
    let (wire, [guest, other]) = wire("none");
    wire.tx(1).send(&from_neighbour());
    guest.wait(1);
    assert!(other.frames.lock().unwrap().is_empty());
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

/// The wire's thread is busy with one frame while one port sends more than the queue holds. The frame of
/// another port is not lost for that.
#[test]
fn a_port_that_floods_the_queue_loses_its_own_frames() {
    let (wire, [guest, busy]) = wire("none");
    wire.tx(0).send(&arp_request());
    let held = busy.frames.lock().unwrap();
    busy.running.store(true, Ordering::SeqCst);
    let mut hello = from_neighbour();
    hello[..6].fill(0xff);
    wire.tx(0).send(&hello);
    let mut flood = from_neighbour();
    flood[..6].copy_from_slice(&[2, 0, 0, 0, 0, 8]);
    for _ in 0..10_000 {
        wire.tx(1).send(&flood);
    }
    wire.tx(2).send(&from_neighbour());
    drop(held);
    guest.wait(1);
    let stats = wire.stats();
    assert_ne!(stats["ports"][1]["queue_drops"], 0, "{stats}");
    assert_eq!(stats["ports"][2]["queue_drops"], 0, "{stats}");
}
