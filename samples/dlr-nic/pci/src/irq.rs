// SPDX-License-Identifier: Apache-2.0 OR MIT

//! MSI-X vectors of one function.
//!
//! QEMU emulates the vector table and hands over one eventfd for each vector in use. The
//! pending bit array is ours: a vector that fires without an eventfd, or while it is
//! masked, is remembered there and fires when it can.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use dlr_core::Interrupt;

#[derive(Debug, Default)]
struct Vector {
    event: Option<File>,
    masked: bool,
    pending: bool,
}

impl Vector {
    fn fire(&mut self) {
        self.pending = true;
        self.flush();
    }

    fn flush(&mut self) {
        if !self.pending || self.masked {
            return;
        }
        let Some(mut event) = self.event.as_ref() else {
            return;
        };
        match event.write(&1u64.to_ne_bytes()) {
            // A counter at its limit means that the client has not looked yet: it will.
            Ok(_) => self.pending = false,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.pending = false,
            Err(e) => log::warn!("cannot signal an interrupt: {e}"),
        }
    }
}

/// The interrupts of one function.
#[derive(Debug)]
pub struct Msix(Mutex<Vec<Vector>>);

impl Msix {
    /// `count` vectors, none connected.
    pub fn new(count: u16) -> Self {
        Self(Mutex::new((0..count).map(|_| Vector::default()).collect()))
    }

    /// Number of vectors.
    pub fn count(&self) -> u16 {
        u16::try_from(self.lock().len()).unwrap_or(u16::MAX)
    }

    /// Connects `events` to the vectors from `start` on. `false` when there are not as many.
    pub(crate) fn connect(&self, start: u32, events: Vec<OwnedFd>) -> bool {
        let mut vectors = self.lock();
        let Some(slots) = range(&mut vectors, start, events.len() as u64) else {
            return false;
        };
        for (slot, event) in slots.iter_mut().zip(events) {
            slot.event = Some(File::from(event));
            slot.flush();
        }
        true
    }

    /// Disconnects `count` vectors from `start` on, as [`Msix::connect`].
    pub(crate) fn disconnect(&self, start: u32, count: u32) -> bool {
        let mut vectors = self.lock();
        let Some(slots) = range(&mut vectors, start, u64::from(count)) else {
            return false;
        };
        for slot in slots {
            slot.event = None;
        }
        true
    }

    /// Disconnects and unmasks all and forgets what is pending.
    pub(crate) fn disable(&self) {
        for vector in self.lock().iter_mut() {
            *vector = Vector::default();
        }
    }

    /// Masks or unmasks vectors, as [`Msix::connect`].
    pub(crate) fn mask(&self, start: u32, count: u32, masked: bool) -> bool {
        let mut vectors = self.lock();
        let Some(slots) = range(&mut vectors, start, u64::from(count)) else {
            return false;
        };
        for slot in slots {
            slot.masked = masked;
            slot.flush();
        }
        true
    }

    /// Fires vectors at the client's request, as [`Msix::connect`].
    pub(crate) fn fire(&self, start: u32, count: u32) -> bool {
        let mut vectors = self.lock();
        let Some(slots) = range(&mut vectors, start, u64::from(count)) else {
            return false;
        };
        slots.iter_mut().for_each(Vector::fire);
        true
    }

    /// Forgets what is pending (function reset).
    pub(crate) fn clear_pending(&self) {
        for vector in self.lock().iter_mut() {
            vector.pending = false;
        }
    }

    /// Fills `data` from `offset` of the pending bit array.
    pub(crate) fn read_pending(&self, offset: u64, data: &mut [u8]) {
        let vectors = self.lock();
        for (byte, at) in data.iter_mut().zip(offset..) {
            let first = usize::try_from(at).unwrap_or(usize::MAX).saturating_mul(8);
            *byte = (0..8)
                .filter(|bit| {
                    vectors
                        .get(first.saturating_add(*bit))
                        .is_some_and(|v| v.pending)
                })
                .fold(0, |byte, bit| byte | 1 << bit);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vector>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interrupt for Msix {
    fn trigger(&self, vector: u16) {
        if let Some(vector) = self.lock().get_mut(usize::from(vector)) {
            vector.fire();
        }
    }
}

fn range(vectors: &mut [Vector], start: u32, count: u64) -> Option<&mut [Vector]> {
    let start = usize::try_from(start).ok()?;
    let end = start.checked_add(usize::try_from(count).ok()?)?;
    vectors.get_mut(start..end)
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixStream};

    use super::*;

    fn event() -> (UnixStream, OwnedFd) {
        let (reader, writer) = UnixStream::pair().unwrap();
        (reader, writer.into())
    }

    fn count(mut reader: UnixStream) -> usize {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap() / 8
    }

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
        drop(msix);
        assert_eq!(count(reader), 1);
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
        drop(msix);
        assert_eq!(count(reader), 2);
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
