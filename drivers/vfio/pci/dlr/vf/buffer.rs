// SPDX-License-Identifier: GPL-2.0

//! The queue between the device and the user of a save session: buffers that are
//! being filled, in the order of their reads, and filled ones that wait.
//!
//! Pure: generic over the buffer and over what stands for a read under way. The
//! buffers are made once, at the start of a session; nothing is allocated later,
//! when the guest stands still.

use kernel::prelude::*;

/// What is at the head of the queue.
pub(super) enum Front<'a, B, T> {
    /// Nothing under way and nothing to read.
    Empty,
    /// The oldest read has not come to its end.
    InFlight(&'a T),
    /// Bytes `[from, to)` of this buffer are next.
    Ready {
        /// The buffer.
        buffer: &'a B,
        /// First unread byte.
        from: usize,
        /// One past the last byte.
        to: usize,
    },
}

struct Slot<B, T> {
    buffer: B,
    content: Content<T>,
}

enum Content<T> {
    InFlight(T),
    Ready { from: usize, to: usize },
}

/// See the module's page.
pub(super) struct Queue<B, T> {
    /// Rising order of reads. All `Ready` slots stand before all `InFlight` ones:
    /// reads are completed in order.
    slots: KVec<Slot<B, T>>,
    free: KVec<B>,
}

impl<B, T> Queue<B, T> {
    /// An empty queue with these buffers.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(buffers: KVec<B>) -> Result<Self> {
        let slots = KVec::with_capacity(buffers.len(), GFP_KERNEL_ACCOUNT)?;
        Ok(Self {
            slots,
            free: buffers,
        })
    }

    /// A queue that has no buffer and so does nothing.
    pub(super) const fn none() -> Self {
        Self {
            slots: KVec::new(),
            free: KVec::new(),
        }
    }

    /// The buffer for the next read, if there is one to spare.
    pub(super) fn spare(&self) -> Option<&B> {
        self.free.last()
    }

    /// The read into [`Self::spare`] was handed to the device.
    pub(super) fn push(&mut self, read: T) {
        if let Some(buffer) = self.free.pop() {
            // There is room for as many slots as there are buffers.
            let slot = Slot {
                buffer,
                content: Content::InFlight(read),
            };
            let _ = self.slots.push_within_capacity(slot);
        }
    }

    /// The head of the queue.
    pub(super) fn front(&self) -> Front<'_, B, T> {
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

    /// The oldest read that has not come to its end.
    pub(super) fn oldest_read(&self) -> Option<&T> {
        self.slots.iter().find_map(|slot| match &slot.content {
            Content::InFlight(read) => Some(read),
            Content::Ready { .. } => None,
        })
    }

    /// The oldest read has delivered `bytes`.
    pub(super) fn complete(&mut self, bytes: usize) {
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

    /// The user has taken `bytes` from the head.
    pub(super) fn consume(&mut self, bytes: usize) {
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

    /// Bytes that the device has delivered and the user not taken.
    pub(super) fn unread(&self) -> u64 {
        self.slots
            .iter()
            .map(|slot| match slot.content {
                Content::InFlight(_) => 0,
                // OVERFLOW: `from <= to`, and buffers are small.
                Content::Ready { from, to } => (to - from) as u64,
            })
            .sum()
    }

    /// Reads under way.
    pub(super) fn in_flight(&self) -> usize {
        self.slots
            .iter()
            .filter(|s| matches!(s.content, Content::InFlight(_)))
            .count()
    }

    fn release(&mut self, at: usize) {
        if let Ok(slot) = self.slots.remove(at) {
            // There was room for it when it was pushed.
            let _ = self.free.push_within_capacity(slot.buffer);
        }
    }
}

#[kunit_tests(dlr_vf_buffer)]
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
            // Nothing delivered: free at once.
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
