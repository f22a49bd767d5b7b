// SPDX-License-Identifier: GPL-2.0

//! The queue of buffers between the device and the reader of a save session: those that the device
//! fills, in the order of their reads, and those that wait for the reader.
//!
//! This code has no hardware access: it is generic over the buffer and over the handle of a read in
//! flight. The buffers are allocated at the start of a session, and the queue allocates nothing
//! later, when the guest is stopped.

use crate::ext::gfp::USER;
use kernel::prelude::*;

/// The head of the queue.
pub(crate) enum Front<'a, B, T> {
    /// No read is in flight and there is no data.
    Empty,
    /// The oldest read is in flight.
    InFlight(&'a T),
    /// The bytes `from..to` of this buffer are next.
    Ready {
        /// The buffer.
        buffer: &'a B,
        /// Index of the first unread byte.
        from: usize,
        /// Index after the last byte.
        to: usize,
    },
}

/// A buffer that is not free.
struct Slot<B, T> {
    buffer: B,
    content: Content<T>,
}

/// The contents of a buffer: a read in flight, or unread bytes.
enum Content<T> {
    InFlight(T),
    Ready { from: usize, to: usize },
}

/// A queue of buffers `B` with reads `T` in flight.
pub(crate) struct Queue<B, T> {
    /// The slots in the order of their reads. Reads complete in order, so all `Ready` slots precede
    /// all `InFlight` ones.
    slots: KVec<Slot<B, T>>,
    free: KVec<B>,
}

impl<B, T> Queue<B, T> {
    /// Makes an empty queue with these buffers.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(buffers: KVec<B>) -> Result<Self> {
        let slots = KVec::with_capacity(buffers.len(), USER)?;
        Ok(Self {
            slots,
            free: buffers,
        })
    }

    /// Makes a queue without buffers.
    pub(crate) const fn none() -> Self {
        Self {
            slots: KVec::new(),
            free: KVec::new(),
        }
    }

    /// Returns the buffer for the next read, if one is free.
    pub(crate) fn spare(&self) -> Option<&B> {
        self.free.last()
    }

    /// Adds a read into the buffer of [`Self::spare`], which was submitted to the device.
    pub(crate) fn push(&mut self, read: T) {
        if let Some(buffer) = self.free.pop() {
            // `new` has reserved a slot for each buffer.
            let slot = Slot {
                buffer,
                content: Content::InFlight(read),
            };
            let _ = self.slots.push_within_capacity(slot);
        }
    }

    /// Returns the head of the queue.
    pub(crate) fn front(&self) -> Front<'_, B, T> {
        match self.slots.first() {
            None => Front::Empty,
            Some(Slot {
                content: Content::InFlight(read),
                ..
            }) => Front::InFlight(read),
            Some(Slot {
                buffer,
                content: Content::Ready { from, to },
            }) => Front::Ready {
                buffer,
                from: *from,
                to: *to,
            },
        }
    }

    /// Returns the oldest read in flight.
    pub(crate) fn oldest_read(&self) -> Option<&T> {
        self.slots.iter().find_map(|slot| match &slot.content {
            Content::InFlight(read) => Some(read),
            Content::Ready { .. } => None,
        })
    }

    /// Completes the oldest read in flight, which has delivered `bytes`.
    pub(crate) fn complete(&mut self, bytes: usize) {
        let at = self
            .slots
            .iter()
            .position(|s| matches!(s.content, Content::InFlight(_)));
        let Some(at) = at else { return };
        if bytes == 0 {
            self.release(at);
        } else if let Some(slot) = self.slots.get_mut(at) {
            slot.content = Content::Ready { from: 0, to: bytes };
        }
    }

    /// Removes `bytes` from the head, which the user has read.
    pub(crate) fn consume(&mut self, bytes: usize) {
        let Some(Slot {
            content: Content::Ready { from, to },
            ..
        }) = self.slots.first_mut()
        else {
            return;
        };
        *from = from.saturating_add(bytes).min(*to);
        if from == to {
            self.release(0);
        }
    }

    /// Returns the number of bytes that the device has delivered and the user has not read.
    pub(crate) fn unread(&self) -> u64 {
        self.slots
            .iter()
            .map(|slot| match slot.content {
                Content::InFlight(_) => 0,
                // OVERFLOW: `from <= to`, and buffers are small.
                Content::Ready { from, to } => (to - from) as u64,
            })
            .sum()
    }

    /// Returns the number of reads in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots
            .iter()
            .filter(|s| matches!(s.content, Content::InFlight(_)))
            .count()
    }

    /// Frees the buffer of the slot `at`.
    fn release(&mut self, at: usize) {
        if let Ok(slot) = self.slots.remove(at) {
            // `free` had room for this buffer before `push` took it.
            let _ = self.free.push_within_capacity(slot.buffer);
        }
    }
}

#[kunit_tests(vfio_migration_queue)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept() -> Result {
        let mut q = queue(3)?;
        q.push('a');
        q.push('b');
        assert_eq!(q.in_flight(), 2);
        assert_eq!(q.oldest_read(), Some(&'a'));
        q.complete(10);
        assert_eq!(q.oldest_read(), Some(&'b'));
        assert!(matches!(
            q.front(),
            Front::Ready {
                from: 0,
                to: 10,
                ..
            }
        ));
        assert_eq!(q.unread(), 10);
        q.consume(4);
        assert!(matches!(
            q.front(),
            Front::Ready {
                from: 4,
                to: 10,
                ..
            }
        ));
        q.complete(5);
        assert_eq!(q.unread(), 11);
        q.consume(6);
        assert!(matches!(q.front(), Front::Ready { from: 0, to: 5, .. }));
        q.consume(5);
        assert!(matches!(q.front(), Front::Empty));
        Ok(())
    }

    #[test]
    fn buffers_come_back() -> Result {
        let mut q = queue(2)?;
        for round in 0..10 {
            q.push('x');
            q.push('y');
            assert!(q.spare().is_none());
            q.complete(1);
            // A read that delivered nothing frees its buffer at once.
            q.complete(0);
            assert_eq!(q.unread(), 1);
            assert!(q.spare().is_some());
            q.consume(1);
            assert_eq!(q.free.len(), 2);
            assert_eq!(q.in_flight(), 0);
            let _ = round;
        }
        Ok(())
    }

    #[test]
    fn too_much_is_harmless() -> Result {
        let mut q = queue(1)?;
        q.complete(5);
        q.consume(5);
        q.push('x');
        q.push('y');
        assert_eq!(q.in_flight(), 1);
        q.complete(5);
        q.consume(500);
        assert!(matches!(q.front(), Front::Empty));
        assert!(Queue::<u32, char>::none().spare().is_none());
        Ok(())
    }

    fn queue(n: u32) -> Result<Queue<u32, char>> {
        let mut buffers = KVec::new();
        for i in 0..n {
            buffers.push(i, GFP_KERNEL)?;
        }
        Queue::new(buffers)
    }
}
