// SPDX-License-Identifier: Apache-2.0 OR MIT

//! How much of the wire's queue each port may take: a guest that sends without a pause fills its own
//! part, and loses its own frames.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Frames of all ports that wait for the wire's thread, if the ports are few.
const QUEUE: usize = 2048;
/// Least part of a port: a guest's burst fits, which is its queue.
const BURST: usize = 256;

/// The parts of all ports.
#[derive(Debug)]
pub(crate) struct Fifos {
    ports: Vec<Fifo>,
    size: usize,
}

#[derive(Debug, Default)]
struct Fifo {
    waiting: AtomicUsize,
    drops: AtomicU64,
}

impl Fifos {
    /// For `ports` ports.
    pub(crate) fn new(ports: usize) -> Self {
        Self {
            ports: (0..ports).map(|_| Fifo::default()).collect(),
            size: (QUEUE / ports.max(1)).max(BURST),
        }
    }

    /// Events that the queue has to have room for: those of all ports, and [`QUEUE`] more of the back
    /// end and of requests, which are not counted.
    pub(crate) fn capacity(&self) -> usize {
        self.size * self.ports.len() + QUEUE
    }

    /// A frame of `port` is to go into the queue; false if its part is full, and counts that.
    pub(crate) fn enter(&self, port: usize) -> bool {
        let Some(fifo) = self.ports.get(port) else {
            return false;
        };
        let fits = fifo
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < self.size).then_some(waiting + 1)
            });
        if fits.is_err() {
            fifo.drops.fetch_add(1, Ordering::Relaxed);
        }
        fits.is_ok()
    }

    /// A frame of `port` has left the queue.
    pub(crate) fn leave(&self, port: usize) {
        if let Some(fifo) = self.ports.get(port) {
            fifo.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A frame of `port` that had entered found no room after all.
    pub(crate) fn lose(&self, port: usize) {
        self.leave(port);
        if let Some(fifo) = self.ports.get(port) {
            fifo.drops.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Frames of `port` that did not fit.
    pub(crate) fn drops(&self, port: usize) -> u64 {
        let fifo = self.ports.get(port);
        fifo.map_or(0, |fifo| fifo.drops.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_part_is_nobody_elses() {
        let fifos = Fifos::new(64);
        let taken = (0..10_000).filter(|_| fifos.enter(3)).count();
        assert_eq!(taken, BURST);
        assert_eq!((fifos.drops(3), fifos.drops(4)), (10_000 - 256, 0));
        assert!(fifos.enter(4) && !fifos.enter(64));
        fifos.leave(3);
        assert!(fifos.enter(3) && !fifos.enter(3));
        assert_eq!(Fifos::new(2).size, QUEUE / 2);
    }
}
