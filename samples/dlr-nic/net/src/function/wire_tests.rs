// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Functions at the ports of a wire: what they announce is what its switch understands.

use std::sync::Arc;

use dlr_core::{DataFunction, FnState};
use dlr_wire::{Wire, WireConfig};

use crate::{regs::*, testing::*, Addresses};

const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
/// The third port, from which the guest has never heard.
const NEIGHBOUR: usize = 2;
const NEIGHBOURS_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x66];

/// Two functions of one NIC and the wire that they are plugged into.
fn plugged_in() -> (Rig, Rig, Wire) {
    let wire = Wire::new(&"none".parse::<WireConfig>().unwrap(), 3).unwrap();
    let addresses = Addresses::new([MAC, OTHER]);
    let one = Rig::function(memory(), 0, Arc::clone(&addresses));
    let two = one.sibling(1, &addresses);
    for (port, rig) in [&one, &two].into_iter().enumerate() {
        *rig.seen.wire.lock().unwrap() = Some(wire.tx(port));
        wire.attach(port, rig.net.clone());
    }
    (one, two, wire)
}

/// A frame for the guest from its neighbour.
fn from_neighbour() -> Vec<u8> {
    let mut frame = frame(60);
    frame[6..12].copy_from_slice(&NEIGHBOURS_MAC);
    frame
}

/// The guest moves and stays silent. A source that is let run once more before it is closed, as
/// Cloud Hypervisor does it, changes nothing.
#[test]
fn a_neighbour_finds_a_silent_guest_that_moved() {
    let (one, two, wire) = plugged_in();
    one.start(PLAIN);
    for head in 0..3u16 {
        let buffer = BUFFERS + 0x1000 * u64::from(head);
        one.give(0, head, &[(buffer, 0x800, true)]);
    }
    // The wire hears it at the first port.
    let out = BUFFERS + 0x8000;
    let mut hello = vec![0; HDR_LEN];
    hello.extend([[0xff; 6], MAC].concat());
    hello.resize(HDR_LEN + 60, 0);
    one.poke(out, &hello);
    one.give(1, 0, &[(out, hello.len() as u32, false)]);
    one.ring(1);
    eventually("the guest's frame", || {
        wire.stats()["ports"][0]["from"] == 1
    });
    wire.tx(NEIGHBOUR).send(&from_neighbour());
    eventually("a frame at home", || one.returned(0).len() == 1);

    one.net.suspend(FnState::Stopped);
    two.net.suspend(FnState::Stopped);
    two.net.load(&one.net.save()).unwrap();
    two.net.resume(FnState::Running);
    wire.tx(NEIGHBOUR).send(&from_neighbour());
    eventually("a frame at the new place", || two.returned(0).len() == 2);

    one.net.resume(FnState::Running);
    wire.tx(NEIGHBOUR).send(&from_neighbour());
    eventually("another one there", || two.stats()["rx_frames"] == 2);
    assert_eq!(one.stats()["rx_frames"], 1, "at the place that it has left");
}
