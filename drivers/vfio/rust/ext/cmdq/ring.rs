// SPDX-License-Identifier: GPL-2.0

//! The driver's ends of a submission ring and a completion ring: free-running counts, slots and
//! phase bits.

use kernel::{
    prelude::*,
    sync::barrier::{
        dma_mb,
        Read, //
    },
};

/// Memory that is accessed in words of eight bytes.
pub(crate) trait Words {
    /// Loads the word at `index` in one access; `None` if that is out of bounds.
    fn get(&self, index: usize) -> Option<u64>;
    /// Stores to the word at `index` in one access; `false` if that is out of bounds.
    fn set(&self, index: usize, value: u64) -> bool;
    /// Returns the number of words.
    fn len(&self) -> usize;
}

/// Returns the index of the first word of entry `count`, in a ring of `1 << order` entries of
/// `words` words.
pub(crate) fn slot(count: u32, order: u32, words: usize) -> usize {
    let mask = (1u32 << order).wrapping_sub(1);
    (count & mask) as usize * words
}

/// Returns the phase bit of entry `count`: 1 on the first pass.
pub(crate) fn phase_of(count: u32, order: u32) -> bool {
    (count >> order) & 1 == 0
}

/// The driver's end of a submission ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Producer {
    order: u32,
    tail: u32,
    /// Count of the entries that the device is known to have fetched.
    fetched: u32,
}

impl Producer {
    /// Creates the producer of an empty ring.
    pub(crate) fn new(order: u32) -> Self {
        Self {
            order,
            tail: 0,
            fetched: 0,
        }
    }

    /// Returns whether the device is known to have fetched the entry that the next one would
    /// overwrite.
    ///
    /// Entries that may not have been fetched belong to commands in flight, or to commands that an
    /// abort has dropped. Without aborts there is room whenever a command has a slot.
    pub(crate) fn has_room(&self) -> bool {
        self.tail.wrapping_sub(self.fetched) < 1 << self.order
    }

    /// Returns the producer count.
    pub(crate) fn tail(&self) -> u32 {
        self.tail
    }

    /// Writes an entry. The caller checks for room first.
    ///
    /// # Errors
    ///
    /// `EIO` if the memory is smaller than the ring.
    pub(crate) fn push<const WORDS: usize>(
        &mut self,
        ring: &impl Words,
        entry: &[u64; WORDS],
    ) -> Result {
        let first = slot(self.tail, self.order, WORDS);
        for (i, &word) in entry.iter().enumerate() {
            if !ring.set(first + i, word) {
                return Err(EIO);
            }
        }
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// Notes the device's consumer count, given its low 16 bits. Returns `false` if the device
    /// cannot have consumed that many entries.
    ///
    /// A count below an earlier one is valid, because completions may overtake each other.
    pub(crate) fn consumed(&mut self, sq_head: u16) -> bool {
        // CAST: Modulo 2^16, which is more than the ring has slots.
        let left = u32::from((self.tail as u16).wrapping_sub(sq_head));
        if left > 1 << self.order {
            return false;
        }
        if left < self.tail.wrapping_sub(self.fetched) {
            self.fetched = self.tail.wrapping_sub(left);
        }
        true
    }
}

/// The driver's end of a completion ring. The device writes the last word of an entry last, and it
/// has the phase bit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consumer {
    order: u32,
    head: u32,
}

impl Consumer {
    /// Creates the consumer of an empty ring in zeroed memory.
    pub(crate) fn new(order: u32) -> Self {
        Self { order, head: 0 }
    }

    /// Takes the next entry, of `WORDS` words, if the device has written it. `phase` returns the
    /// phase bit of the last word.
    pub(crate) fn pop<const WORDS: usize>(
        &mut self,
        ring: &impl Words,
        phase: impl Fn(u64) -> bool,
    ) -> Option<[u64; WORDS]> {
        let first = slot(self.head, self.order, WORDS);
        let mut entry = [0; WORDS];
        let (last, others) = entry.split_last_mut()?;
        *last = ring.get(first + others.len())?;
        if phase(*last) != phase_of(self.head, self.order) {
            return None;
        }
        // ORDERING: Loads the rest of the entry, and the command's buffer, after the phase bit; the
        // device writes them before it.
        dma_mb(Read);
        for (i, word) in others.iter_mut().enumerate() {
            *word = ring.get(first + i)?;
        }
        self.head = self.head.wrapping_add(1);
        Some(entry)
    }

    /// Returns the consumer count.
    pub(crate) fn head(&self) -> u32 {
        self.head
    }
}

/// A ring in plain memory, for tests.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) struct TestRing<const N: usize>([core::cell::Cell<u64>; N]);

#[cfg(CONFIG_KUNIT = "y")]
impl<const N: usize> TestRing<N> {
    /// Creates a ring of zeroes.
    pub(crate) fn new() -> Self {
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

    fn len(&self) -> usize {
        N
    }
}

#[kunit_tests(ext_cmdq_ring)]
mod tests {
    use super::*;

    /// Number of words of an entry of the submission ring, and of the completion ring.
    const ENTRY: usize = 8;
    const DONE: usize = 2;

    fn phase(last: u64) -> bool {
        last >> 48 & 1 != 0
    }

    #[test]
    fn submission_wraps() -> Result {
        let ring = TestRing::<{ 4 * ENTRY }>::new();
        let mut producer = Producer::new(2);
        for n in 0..10u32 {
            producer.push(&ring, &[n.into(); ENTRY])?;
            assert_eq!(producer.tail(), n + 1);
        }
        for (i, want) in [8, 9, 6, 7].into_iter().enumerate() {
            assert_eq!(ring.get(i * ENTRY), Some(want));
            assert_eq!(ring.get(i * ENTRY + ENTRY - 1), Some(want));
        }
        Ok(())
    }

    #[test]
    fn submission_beyond_memory_fails() {
        let ring = TestRing::<ENTRY>::new();
        let mut producer = Producer::new(2);
        assert!(producer.push(&ring, &[0; ENTRY]).is_ok());
        assert!(producer.push(&ring, &[0; ENTRY]).is_err());
    }

    #[test]
    fn consumption_is_checked() {
        let mut producer = Producer {
            order: 2,
            tail: 0x1_0002,
            fetched: 0xfffe,
        };
        for (head, want) in [(0xfffe, true), (0xfffd, false), (3, false), (2, true)] {
            assert_eq!(producer.consumed(head), want);
        }
    }

    #[test]
    fn nothing_is_overwritten_that_may_not_have_been_fetched() -> Result {
        let ring = TestRing::<{ 4 * ENTRY }>::new();
        let mut producer = Producer::new(2);
        for _ in 0..4 {
            assert!(producer.has_room());
            producer.push(&ring, &[0; ENTRY])?;
        }
        assert!(!producer.has_room());
        assert!(!producer.consumed(5));
        assert!(!producer.has_room());
        assert!(producer.consumed(3) && producer.has_room());
        // A completion that overtook the previous one.
        assert!(producer.consumed(1));
        for _ in 0..3 {
            assert!(producer.has_room());
            producer.push(&ring, &[0; ENTRY])?;
        }
        assert!(!producer.has_room());
        Ok(())
    }

    fn complete(ring: &TestRing<8>, count: u32) {
        let phase = u64::from(count >> 2 & 1 == 0) << 48;
        let first = (count & 3) as usize * DONE;
        ring.set(first, u64::from(count));
        ring.set(first + 1, phase | u64::from(count) << 16);
    }

    #[test]
    fn completions_follow_the_phase() {
        let ring = TestRing::<8>::new();
        let mut consumer = Consumer::new(2);
        assert_eq!(consumer.pop::<DONE>(&ring, phase), None);
        for count in 0..13 {
            complete(&ring, count);
            assert_eq!(
                consumer.pop::<DONE>(&ring, phase).map(|e| e[0]),
                Some(count.into())
            );
            // Entries of the last pass are not taken for new ones.
            assert_eq!(consumer.pop::<DONE>(&ring, phase), None);
        }
        assert_eq!(consumer.head(), 13);
        // A whole ring of entries at once.
        for count in 13..17 {
            complete(&ring, count);
        }
        for count in 13..17u64 {
            assert_eq!(
                consumer.pop::<DONE>(&ring, phase).map(|e| e[0]),
                Some(count)
            );
        }
        assert_eq!(consumer.pop::<DONE>(&ring, phase), None);
    }
}
