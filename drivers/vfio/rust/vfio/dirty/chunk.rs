// SPDX-License-Identifier: GPL-2.0

//! The dirty granules of a piece of 8192 granules: 32 MiB of pages of 4 KiB.
//!
//! A chunk begins as a list of up to 32 offsets, then 128, and becomes a bitmap with the next. So a
//! lone granule costs 64 bytes, and any chunk at most 1 bit for each of its granules. More steps
//! would take less memory, but each costs an allocation, which takes as long as marking a hundred
//! granules.
//!
//! A list is neither sorted nor free of repeats: adding to it is one store. A device that filters
//! repeats makes none; one that does not only makes the list a bitmap earlier.
//!
//! The length of a list stands beside the pointer and not in the memory that it points to. So a
//! mark in a list knows where to store without waiting for memory that is not in a cache. Bits are
//! not counted, because a count would be read and written for every mark: `clear` looks for a bit.

use super::{
    memory::MemoryLimit,
    span::{
        Merger,
        Span, //
    },
    words, //
};
use kernel::prelude::*;
use pin_init::Zeroable;

/// Log2 of [`CHUNK_GRANULES`].
pub(super) const CHUNK_SHIFT: u32 = 13;
/// Granules of a chunk.
pub(crate) const CHUNK_GRANULES: u64 = 1 << CHUNK_SHIFT;
/// What a bitmap takes.
pub(super) const CHUNK_BYTES: usize = size_of::<Bitmap>();

/// Offsets of a short list and of a long one. Sizes of the slab, so nothing is wasted.
const SHORT: usize = 32;
const LONG: usize = 128;

/// Words of a bitmap.
const BITMAP: usize = CHUNK_GRANULES as usize / 64;
type Bitmap = [u64; BITMAP];

/// The dirty granules of a chunk, of which there is at least one.
///
/// # Invariants
///
/// `count` is the number of offsets in a list, which are its first. It is not 0, and a bitmap has a
/// bit that is set.
pub(super) enum Chunk {
    Short {
        count: u16,
        offsets: KBox<[u16; SHORT]>,
    },
    Long {
        count: u16,
        offsets: KBox<[u16; LONG]>,
    },
    Bits(KBox<Bitmap>),
}

impl Chunk {
    /// A chunk of the granules `[lo, hi)`, which is not empty; `None` without memory.
    pub(super) fn with(lo: u64, hi: u64, memory: &mut MemoryLimit) -> Option<Self> {
        let mut this = Self::empty(hi.saturating_sub(lo), memory)?;
        // INVARIANT: There is room for what makes it not empty.
        this.add(lo, hi);
        Some(this)
    }

    /// With room for so many granules, and none yet.
    fn empty(granules: u64, memory: &mut MemoryLimit) -> Option<Self> {
        fn zeroed<T: Zeroable>(memory: &mut MemoryLimit) -> Option<KBox<T>> {
            memory.allocate(size_of::<T>(), |flags| {
                KBox::init(pin_init::init_zeroed::<T>(), flags)
            })
        }
        let count = 0;
        if granules <= SHORT as u64 {
            let offsets = zeroed(memory)?;
            return Some(Self::Short { count, offsets });
        }
        if granules <= LONG as u64 {
            let offsets = zeroed(memory)?;
            return Some(Self::Long { count, offsets });
        }
        Some(Self::Bits(zeroed(memory)?))
    }

    /// Gives its memory back.
    pub(super) fn free(self, memory: &mut MemoryLimit) {
        memory.give(self.bytes());
    }

    /// What it takes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Short { offsets, .. } => size_of_val(&**offsets),
            Self::Long { offsets, .. } => size_of_val(&**offsets),
            Self::Bits(words) => size_of_val(&**words),
        }
    }

    /// Adds one granule to the chunk at `place`, without memory. `None` when there is no chunk, or
    /// a list that is full. Takes the lowest bits of `granule`.
    #[inline(always)]
    pub(super) fn put(place: &mut Option<Self>, granule: u64) -> Option<()> {
        let Some(Self::Bits(words)) = place else {
            return Self::put_in_list(place, granule);
        };
        *words.get_mut((granule / 64) as usize % BITMAP)? |= 1 << (granule % 64);
        Some(())
    }

    /// As [`Self::put`]. Apart, so that there is one comparison for a bitmap, where most granules
    /// are, and no table of jumps.
    #[inline(never)]
    fn put_in_list(place: &mut Option<Self>, granule: u64) -> Option<()> {
        match place {
            Some(Self::Short { count, offsets }) => push(count, &mut **offsets, offset(granule)),
            Some(Self::Long { count, offsets }) => push(count, &mut **offsets, offset(granule)),
            _ => None,
        }
    }

    /// Adds the granules `[lo, hi)`; `None`, and nothing added, without memory.
    pub(super) fn set(&mut self, lo: u64, hi: u64, memory: &mut MemoryLimit) -> Option<()> {
        let (count, room) = match self {
            Self::Short { count, .. } => (*count, SHORT),
            Self::Long { count, .. } => (*count, LONG),
            Self::Bits(words) => {
                words::set(&mut **words, lo, hi);
                return Some(());
            }
        };
        let needed = u64::from(count).saturating_add(hi.saturating_sub(lo));
        if needed > room as u64 {
            self.grow(needed, memory)?;
        }
        self.add(lo, hi);
        Some(())
    }

    /// Adds what there is room for.
    fn add(&mut self, lo: u64, hi: u64) {
        let (count, offsets) = match self {
            Self::Short { count, offsets } => (count, &mut **offsets as &mut [u16]),
            Self::Long { count, offsets } => (count, &mut **offsets as &mut [u16]),
            Self::Bits(words) => return words::set(&mut **words, lo, hi),
        };
        for granule in lo..hi {
            let _ = push(count, offsets, offset(granule));
        }
    }

    /// Replaces a list by a longer one or by a bitmap.
    fn grow(&mut self, granules: u64, memory: &mut MemoryLimit) -> Option<()> {
        let mut larger = Self::empty(granules, memory)?;
        let list = self.list();
        match &mut larger {
            Self::Short { count, offsets } => fill(count, &mut **offsets, list),
            Self::Long { count, offsets } => fill(count, &mut **offsets, list),
            Self::Bits(words) => sort(list, words),
        }
        core::mem::replace(self, larger).free(memory);
        Some(())
    }

    /// The offsets of a list.
    fn list(&self) -> &[u16] {
        match self {
            Self::Short { count, offsets } => offsets.get(..usize::from(*count)),
            Self::Long { count, offsets } => offsets.get(..usize::from(*count)),
            Self::Bits(_) => None,
        }
        .unwrap_or_default()
    }

    /// Takes the granules `[lo, hi)` out; whether nothing is left. Then only [`Self::free`] may be
    /// called.
    pub(super) fn clear(&mut self, lo: u64, hi: u64) -> bool {
        match self {
            Self::Short { count, offsets } => retain(count, &mut **offsets, lo, hi),
            Self::Long { count, offsets } => retain(count, &mut **offsets, lo, hi),
            Self::Bits(words) => words::clear(&mut **words, lo, hi),
        }
        !self.any(0, CHUNK_GRANULES)
    }

    /// Whether one of the granules `[lo, hi)` is dirty.
    pub(super) fn any(&self, lo: u64, hi: u64) -> bool {
        match self {
            Self::Bits(words) => words::any(&**words, lo, hi),
            _ => self
                .list()
                .iter()
                .any(|&offset| (lo..hi).contains(&offset.into())),
        }
    }

    /// Passes the dirty granules of `[lo, hi)` to `merger`, rising. The chunk begins at granule
    /// `base`.
    ///
    /// # Errors
    ///
    /// The first of the sink, and `EIO` for granules that cannot exist.
    #[inline(always)]
    pub(super) fn tell<F: FnMut(Span) -> Result>(
        &self,
        base: u64,
        lo: u64,
        hi: u64,
        merger: &mut Merger<F>,
    ) -> Result {
        let mut sorted;
        let words = match self {
            Self::Bits(words) => &**words,
            _ => {
                sorted = [0; BITMAP];
                sort(self.list(), &mut sorted);
                &sorted
            }
        };
        words::each(words, lo, hi, |first, bits| {
            // OVERFLOW: Numbers of granules are below 2^53.
            merger.push_word(base.wrapping_add(first), bits)
        })
    }

    /// Whether the invariants hold.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) fn is_consistent(&self) -> bool {
        let inside = self.list().iter().all(|o| u64::from(*o) < CHUNK_GRANULES);
        inside && self.any(0, CHUNK_GRANULES)
    }
}

/// Adds an offset to the first `count`; `None` without room.
#[inline(always)]
fn push(count: &mut u16, offsets: &mut [u16], offset: u16) -> Option<()> {
    *offsets.get_mut(usize::from(*count))? = offset;
    // OVERFLOW: There was room, so it is at most 128 now.
    *count = count.wrapping_add(1);
    Some(())
}

/// Takes the offsets in `[lo, hi)` out of the first `count`.
fn retain(count: &mut u16, offsets: &mut [u16], lo: u64, hi: u64) {
    let listed = usize::from(core::mem::take(count));
    for i in 0..listed.min(offsets.len()) {
        let Some(&offset) = offsets.get(i) else {
            break;
        };
        if !(lo..hi).contains(&offset.into()) {
            let _ = push(count, offsets, offset);
        }
    }
}

/// Makes `list` the first offsets, as far as there is room.
fn fill(count: &mut u16, offsets: &mut [u16], list: &[u16]) {
    for offset in list {
        let _ = push(count, offsets, *offset);
    }
}

/// Sets the bits of a list: in order and without repeats.
fn sort(list: &[u16], words: &mut Bitmap) {
    for &offset in list {
        if let Some(word) = words.get_mut(usize::from(offset / 64) % BITMAP) {
            *word |= 1 << (offset % 64);
        }
    }
}

/// The offset of `granule` in its chunk.
#[inline(always)]
const fn offset(granule: u64) -> u16 {
    // CAST: Below the granules of a chunk.
    (granule & (CHUNK_GRANULES - 1)) as u16
}

/// Splits a span into the number of its first chunk, the part of it in that chunk
/// (numbers inside the chunk) and what is left above it.
pub(super) fn split(span: Span) -> (u64, u64, u64, Option<Span>) {
    let index = span.start() >> CHUNK_SHIFT;
    let base = index << CHUNK_SHIFT;
    let top = base.saturating_add(CHUNK_GRANULES);
    let hi = span.end().min(top);
    (
        index,
        span.start().saturating_sub(base),
        hi.saturating_sub(base),
        Span::new(top, span.end()),
    )
}
