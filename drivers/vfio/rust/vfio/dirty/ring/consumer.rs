// SPDX-License-Identifier: GPL-2.0

//! The driver's end of a log ring. Accesses no device and takes no lock.

#[cfg(CONFIG_KUNIT = "y")]
mod tests_of_consumers;

use super::format::Format;
use crate::{
    ext::cmdq::ring::{
        phase_of,
        slot, //
    },
    vfio::dirty::run::Run, //
};

/// Number of entries that are copied at once. A ring has at least as many.
pub(crate) const CHUNK: usize = 16;

/// Memory of a log ring, in chunks of [`CHUNK`] words.
pub(super) trait Chunks {
    /// Copies a chunk, not word by word: the copy of a word that the device writes meanwhile may be
    /// torn, so the caller must not use it.
    fn chunk(&self, index: usize) -> Option<[u64; CHUNK]>;
    /// Calls `f` with each word from a chunk on, loaded in one access, and stores the results in
    /// `to`, whose length is a multiple of [`CHUNK`]. Returns `false` out of bounds.
    fn read<T>(&self, index: usize, to: &mut [T], f: impl FnMut(u64) -> T) -> bool;
    /// Loads one word of a chunk in one access.
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

    /// Returns how many unconsumed entries the ring holds if the device has posted `posted`
    /// entries so far, or `None` if that is more than fit.
    pub(super) fn outstanding<F: Format>(&self, posted: u32) -> Option<u32> {
        let count = posted.wrapping_sub(self.head) & u32::MAX >> (32 - F::COUNT_BITS);
        (count <= self.size()).then_some(count)
    }

    /// Copies the next entries: at most `most`, and not beyond the end of a chunk.
    ///
    /// If the device has `posted` all of them, they are copied at once. Otherwise each is loaded in
    /// one access: an entry is one word, so a load that sees its phase sees all of it.
    #[inline]
    pub(super) fn fetch<F: Format>(&self, ring: &impl Chunks, most: u32, posted: bool) -> Fetched {
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
            if F::phase(*word) != phase {
                break;
            }
            fetched.end = i.wrapping_add(1);
        }
        fetched
    }

    /// Decodes as many of the next entries into `runs` as are whole chunks and fit, provided that
    /// the device has written all of them and all are of type WRITE. Returns their number.
    /// Otherwise returns 0 and leaves undefined runs in `runs`.
    ///
    /// This is one pass over the words without a branch for each word. Each word is loaded in one
    /// access: an entry is one word, so a load that sees its phase sees all of it.
    #[inline(always)]
    pub(super) fn fetch_writes<F: Format>(&self, ring: &impl Chunks, runs: &mut [Run]) -> usize {
        let place = slot(self.head, self.order, 1);
        let above = (self.size() as usize).saturating_sub(place);
        let count = runs.len().min(above) / CHUNK * CHUNK;
        let runs = match runs.get_mut(..count) {
            Some(runs) if place % CHUNK == 0 => runs,
            _ => return 0,
        };
        let tag = F::write_tag(phase_of(self.head, self.order));
        let mut wrong = 0;
        let read = ring.read(place / CHUNK, runs, |word| {
            wrong |= word ^ tag;
            Run::from_word(word >> F::TAG_BITS)
        });
        if read && wrong & ((1 << F::TAG_BITS) - 1) == 0 {
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
