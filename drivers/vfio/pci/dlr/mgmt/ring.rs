// SPDX-License-Identifier: GPL-2.0

//! Ring arithmetic: free-running counts, slots and phase bits. Knows no device and no lock.

use crate::proto::admin::{
    self,
    CQE_WORDS,
    SQE_WORDS, //
};
use kernel::{
    prelude::*,
    sync::barrier::{
        dma_mb,
        Read, //
    },
};

/// Memory of words of eight bytes, each accessed at once.
pub(super) trait Words {
    /// The word at `index`; `None` out of bounds.
    fn get(&self, index: usize) -> Option<u64>;
    /// Sets the word at `index`; `false` out of bounds.
    fn set(&self, index: usize, value: u64) -> bool;
}

/// Entries of a log ring that are copied at once; the smallest ring has so many.
pub(super) const CHUNK: usize = 16;

static_assert!(CHUNK == 1 << *crate::proto::LOG_RING_ORDERS.start());

/// Memory of a log ring.
pub(super) trait Chunks {
    /// A copy of a chunk, byte by byte: for entries that the device does not write meanwhile.
    fn chunk(&self, index: usize) -> Option<[u64; CHUNK]>;
    /// One word of it, in one access.
    fn word(&self, index: usize, offset: usize) -> Option<u64>;
}

/// What [`LogConsumer::fetch`] found.
pub(super) struct Fetched {
    words: [u64; CHUNK],
    first: usize,
    end: usize,
}

impl Fetched {
    /// The words, oldest first.
    #[inline]
    pub(super) fn words(&self) -> &[u64] {
        self.words.get(self.first..self.end).unwrap_or(&[])
    }
}

/// First word of the slot of `count` in a ring of `1 << order` entries of `words` words.
fn slot(count: u32, order: u32, words: usize) -> usize {
    let mask = (1u32 << order).wrapping_sub(1);
    (count & mask) as usize * words
}

/// The phase bit of an entry with this count: 1 on the first pass.
fn phase_of(count: u32, order: u32) -> bool {
    (count >> order) & 1 == 0
}

/// The driver's end of the submission ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Producer {
    order: u32,
    tail: u32,
}

impl Producer {
    /// An empty ring.
    pub(super) fn new(order: u32) -> Self {
        Self { order, tail: 0 }
    }

    /// Writes an entry and returns the new producer count. The caller makes sure that a slot is free.
    ///
    /// # Errors
    ///
    /// `EIO` when the memory is too small.
    pub(super) fn push(&mut self, ring: &impl Words, entry: &[u64; SQE_WORDS]) -> Result<u32> {
        let first = slot(self.tail, self.order, SQE_WORDS);
        for (i, &word) in entry.iter().enumerate() {
            if !ring.set(first + i, word) {
                return Err(EIO);
            }
        }
        self.tail = self.tail.wrapping_add(1);
        Ok(self.tail)
    }

    /// Whether the device can have consumed up to this count, of which it tells the low 16 bits.
    pub(super) fn can_have_consumed(&self, sq_head: u16) -> bool {
        // CAST: Modulo 2^16, which is more than the ring has slots.
        let outstanding = (self.tail as u16).wrapping_sub(sq_head);
        u32::from(outstanding) <= 1 << self.order
    }
}

/// The driver's end of the completion ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Consumer {
    order: u32,
    head: u32,
}

impl Consumer {
    /// An empty ring in zeroed memory.
    pub(super) fn new(order: u32) -> Self {
        Self { order, head: 0 }
    }

    /// The next entry, if the device has written it.
    pub(super) fn pop(&mut self, ring: &impl Words) -> Option<[u64; CQE_WORDS]> {
        let first = slot(self.head, self.order, CQE_WORDS);
        let second = ring.get(first + 1)?;
        if admin::phase(second) != phase_of(self.head, self.order) {
            return None;
        }
        // ORDERING: The first half, and the command's buffer, after the phase bit; the device writes
        // them before it.
        dma_mb(Read);
        let entry = [ring.get(first)?, second];
        self.head = self.head.wrapping_add(1);
        Some(entry)
    }

    /// The consumer count.
    pub(super) fn head(&self) -> u32 {
        self.head
    }
}

/// The driver's end of a log ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogConsumer {
    order: u32,
    head: u32,
}

impl LogConsumer {
    /// An empty ring in zeroed memory.
    pub(super) fn new(order: u32) -> Self {
        Self { order, head: 0 }
    }

    /// Slots of the ring.
    pub(super) fn size(&self) -> u32 {
        1 << self.order
    }

    /// The consumer count.
    pub(super) fn head(&self) -> u32 {
        self.head
    }

    /// Entries that stand in the ring when the device has posted `posted`, modulo 2^31, in all. `None`
    /// when that is more than fit.
    pub(super) fn outstanding(&self, posted: u32) -> Option<u32> {
        let count = posted.wrapping_sub(self.head) & 0x7fff_ffff;
        (count <= self.size()).then_some(count)
    }

    /// The next entries, undecoded: at most `most`, and never beyond the end of a chunk.
    ///
    /// `posted` says that the device has posted all of them, so that they can be copied at once. Else each
    /// is read in one access: an entry is one word, and seeing its phase is seeing all of it.
    #[inline]
    pub(super) fn fetch(&self, ring: &impl Chunks, most: u32, posted: bool) -> Fetched {
        // CAST: Within the ring.
        let place = slot(self.head, self.order, 1);
        let (chunk, first) = (place / CHUNK, place % CHUNK);
        let limit = first.saturating_add(most as usize).min(CHUNK);
        let mut fetched = Fetched {
            words: [0; CHUNK],
            first,
            end: first,
        };
        if posted {
            if let Some(words) = ring.chunk(chunk) {
                fetched.words = words;
            }
        }
        let phase = phase_of(self.head, self.order);
        let words = fetched.words.iter_mut().enumerate();
        for (i, word) in words.take(limit).skip(first) {
            if !posted {
                *word = ring.word(chunk, i).unwrap_or(0);
            }
            if crate::proto::log::phase(*word) != phase {
                break;
            }
            fetched.end = i.wrapping_add(1);
        }
        fetched
    }

    /// One entry has been consumed.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.head = self.head.wrapping_add(1);
    }
}

/// Plain memory as a ring.
#[cfg(CONFIG_KUNIT = "y")]
pub(super) struct TestRing<const N: usize>([core::cell::Cell<u64>; N]);

#[cfg(CONFIG_KUNIT = "y")]
impl<const N: usize> TestRing<N> {
    /// Zeroed.
    pub(super) fn new() -> Self {
        Self([const { core::cell::Cell::new(0) }; N])
    }
}

#[cfg(CONFIG_KUNIT = "y")]
impl<const N: usize> Words for TestRing<N> {
    fn get(&self, index: usize) -> Option<u64> {
        self.0.get(index).map(|c| c.get())
    }

    fn set(&self, index: usize, value: u64) -> bool {
        self.0.get(index).map(|c| c.set(value)).is_some()
    }
}

#[kunit_tests(dlr_mgmt_ring)]
mod tests {
    use super::*;
    use crate::proto::Entry;

    #[test]
    fn submission_wraps() -> Result {
        let ring = TestRing::<{ 4 * SQE_WORDS }>::new();
        let mut producer = Producer::new(2);
        for n in 0..10u32 {
            assert_eq!(producer.push(&ring, &[n.into(); SQE_WORDS])?, n + 1);
        }
        for (i, want) in [8, 9, 6, 7].into_iter().enumerate() {
            assert_eq!(ring.get(i * SQE_WORDS), Some(want));
            assert_eq!(ring.get(i * SQE_WORDS + SQE_WORDS - 1), Some(want));
        }
        Ok(())
    }

    #[test]
    fn submission_beyond_memory_fails() {
        let ring = TestRing::<SQE_WORDS>::new();
        let mut producer = Producer::new(2);
        assert!(producer.push(&ring, &[0; SQE_WORDS]).is_ok());
        assert!(producer.push(&ring, &[0; SQE_WORDS]).is_err());
    }

    #[test]
    fn consumption_is_checked() {
        let producer = Producer {
            order: 2,
            tail: 0x1_0002,
        };
        for (head, want) in [(2, true), (0xfffe, true), (0xfffd, false), (3, false)] {
            assert_eq!(producer.can_have_consumed(head), want);
        }
    }

    fn complete(ring: &TestRing<8>, count: u32) {
        let phase = u64::from(count >> 2 & 1 == 0) << 48;
        let first = (count & 3) as usize * CQE_WORDS;
        ring.set(first, u64::from(count));
        ring.set(first + 1, phase | u64::from(count) << 16);
    }

    #[test]
    fn completions_follow_the_phase() {
        let ring = TestRing::<8>::new();
        let mut consumer = Consumer::new(2);
        assert_eq!(consumer.pop(&ring), None);
        for count in 0..13 {
            complete(&ring, count);
            assert_eq!(consumer.pop(&ring).map(|e| e[0]), Some(count.into()));
            // What the last pass left behind is not taken for new.
            assert_eq!(consumer.pop(&ring), None);
        }
        assert_eq!(consumer.head(), 13);
        // A whole ring at once.
        for count in 13..17 {
            complete(&ring, count);
        }
        for count in 13..17u64 {
            assert_eq!(consumer.pop(&ring).map(|e| e[0]), Some(count));
        }
        assert_eq!(consumer.pop(&ring), None);
    }

    struct TestLog([core::cell::Cell<u64>; 2 * CHUNK]);

    impl Chunks for TestLog {
        fn chunk(&self, index: usize) -> Option<[u64; CHUNK]> {
            let mut words = [0; CHUNK];
            for (i, word) in words.iter_mut().enumerate() {
                *word = self.word(index, i)?;
            }
            Some(words)
        }

        fn word(&self, index: usize, offset: usize) -> Option<u64> {
            self.0.get(index * CHUNK + offset).map(|c| c.get())
        }
    }

    #[test]
    fn log_follows_the_phase() {
        let ring = TestLog([const { core::cell::Cell::new(0) }; 2 * CHUNK]);
        let mut consumer = LogConsumer::new(5);
        for count in 0..150u64 {
            let word = Entry::Sync { cookie: count }.encode(count >> 5 & 1 == 0);
            for posted in [false, true] {
                assert_eq!(consumer.fetch(&ring, 99, posted).words(), &[]);
            }
            ring.0[(count & 31) as usize].set(word);
            for posted in [false, true] {
                assert_eq!(consumer.fetch(&ring, 99, posted).words(), &[word]);
                assert_eq!(consumer.fetch(&ring, 0, posted).words(), &[]);
            }
            consumer.advance();
        }
    }

    #[test]
    fn posted_counts_modulo_2_to_31() {
        let consumer = LogConsumer {
            order: 4,
            head: 0x7fff_fffe,
        };
        assert_eq!(consumer.outstanding(0x7fff_fffe), Some(0));
        assert_eq!(consumer.outstanding(0x7fff_ffff), Some(1));
        assert_eq!(consumer.outstanding(14), Some(16));
        assert_eq!(consumer.outstanding(15), None);
        assert_eq!(consumer.outstanding(0x7fff_fffd), None);
        let later = LogConsumer {
            order: 4,
            head: 0x8000_0001,
        };
        assert_eq!(later.outstanding(1), Some(0));
        assert_eq!(later.outstanding(3), Some(2));
    }
}
