// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Functions of a wire, and frames.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex,
    },
    time::{Duration, Instant},
};

use dlr_core::{Delivery, WireRx};
use dlr_wire::{Wire, WireConfig};

pub(crate) const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];
pub(crate) const PEER_MAC: [u8; 6] = [0x02, 0xd1, 0x72, 0, 0, 1];

/// A data function whose guest takes frames while it is switched on.
#[derive(Default)]
pub(crate) struct Function {
    pub(crate) running: AtomicBool,
    /// Without buffers.
    pub(crate) starting: AtomicBool,
    pub(crate) frames: Mutex<Vec<Vec<u8>>>,
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
    pub(crate) fn wait(&self, n: usize) -> Vec<Vec<u8>> {
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

pub(crate) fn wire(config: &str) -> (Wire, [Arc<Function>; 2]) {
    let wire = Wire::new(&config.parse::<WireConfig>().unwrap(), 3).unwrap();
    let functions = [Arc::new(Function::default()), Arc::new(Function::default())];
    for (n, function) in functions.iter().enumerate() {
        wire.attach(n, function.clone());
    }
    functions[0].running.store(true, Ordering::SeqCst);
    (wire, functions)
}

pub(crate) fn arp_request() -> Vec<u8> {
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
pub(crate) fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
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
pub(crate) fn announcement() -> Vec<u8> {
    let mut frame = [[0xff; 6], GUEST_MAC].concat();
    frame.extend([0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
    frame.resize(60, 0);
    frame
}

/// A frame for the guest from a neighbour.
pub(crate) fn from_neighbour() -> Vec<u8> {
    let mut frame = [GUEST_MAC, [2, 0, 0, 0, 0, 6]].concat();
    frame.resize(60, 0);
    frame
}

pub(crate) fn linked(wires: [&Wire; 2]) {
    let end = Instant::now() + Duration::from_secs(5);
    while wires.iter().any(|w| w.stats()["backend"]["up"] != true) {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
}
