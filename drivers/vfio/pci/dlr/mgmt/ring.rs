// SPDX-License-Identifier: GPL-2.0

//! Ring arithmetic: free-running counts, slots and phase bits. Accesses no device and takes no
//! lock.

#[cfg(CONFIG_KUNIT = "y")]
mod tests_of_rings;

use crate::{
    proto::{
        admin::{
            self,
            CQE_WORDS,
            SQE_WORDS, //
        },
        log::{
            TAG_MASK,
            WRITE_SHIFT, //
        },
    },
    vfio::dirty::run::Run, //
};
use kernel::{
    prelude::*,
    sync::barrier::{
        dma_mb,
        Read, //
    },
};

/// Memory that is accessed in words of eight bytes.
pub(super) trait Words {
    /// Loads the word at `index` in one access; `None` if that is out of bounds.
    fn get(&self, index: usize) -> Option<u64>;
    /// Stores to the word at `index` in one access; `false` if that is out of bounds.
    fn set(&self, index: usize, value: u64) -> bool;
}

/// Number of log entries that are copied at once: the size of the smallest ring.
pub(super) const CHUNK: usize = 16;

static_assert!(CHUNK == 1 << *crate::proto::LOG_RING_ORDERS.start());

/// Memory of a log ring, in chunks of [`CHUNK`] words.
pub(super) trait Chunks {
    /// Copies a chunk, not word by word: a word that the device writes meanwhile may be torn, and
    /// the caller must not use it.
    fn chunk(&self, index: usize) -> Option<[u64; CHUNK]>;
    /// Fills `to`, which is whole chunks, with what `f` makes of the words from a chunk on, each
    /// read in one access; `false` out of bounds.
    fn read<T>(&self, index: usize, to: &mut [T], f: impl FnMut(u64) -> T) -> bool;
    /// One word of it, in one access.
    fn word(&self, index: usize, offset: usize) -> Option<u64>;
}

/// Entries that [`LogConsumer::fetch`] has copied.
pub(super) struct Fetched {
    words: [u64; CHUNK],
    first: usize,
    end: usize,
}

impl Fetched {
    /// Returns the entries, oldest first.
    #[inline]
    pub(super) fn words(&self) -> &[u64] {
        self.words.get(self.first..self.end).unwrap_or(&[])
    }
}

/// Returns the index of the first word of entry `count`, in a ring of `1 << order` entries of
/// `words` words.
fn slot(count: u32, order: u32, words: usize) -> usize {
    let mask = (1u32 << order).wrapping_sub(1);
    (count & mask) as usize * words
}

/// Returns the phase bit of entry `count`: 1 on the first pass.
fn phase_of(count: u32, order: u32) -> bool {
    (count >> order) & 1 == 0
}

/// The driver's end of the submission ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Producer {
    order: u32,
    tail: u32,
    /// Count of the entries that the device is known to have fetched.
    fetched: u32,
}

impl Producer {
    /// Creates the producer of an empty ring.
    pub(super) fn new(order: u32) -> Self {
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
    pub(super) fn has_room(&self) -> bool {
        self.tail.wrapping_sub(self.fetched) < 1 << self.order
    }

    /// Returns the producer count.
    pub(super) fn tail(&self) -> u32 {
        self.tail
    }

    /// Writes an entry. The caller checks for room first.
    ///
    /// # Errors
    ///
    /// `EIO` if the memory is smaller than the ring.
    pub(super) fn push(&mut self, ring: &impl Words, entry: &[u64; SQE_WORDS]) -> Result {
        let first = slot(self.tail, self.order, SQE_WORDS);
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
    pub(super) fn consumed(&mut self, sq_head: u16) -> bool {
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

/// The driver's end of the completion ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Consumer {
    order: u32,
    head: u32,
}

impl Consumer {
    /// Creates the consumer of an empty ring in zeroed memory.
    pub(super) fn new(order: u32) -> Self {
        Self { order, head: 0 }
    }

    /// Takes the next entry, if the device has written it.
    pub(super) fn pop(&mut self, ring: &impl Words) -> Option<[u64; CQE_WORDS]> {
        let first = slot(self.head, self.order, CQE_WORDS);
        let second = ring.get(first + 1)?;
        if admin::phase(second) != phase_of(self.head, self.order) {
            return None;
        }
        // ORDERING: Loads the first half, and the command's buffer, after the phase bit; the device
        // writes them before it.
        dma_mb(Read);
        let entry = [ring.get(first)?, second];
        self.head = self.head.wrapping_add(1);
        Some(entry)
    }

    /// Returns the consumer count.
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
    /// Creates the consumer of an empty ring in zeroed memory.
    pub(super) fn new(order: u32) -> Self {
        Self { order, head: 0 }
    }

    /// Returns the number of slots of the ring.
    pub(super) fn size(&self) -> u32 {
        1 << self.order
    }

    /// Returns the consumer count.
    pub(super) fn head(&self) -> u32 {
        self.head
    }

    /// Returns how many unconsumed entries the ring holds if LOG_POSTED reads as `posted`, or
    /// `None` if that is more than fit.
    pub(super) fn outstanding(&self, posted: u32) -> Option<u32> {
        let count = posted.wrapping_sub(self.head) & 0x7fff_ffff;
        (count <= self.size()).then_some(count)
    }

    /// Copies the next entries: at most `most`, and not beyond the end of a chunk.
    ///
    /// If the device has `posted` all of them, they are copied at once. Otherwise each is loaded in
    /// one access: an entry is one word, so a load that sees its phase sees all of it.
    #[inline]
    pub(super) fn fetch(&self, ring: &impl Chunks, most: u32, posted: bool) -> Fetched {
        // CAST: Within the ring.
        let place = slot(self.head, self.order, 1);
        let (chunk, first) = (place / CHUNK, place % CHUNK);
        let limit = first.saturating_add(most as usize).min(CHUNK);
        let phase = phase_of(self.head, self.order);
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

    /// As many of the next entries as are whole chunks and fit into `runs`, if all of them have
    /// been written and are of type WRITE: decoded. Returns how many; 0, and anything in `runs`,
    /// otherwise.
    ///
    /// This is one pass over the words without a branch for each. Each is loaded in one access: an
    /// entry is one word, so a load that sees its phase sees all of it.
    #[inline(always)]
    pub(super) fn fetch_writes(&self, ring: &impl Chunks, runs: &mut [Run]) -> usize {
        // CAST: Within the ring.
        let place = slot(self.head, self.order, 1);
        let above = (self.size() as usize).saturating_sub(place);
        let count = runs.len().min(above) / CHUNK * CHUNK;
        let runs = match runs.get_mut(..count) {
            Some(runs) if place % CHUNK == 0 => runs,
            _ => return 0,
        };
        let tag = crate::proto::log::write_tag(phase_of(self.head, self.order));
        let mut wrong = 0;
        let read = ring.read(place / CHUNK, runs, |word| {
            wrong |= word ^ tag;
            Run::from_word(word >> WRITE_SHIFT)
        });
        if read && wrong & TAG_MASK == 0 {
            count
        } else {
            0
        }
    }

    /// Adds `entries` to the consumer count.
    #[inline]
    pub(super) fn advance(&mut self, entries: u32) {
        self.head = self.head.wrapping_add(entries);
    }
}

/// A ring in plain memory, for tests.
#[cfg(CONFIG_KUNIT = "y")]
pub(super) struct TestRing<const N: usize>([core::cell::Cell<u64>; N]);

#[cfg(CONFIG_KUNIT = "y")]
impl<const N: usize> TestRing<N> {
    /// Creates a ring of zeroes.
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
