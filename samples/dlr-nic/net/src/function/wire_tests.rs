// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Functions at the ports of a wire: what they announce is what its switch understands.

use std::{
    sync::{
        atomic::{AtomicBool, AtomicU32, Ordering},
        Arc,
    },
    thread,
    time::{Duration, Instant},
};

use dlr_core::{DataFunction, FnState};
use dlr_pci::PciFunction;
use dlr_wire::{Wire, WireConfig};

use super::tests::{promiscuous, send, CTRLQ, RXQ, TXQ};
use crate::{regs::*, testing::*, Addresses};

const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
/// The third port, from which the guest has never heard.
const NEIGHBOUR: usize = 2;
const NEIGHBOURS_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x66];

/// Two functions of one NIC and the wire that they are plugged into.
fn plugged_in() -> (Rig, Rig, Wire) {
    let addresses = Addresses::new([MAC, OTHER]);
    let one = Rig::function(memory(), 0, Arc::clone(&addresses));
    let two = one.sibling(1, &addresses);
    let wire = wire_of([&one, &two]);
    (one, two, wire)
}

fn wire_of(rigs: [&Rig; 2]) -> Wire {
    let wire = Wire::new(&"none".parse::<WireConfig>().unwrap(), 3).unwrap();
    for (port, rig) in rigs.into_iter().enumerate() {
        *rig.seen.wire.lock().unwrap() = Some(wire.tx(port));
        wire.attach(port, rig.net.clone());
    }
    wire
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

/// Functions of one NIC with a guest each. That of the second one is up, and the wire knows where it
/// and the neighbour are.
fn strangers() -> (Rig, Rig, Wire) {
    let addresses = Addresses::new([MAC, OTHER]);
    let one = Rig::function(memory(), 0, Arc::clone(&addresses));
    let two = Rig::function(memory(), 1, addresses);
    let wire = wire_of([&one, &two]);
    wire.tx(NEIGHBOUR)
        .send(&between(NEIGHBOURS_MAC, [0xff; 6], 60));
    // No port takes it: no driver is up yet.
    eventually("the neighbour", || {
        wire.stats()["ports"][NEIGHBOUR]["from"] == 1
    });
    two.start(PLAIN);
    promiscuous(&two, 0, false);
    speak(&two, 0, &between(OTHER, NEIGHBOURS_MAC, 60));
    eventually("the guest", || wire.stats()["ports"][1]["from"] == 1);
    (one, two, wire)
}

fn between(from: [u8; 6], to: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame = frame(len);
    frame[..12].copy_from_slice(&[to, from].concat());
    frame
}

/// The guest of `rig` sends its `n`th frame, and it leaves.
fn speak(rig: &Rig, n: usize, frame: &[u8]) {
    send(rig, 2 * (n % 8) as u16, frame);
    rig.ring(TXQ);
    eventually("a frame of the guest", || {
        rig.seen.sent.lock().unwrap().len() > n
    });
}

/// The guest of `rig`, the second of [`strangers`], receives its `n`th frame from the neighbour,
/// unchanged, and sends another one.
fn converse(rig: &Rig, wire: &Wire, n: usize) {
    let sent = between(NEIGHBOURS_MAC, OTHER, 60 + n % 1000);
    let buffer = BUFFERS + 0x1000 * (n % 8) as u64;
    rig.give(RXQ, (n % 8) as u16, &[(buffer, 0x800, true)]);
    wire.tx(NEIGHBOUR).send(&sent);
    eventually("a frame for the guest", || {
        usize::from(rig.peek16(used(RXQ) + 2)) > n
    });
    assert_eq!(rig.peek(buffer + HDR_LEN as u64, sent.len()), sent);
    speak(rig, n + 1, &between(OTHER, NEIGHBOURS_MAC, 60 + n % 1000));
}

/// The log of the first function has no room for hours. Frames for its guest pile up at its port, more
/// than there is place for, and what its guest sends stays in the queue.
#[test]
fn a_function_that_is_held_back_delays_no_other() {
    let (held, other, wire) = strangers();
    held.start(PLAIN);
    speak(&held, 0, &between(MAC, NEIGHBOURS_MAC, 60));
    let until = Instant::now() + Duration::from_secs(36_000);
    *held.seen.hold.lock().unwrap() = Some(until);
    for head in 0..8u16 {
        let buffer = BUFFERS + 0x1000 * u64::from(head);
        held.give(RXQ, head, &[(buffer, 0x800, true)]);
    }
    send(&held, 2, &between(MAC, NEIGHBOURS_MAC, 60));
    held.ring(TXQ);
    for n in 0..100 {
        for _ in 0..8 {
            wire.tx(NEIGHBOUR).send(&between(NEIGHBOURS_MAC, MAC, 60));
        }
        converse(&other, &wire, n);
    }
    assert_ne!(held.stats()["rx_held"], 0);
    assert_eq!(held.returned(RXQ), []);
    assert_eq!(held.seen.sent.lock().unwrap().len(), 1);
    *held.seen.hold.lock().unwrap() = None;
    held.net.room();
    eventually("the frame that was held back", || {
        held.seen.sent.lock().unwrap().len() == 2
    });
}

/// What a guest without sense does to its function, from a seed.
struct Rubbish(u64);

impl Rubbish {
    fn below(&mut self, bound: u64) -> u64 {
        // Xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn bytes(&mut self) -> Vec<u8> {
        let word = match self.below(3) {
            0 => 0,
            1 => u64::MAX,
            _ => self.below(u64::MAX),
        };
        let length = 1 << self.below(4);
        word.to_le_bytes()[..length].to_vec()
    }

    /// One thing of many.
    fn strike(&mut self, rig: &Rig) {
        let bytes = self.bytes();
        match self.below(64) {
            // Now and then it is up, so that rings and doorbells mean something.
            0 => rig.start(PLAIN),
            1 => rig.net.bus_master(self.below(2) == 0),
            2..16 => rig.put(COMMON + self.below(0x40), &bytes),
            16..24 => rig.put(self.below(0x4000), &bytes),
            24..32 => rig.put(NOTIFY + self.below(0x40), &bytes),
            32 => rig.net.config_write(self.below(0x100) as u16, &bytes),
            33 => drop(rig.get::<8>(self.below(0x4000))),
            34..40 => {
                let queue = self.below(QUEUES as u64) as u16;
                rig.desc_at(
                    desc(queue),
                    self.below(RING.into()) as u16,
                    BUFFERS + self.below(0x8_0000),
                    self.below(0x1_0000) as u32,
                    self.below(8) as u16,
                    self.below(u64::from(RING) + 1) as u16,
                );
            }
            40..52 => {
                let queue = [RXQ, TXQ, CTRLQ][self.below(3) as usize];
                rig.offer(queue, self.below(u64::from(RING) + 1) as u16);
                rig.ring(queue);
            }
            // Into rings and tables, and into what they point to.
            _ => rig.poke(BASE + self.below(SIZE - 8), &bytes),
        }
    }
}

/// A guest that writes rubbish to its registers, queues and memory, for as long as the guest of another
/// function of the NIC receives and sends.
#[test]
fn rubbish_is_felt_by_no_other_function() {
    let (wild, other, wire) = strangers();
    let address = other.stats()["mac"].clone();
    let (done, strikes) = (AtomicBool::new(false), AtomicU32::new(0));
    /// Ends it, also when the test fails.
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut rubbish = Rubbish(206);
            while !done.load(Ordering::Relaxed) {
                rubbish.strike(&wild);
                strikes.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _ends = Ends(&done);
        for n in 0.. {
            converse(&other, &wire, n);
            if n >= 100 && strikes.load(Ordering::Relaxed) >= 20_000 {
                break;
            }
        }
    });
    assert_eq!(other.status(), 0x0f);
    assert_eq!(other.stats()["mac"], address);
    assert_eq!(other.stats()["dma_faults"], 0);
    // It was more than a function that gives up at the first stroke.
    let wild = wild.stats();
    assert!(wild["needs_reset"].as_u64() > Some(1), "{wild}");
}
