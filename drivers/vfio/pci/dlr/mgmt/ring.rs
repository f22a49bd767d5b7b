// SPDX-License-Identifier: GPL-2.0

//! The driver's end of a log ring. Accesses no device and takes no lock.

#[cfg(CONFIG_KUNIT = "y")]
mod tests_of_rings;

use crate::{
    kext::cmdq::ring::{
        phase_of,
        slot, //
    },
    proto::log::{
        TAG_MASK,
        WRITE_SHIFT, //
    },
    vfio::dirty::run::Run, //
};

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
