// SPDX-License-Identifier: GPL-2.0

//! Chunks: the dirty granules among 8192 granules, which are 32 MiB of pages of 4 KiB.
//!
//! A chunk is a list of up to 32 offsets, a list of up to 128, or a bitmap. It begins in the
//! smallest form that has room for its first granules, and only grows. So a lone granule takes 64
//! bytes, and a full chunk 1 bit for each granule. More steps would take less memory, but each step
//! is an allocation, which takes as long as marking a hundred granules.
//!
//! A list is not sorted and may have repeats, so adding to it is one store. A device that filters
//! repeats makes none. Repeats of other devices only turn the list into a bitmap earlier.
//!
//! The length of a list is kept beside the pointer and not in the memory that it points to, so a
//! mark need not wait for that memory to be in a cache. Bits of a bitmap are not counted, because
//! every mark would read and write the count; `clear` looks for a set bit instead.

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
/// Number of granules of a chunk.
pub(crate) const CHUNK_GRANULES: u64 = 1 << CHUNK_SHIFT;
/// Size of a bitmap in bytes.
pub(super) const CHUNK_BYTES: usize = size_of::<Bitmap>();

/// Maximum number of offsets of a short list. Like a long one, it fills an object of the slab.
const SHORT: usize = 32;
/// Maximum number of offsets of a long list.
const LONG: usize = 128;

/// Number of words of a bitmap.
const BITMAP: usize = CHUNK_GRANULES as usize / 64;
/// The bits of the granules of a chunk.
type Bitmap = [u64; BITMAP];

/// The dirty granules of a chunk, at least one.
///
/// # Invariants
///
/// The first `count` offsets of a list are in use. `count` is not 0, and a bitmap has a set bit.
pub(super) enum Chunk {
    /// A list of up to [`SHORT`] offsets.
    Short {
        /// Number of offsets in use.
        count: u16,
        /// Offsets of dirty granules from the start of the chunk.
        offsets: KBox<[u16; SHORT]>,
    },
    /// A list of up to [`LONG`] offsets.
    Long {
        /// Number of offsets in use.
        count: u16,
        /// Offsets of dirty granules from the start of the chunk.
        offsets: KBox<[u16; LONG]>,
    },
    /// A bitmap of all granules.
    Bits(KBox<Bitmap>),
}

impl Chunk {
    /// Allocates a chunk in which the granules `[lo, hi)`, at least one, are dirty. Returns `None`
    /// without memory.
    pub(super) fn with(lo: u64, hi: u64, memory: &mut MemoryLimit) -> Option<Self> {
        let mut this = Self::empty(hi.saturating_sub(lo), memory)?;
        // INVARIANT: `empty` has made room for these granules, so the chunk is not empty now.
        this.add(lo, hi);
        Some(this)
    }

    /// Allocates an empty chunk with room for `granules` granules. Returns `None` without memory.
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

    /// Frees the chunk and returns its size to the limit.
    pub(super) fn free(self, memory: &mut MemoryLimit) {
        memory.give(self.bytes());
    }

    /// Returns the size of its allocation in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Short { offsets, .. } => size_of_val(&**offsets),
            Self::Long { offsets, .. } => size_of_val(&**offsets),
            Self::Bits(words) => size_of_val(&**words),
        }
    }

    /// Adds one granule, by the lowest bits of its number, to the chunk in `place`. Allocates
    /// nothing: returns `None` if there is no chunk or its list is full.
    #[inline(always)]
    pub(super) fn put(place: &mut Option<Self>, granule: u64) -> Option<()> {
        let Some(Self::Bits(words)) = place else {
            return Self::put_in_list(place, granule);
        };
        *words.get_mut((granule / 64) as usize % BITMAP)? |= 1 << (granule % 64);
        Some(())
    }

    /// Does the same for a list. A function of its own keeps `put` to one branch for bitmaps, which
    /// have most granules.
    #[inline(never)]
    fn put_in_list(place: &mut Option<Self>, granule: u64) -> Option<()> {
        match place {
            Some(Self::Short { count, offsets }) => push(count, &mut **offsets, offset(granule)),
            Some(Self::Long { count, offsets }) => push(count, &mut **offsets, offset(granule)),
            _ => None,
        }
    }

    /// Adds the granules `[lo, hi)`. Without memory, adds nothing and returns `None`.
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

    /// Adds those of the granules `[lo, hi)` for which there is room.
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

    /// Replaces the list by a longer one or a bitmap, with room for `granules` granules. Without
    /// memory, changes nothing and returns `None`.
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

    /// Returns the offsets of a list in use, or an empty slice for a bitmap.
    fn list(&self) -> &[u16] {
        match self {
            Self::Short { count, offsets } => offsets.get(..usize::from(*count)),
            Self::Long { count, offsets } => offsets.get(..usize::from(*count)),
            Self::Bits(_) => None,
        }
        .unwrap_or_default()
    }

    /// Removes the granules `[lo, hi)`. Returns whether the chunk is empty; then the caller may
    /// only call [`Self::free`].
    pub(super) fn clear(&mut self, lo: u64, hi: u64) -> bool {
        match self {
            Self::Short { count, offsets } => retain(count, &mut **offsets, lo, hi),
            Self::Long { count, offsets } => retain(count, &mut **offsets, lo, hi),
            Self::Bits(words) => words::clear(&mut **words, lo, hi),
        }
        !self.any(0, CHUNK_GRANULES)
    }

    /// Returns whether one of the granules `[lo, hi)` is dirty.
    pub(super) fn any(&self, lo: u64, hi: u64) -> bool {
        match self {
            Self::Bits(words) => words::any(&**words, lo, hi),
            _ => self
                .list()
                .iter()
                .any(|&offset| (lo..hi).contains(&offset.into())),
        }
    }

    /// Passes the dirty granules of `[lo, hi)` to `merger` in ascending order. The chunk begins at
    /// granule `base`.
    ///
    /// # Errors
    ///
    /// Those of [`Merger::push_word`].
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

    /// Returns whether the invariants hold.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) fn is_consistent(&self) -> bool {
        let inside = self.list().iter().all(|o| u64::from(*o) < CHUNK_GRANULES);
        inside && self.any(0, CHUNK_GRANULES)
    }
}

/// Adds an offset after the first `count`. Returns `None` if the list is full.
#[inline(always)]
fn push(count: &mut u16, offsets: &mut [u16], offset: u16) -> Option<()> {
    *offsets.get_mut(usize::from(*count))? = offset;
    // OVERFLOW: There was room, so it is at most 128 now.
    *count = count.wrapping_add(1);
    Some(())
}

/// Removes the offsets in `[lo, hi)` from the first `count`.
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

/// Adds the offsets of `list` for which there is room.
fn fill(count: &mut u16, offsets: &mut [u16], list: &[u16]) {
    for offset in list {
        let _ = push(count, offsets, *offset);
    }
}

/// Sets the bits of `list` in `words`, which sorts the list and removes repeats.
fn sort(list: &[u16], words: &mut Bitmap) {
    for &offset in list {
        if let Some(word) = words.get_mut(usize::from(offset / 64) % BITMAP) {
            *word |= 1 << (offset % 64);
        }
    }
}

/// Returns the offset of `granule` in its chunk.
#[inline(always)]
const fn offset(granule: u64) -> u16 {
    // CAST: The offset is below 2^13.
    (granule & (CHUNK_GRANULES - 1)) as u16
}

/// Splits `span` after the first chunk that it touches. Returns the number of that chunk, the start
/// and the end of the part in it as offsets in the chunk, and the rest above it.
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
