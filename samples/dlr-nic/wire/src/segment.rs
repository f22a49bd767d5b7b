// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The data functions' places on the segment, each with a queue of its own.
//!
//! A frame that a guest has no buffer for waits at that guest's port for a short time, and delays
//! no frame for another port.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use dlr_core::{Delivery, WireRx};

use crate::switch::{addresses, Learned, Mac, Route, Switch};

/// Frames that wait at one port, at most, and their bytes.
const WAITING: usize = 512;
const WAITING_BYTES: usize = 4 << 20;
/// How long such a frame waits.
const PATIENCE: Duration = Duration::from_millis(50);
/// How often a waiting frame is offered again.
const RETRY: Duration = Duration::from_millis(1);

/// Counters of one port, seen from the wire.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PortStats {
    /// Frames that the data function sent.
    pub(crate) from: u64,
    /// Frames that it took.
    pub(crate) to: u64,
    /// Frames from it that were too short for an Ethernet header.
    pub(crate) runts: u64,
    /// Frames that waited for a buffer in vain, or found the port's queue full.
    pub(crate) no_buffer: u64,
}

/// A frame that waits.
#[derive(Debug)]
struct Waiting {
    frame: Vec<u8>,
    since: Instant,
}

/// A data function's place.
#[derive(Default)]
pub(crate) struct Port {
    pub(crate) function: Option<Arc<dyn WireRx>>,
    pub(crate) stats: PortStats,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
}

impl Port {
    /// Offers a frame once; behind frames that wait already there is no buffer.
    fn offer(&mut self, frame: &[u8]) -> Delivery {
        if self.waiting.is_empty() {
            self.deliver(frame)
        } else {
            Delivery::NoBuffer
        }
    }

    fn deliver(&mut self, frame: &[u8]) -> Delivery {
        let Some(function) = &self.function else {
            return Delivery::Dropped;
        };
        let result = function.deliver(frame);
        self.stats.to += u64::from(result == Delivery::Accepted);
        result
    }

    /// Keeps a frame that found no buffer; false when the queue is full.
    fn wait(&mut self, frame: Vec<u8>, since: Instant) -> bool {
        let bytes = self.waiting_bytes.saturating_add(frame.len());
        if self.waiting.len() >= WAITING || bytes > WAITING_BYTES {
            self.stats.no_buffer += 1;
            return false;
        }
        self.waiting_bytes = bytes;
        self.waiting.push_back(Waiting { frame, since });
        true
    }

    /// Offers waiting frames again; true while some wait on. Returns the number that is lost.
    fn retry(&mut self, now: Instant) -> (bool, u64) {
        let mut lost = 0;
        while let Some(Waiting { frame, since }) = self.waiting.pop_front() {
            match self.deliver(&frame) {
                Delivery::Accepted => (),
                Delivery::NoBuffer if now.saturating_duration_since(since) < PATIENCE => {
                    self.waiting.push_front(Waiting { frame, since });
                    return (true, lost);
                }
                Delivery::NoBuffer => {
                    self.stats.no_buffer += 1;
                    lost += 1;
                }
                Delivery::Dropped => lost += 1,
            }
            self.waiting_bytes = self.waiting_bytes.saturating_sub(frame.len());
        }
        (false, lost)
    }

    /// Frames that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// Ports and switch. The back end is the place behind the last port.
pub(crate) struct Segment {
    pub(crate) ports: Vec<Port>,
    switch: Switch,
    /// Frames that no port took.
    pub(crate) lost: u64,
    /// How often two stations with one address were noticed.
    pub(crate) conflicts: u64,
}

impl Segment {
    /// `ports` ports without functions.
    pub(crate) fn new(ports: usize) -> Self {
        Self {
            ports: (0..ports).map(|_| Port::default()).collect(),
            switch: Switch::default(),
            lost: 0,
            conflicts: 0,
        }
    }

    /// The back end's place.
    pub(crate) fn backend(&self) -> usize {
        self.ports.len()
    }

    /// A frame of `mac` came from `place`.
    pub(crate) fn learn(&mut self, mac: Mac, place: usize) {
        match self.switch.learn(mac, place, Instant::now()) {
            Learned::Known => (),
            Learned::Moved(from) => {
                log::debug!(
                    "wire: {} is at {} now, it was at {}",
                    text(&mac),
                    self.name(place),
                    self.name(from)
                );
            }
            Learned::Flaps(other) => {
                self.conflicts += 1;
                log::warn!(
                    "wire: two stations use {}, at {} and at {}: both lose frames",
                    text(&mac),
                    self.name(place),
                    self.name(other)
                );
            }
        }
    }

    /// A load has brought `mac` to `port`: says so if the wire knows it at another place.
    pub(crate) fn claim(&self, mac: &Mac, port: usize) -> Option<usize> {
        let known = self.switch.place(mac).filter(|place| *place != port)?;
        log::info!(
            "wire: {} was loaded at {}; it was heard last at {} and must be silent there now",
            text(mac),
            self.name(port),
            self.name(known)
        );
        Some(known)
    }

    fn name(&self, place: usize) -> String {
        if place == self.backend() {
            "the other side of the wire".into()
        } else {
            format!("port {place}")
        }
    }

    /// Where a frame for `dst` from the place `from` goes.
    pub(crate) fn route(&self, dst: &Mac, from: usize) -> Route {
        self.switch.route(dst, Some(from))
    }

    /// Offers a frame of the back end once. A frame for one port that finds no buffer there stays
    /// the back end's; one for all waits at the ports that have no buffer, if another took it.
    pub(crate) fn offer(&mut self, frame: &[u8]) -> Delivery {
        let Some((dst, src)) = addresses(frame) else {
            return Delivery::Dropped;
        };
        let backend = self.backend();
        self.learn(src, backend);
        match self.route(&dst, backend) {
            Route::Nowhere => Delivery::Dropped,
            Route::To(port) => match self.ports.get_mut(port) {
                Some(port) => port.offer(frame),
                None => Delivery::Dropped,
            },
            Route::All => self.offer_all(frame),
        }
    }

    fn offer_all(&mut self, frame: &[u8]) -> Delivery {
        let results: Vec<_> = self
            .ports
            .iter_mut()
            .map(|port| port.offer(frame))
            .collect();
        if !results.contains(&Delivery::Accepted) {
            let busy = results.contains(&Delivery::NoBuffer);
            return if busy {
                Delivery::NoBuffer
            } else {
                Delivery::Dropped
            };
        }
        let now = Instant::now();
        for (port, result) in self.ports.iter_mut().zip(results) {
            if result == Delivery::NoBuffer {
                port.wait(frame.to_vec(), now);
            }
        }
        Delivery::Accepted
    }

    /// Sends a frame to the place `to`: at once, or when there is a buffer.
    pub(crate) fn send(&mut self, to: usize, frame: Vec<u8>) {
        self.lost += u64::from(!self.put(to, frame));
    }

    /// Sends a frame to all ports but `from`.
    pub(crate) fn flood(&mut self, from: usize, frame: &[u8]) {
        let mut taken = false;
        for port in (0..self.ports.len()).filter(|port| *port != from) {
            taken |= self.put(port, frame.to_vec());
        }
        self.lost += u64::from(!taken);
    }

    /// Whether `to` took the frame, or keeps it for a while.
    fn put(&mut self, to: usize, frame: Vec<u8>) -> bool {
        let Some(port) = self.ports.get_mut(to) else {
            return false;
        };
        match port.offer(&frame) {
            Delivery::Accepted => true,
            Delivery::Dropped => false,
            Delivery::NoBuffer => port.wait(frame, Instant::now()),
        }
    }

    /// Offers waiting frames again; says when to come back.
    pub(crate) fn retry(&mut self, now: Instant) -> Option<Duration> {
        let mut again = false;
        for port in &mut self.ports {
            let (waits, lost) = port.retry(now);
            again |= waits;
            self.lost += lost;
        }
        again.then_some(RETRY)
    }
}

fn text(mac: &Mac) -> String {
    let bytes: Vec<_> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
