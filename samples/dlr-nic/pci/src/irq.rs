// SPDX-License-Identifier: Apache-2.0 OR MIT

//! MSI-X vectors of one function.
//!
//! QEMU emulates the vector table and hands over one eventfd for each vector in use. The
//! pending bit array is ours: a vector that fires without an eventfd, or while it is
//! masked, is remembered there and fires when it can.

use std::os::fd::OwnedFd;

use dlr_core::Interrupt;
use parking_lot::{Mutex, MutexGuard};

use crate::signal::Signal;

#[derive(Debug, Default)]
struct Vector {
    event: Option<Signal>,
    masked: bool,
    pending: bool,
}

impl Vector {
    fn flush(&mut self) {
        if !self.pending || self.masked {
            return;
        }
        let Some(event) = &self.event else {
            return;
        };
        match event.send() {
            Ok(()) => self.pending = false,
            Err(e) => log::warn!("cannot signal an interrupt: {e}"),
        }
    }
}

#[derive(Debug)]
struct State {
    vectors: Vec<Vector>,
    /// Nothing leaves: what is raised or unmasked meanwhile is pending.
    held: bool,
}

impl State {
    fn range(&mut self, start: u32, count: u64) -> Option<&mut [Vector]> {
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(usize::try_from(count).ok()?)?;
        self.vectors.get_mut(start..end)
    }

    /// Fires what is pending and may leave.
    fn flush(&mut self) {
        if !self.held {
            self.vectors.iter_mut().for_each(Vector::flush);
        }
    }
}

/// The interrupts of one function.
#[derive(Debug)]
pub struct Msix(Mutex<State>);

impl Msix {
    /// `count` vectors, none connected.
    pub fn new(count: u16) -> Self {
        Self(Mutex::new(State {
            vectors: (0..count).map(|_| Vector::default()).collect(),
            held: false,
        }))
    }

    /// Number of vectors.
    pub fn count(&self) -> u16 {
        u16::try_from(self.lock().vectors.len()).unwrap_or(u16::MAX)
    }

    /// Connects `events` to the vectors from `start` on. `false` when there are not as many, or
    /// one is no eventfd.
    pub(crate) fn connect(&self, start: u32, events: Vec<OwnedFd>) -> bool {
        let Some(events) = events
            .into_iter()
            .map(Signal::new)
            .collect::<Option<Vec<_>>>()
        else {
            return false;
        };
        let mut state = self.lock();
        let Some(slots) = state.range(start, events.len() as u64) else {
            return false;
        };
        for (slot, event) in slots.iter_mut().zip(events) {
            slot.event = Some(event);
        }
        state.flush();
        true
    }

    /// Disconnects `count` vectors from `start` on, as [`Msix::connect`].
    pub(crate) fn disconnect(&self, start: u32, count: u32) -> bool {
        let mut state = self.lock();
        let Some(slots) = state.range(start, u64::from(count)) else {
            return false;
        };
        for slot in slots {
            slot.event = None;
        }
        true
    }

    /// Disconnects and unmasks all and forgets what is pending.
    pub(crate) fn disable(&self) {
        for vector in &mut self.lock().vectors {
            *vector = Vector::default();
        }
    }

    /// Masks or unmasks vectors, as [`Msix::connect`].
    pub(crate) fn mask(&self, start: u32, count: u32, masked: bool) -> bool {
        let mut state = self.lock();
        let Some(slots) = state.range(start, u64::from(count)) else {
            return false;
        };
        for slot in slots {
            slot.masked = masked;
        }
        state.flush();
        true
    }

    /// Fires vectors at the client's request, as [`Msix::connect`].
    pub(crate) fn fire(&self, start: u32, count: u32) -> bool {
        let mut state = self.lock();
        let Some(slots) = state.range(start, u64::from(count)) else {
            return false;
        };
        for slot in slots {
            slot.pending = true;
        }
        state.flush();
        true
    }

    /// Forgets what is pending (function reset).
    pub(crate) fn clear_pending(&self) {
        for vector in &mut self.lock().vectors {
            vector.pending = false;
        }
    }

    /// Fills `data` from `offset` of the pending bit array.
    pub(crate) fn read_pending(&self, offset: u64, data: &mut [u8]) {
        let state = self.lock();
        for (byte, at) in data.iter_mut().zip(offset..) {
            let first = usize::try_from(at).unwrap_or(usize::MAX).saturating_mul(8);
            *byte = (0..8)
                .filter(|bit| {
                    let vector = state.vectors.get(first.saturating_add(*bit));
                    vector.is_some_and(|v| v.pending)
                })
                .fold(0, |byte, bit| byte | 1 << bit);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl Interrupt for Msix {
    fn trigger(&self, vector: u16) {
        let mut state = self.lock();
        let held = state.held;
        if let Some(vector) = state.vectors.get_mut(usize::from(vector)) {
            vector.pending = true;
            if !held {
                vector.flush();
            }
        }
    }

    fn hold(&self, on: bool) {
        let mut state = self.lock();
        state.held = on;
        state.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{count, event};

    #[test]
    fn fires_when_connected() {
        let msix = Msix::new(4);
        let (reader, fd) = event();
        assert!(msix.connect(2, vec![fd]));
        msix.trigger(2);
        msix.trigger(3);
        msix.trigger(9);
        let mut pba = [0; 8];
        msix.read_pending(0, &mut pba);
        assert_eq!(pba, [1 << 3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(count(&reader), 1);
    }

    #[test]
    fn pending_fires_on_connect_and_unmask() {
        let msix = Msix::new(1);
        msix.trigger(0);
        let (reader, fd) = event();
        assert!(msix.connect(0, vec![fd]));
        assert!(msix.mask(0, 1, true));
        msix.trigger(0);
        msix.trigger(0);
        let mut pba = [0; 1];
        msix.read_pending(0, &mut pba);
        assert_eq!(pba, [1]);
        assert!(msix.mask(0, 1, false));
        msix.read_pending(0, &mut pba);
        assert_eq!(pba, [0]);
        assert_eq!(count(&reader), 2);
    }

    #[test]
    fn a_reset_forgets_what_is_pending() {
        let msix = Msix::new(2);
        let (reader, fd) = event();
        let (other, kept) = event();
        assert!(msix.connect(0, vec![fd, kept]));
        assert!(msix.mask(0, 2, true));
        msix.trigger(0);
        msix.clear_pending();
        msix.trigger(1);
        let mut pba = [0; 1];
        msix.read_pending(0, &mut pba);
        assert_eq!(pba, [2]);
        assert!(msix.mask(0, 2, false));
        assert_eq!((count(&reader), count(&other)), (0, 1));
    }

    #[test]
    fn nothing_leaves_a_function_that_is_held() {
        let msix = Msix::new(3);
        let (reader, fd) = event();
        let (late, other) = event();
        assert!(msix.connect(0, vec![fd]));
        assert!(msix.mask(0, 1, true));
        msix.trigger(0);
        msix.hold(true);
        // Unmasked, raised, connected.
        assert!(msix.mask(0, 1, false));
        msix.trigger(0);
        msix.trigger(1);
        assert!(msix.connect(1, vec![other]));
        assert_eq!((count(&reader), count(&late)), (0, 0));
        let mut pba = [0; 1];
        msix.read_pending(0, &mut pba);
        assert_eq!(pba, [3]);
        msix.hold(false);
        assert_eq!((count(&reader), count(&late)), (1, 1));
    }

    #[test]
    fn refuses_vectors_that_do_not_exist() {
        let msix = Msix::new(2);
        assert!(!msix.disconnect(1, 2));
        assert!(!msix.disconnect(u32::MAX, u32::MAX));
        assert!(!msix.connect(2, vec![event().1]));
        assert!(!msix.fire(2, 1));
        assert!(msix.disconnect(2, 0));
    }
}
