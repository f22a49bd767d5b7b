// SPDX-License-Identifier: GPL-2.0

//! A fixed piece of the dirty bitmap: one bit for each granule.

use super::span::Span;
use kernel::prelude::*;

const WORDS: usize = 128;

/// Granules in a chunk: 32 MiB of 4 KiB granules in 1 KiB of memory. Small enough
/// that lone dirty pages in a large guest stay cheap, large enough that the tree
/// node (64 bytes) keeps the cost at 1.06 bits a granule.
pub(crate) const CHUNK_GRANULES: u64 = (WORDS as u64) * 64;

/// The bits.
pub(crate) struct Chunk {
    words: KBox<[u64; WORDS]>,
}

impl Chunk {
    /// A clean chunk.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; quietly, as the caller does without.
    pub(crate) fn new(flags: kernel::alloc::Flags) -> Result<Self> {
        Ok(Self {
            words: KBox::init(pin_init::init_zeroed::<[u64; WORDS]>(), flags)?,
        })
    }

    /// Sets the bits `[lo, hi)`; returns how many were clear before.
    pub(crate) fn set(&mut self, lo: u64, hi: u64) -> u64 {
        let mut fresh = 0u64;
        self.each_word(lo, hi, |_, mask, word| {
            fresh += u64::from((mask & !*word).count_ones());
            *word |= mask;
        });
        fresh
    }

    /// Clears the bits `[lo, hi)`; returns how many were set before. Hands each
    /// run of them, rising, and as numbers inside the chunk, to `run`.
    ///
    /// A run never crosses a word: the caller joins.
    pub(crate) fn take(&mut self, lo: u64, hi: u64, mut run: impl FnMut(u64, u64)) -> u64 {
        let mut taken = 0u64;
        self.each_word(lo, hi, |base, mask, word| {
            let mut bits = *word & mask;
            if bits == 0 {
                return;
            }
            *word &= !mask;
            taken += u64::from(bits.count_ones());
            while bits != 0 {
                let first = bits.trailing_zeros();
                let ones = (bits >> first).trailing_ones();
                run(base + u64::from(first), base + u64::from(first + ones));
                bits &= !mask_of(first, first + ones);
            }
        });
        taken
    }

    /// As [`Self::take`], but the bits stay.
    pub(crate) fn peek(&self, lo: u64, hi: u64, mut run: impl FnMut(u64, u64)) {
        for (i, word) in self.words.iter().enumerate() {
            let Some((base, mask)) = window(i, lo, hi) else {
                continue;
            };
            let mut bits = *word & mask;
            while bits != 0 {
                let first = bits.trailing_zeros();
                let ones = (bits >> first).trailing_ones();
                run(base + u64::from(first), base + u64::from(first + ones));
                bits &= !mask_of(first, first + ones);
            }
        }
    }

    /// Whether a bit in `[lo, hi)` is set.
    pub(crate) fn any(&self, lo: u64, hi: u64) -> bool {
        self.words
            .iter()
            .enumerate()
            .any(|(i, word)| window(i, lo, hi).is_some_and(|(_, mask)| *word & mask != 0))
    }

    /// Whether no bit is set.
    pub(crate) fn is_clean(&self) -> bool {
        self.words.iter().all(|w| *w == 0)
    }

    /// Calls `f(number of the word's first bit, mask, word)` for the words that
    /// `[lo, hi)` touches, and no others.
    fn each_word(&mut self, lo: u64, hi: u64, mut f: impl FnMut(u64, u64, &mut u64)) {
        let first = (lo / 64) as usize;
        let last = hi.div_ceil(64) as usize;
        let words = self
            .words
            .get_mut(first..last.min(WORDS))
            .unwrap_or_default();
        for (i, word) in words.iter_mut().enumerate() {
            // OVERFLOW: `first + i` is below WORDS.
            if let Some((base, mask)) = window(first + i, lo, hi) {
                f(base, mask, word);
            }
        }
    }
}

/// Bit number of word `i`'s first bit and the mask of `[lo, hi)` in that word.
fn window(i: usize, lo: u64, hi: u64) -> Option<(u64, u64)> {
    // OVERFLOW: `i` is below WORDS.
    let base = i as u64 * 64;
    let (from, to) = (lo.max(base), hi.min(base + 64));
    (from < to).then(|| (base, mask_of((from - base) as u32, (to - base) as u32)))
}

/// Bits `[from, to)` of a word; `from < to <= 64`.
fn mask_of(from: u32, to: u32) -> u64 {
    (u64::MAX >> (64 - (to - from))) << from
}

/// Splits a span into the number of its first chunk, the part of it in that chunk
/// (numbers inside the chunk) and what is left above it.
pub(crate) fn split(span: Span) -> (u64, u64, u64, Option<Span>) {
    let index = span.start() / CHUNK_GRANULES;
    let base = index * CHUNK_GRANULES;
    let top = base + CHUNK_GRANULES;
    let hi = span.end().min(top);
    (
        index,
        span.start() - base,
        hi - base,
        Span::new(top, span.end()),
    )
}

#[kunit_tests(dlr_vf_chunk)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        assert_eq!(mask_of(0, 64), u64::MAX);
        assert_eq!(mask_of(63, 64), 1 << 63);
        assert_eq!(mask_of(0, 1), 1);
        assert_eq!(mask_of(4, 8), 0xf0);
    }

    #[test]
    fn set_counts_fresh_bits() -> Result {
        let mut c = Chunk::new(GFP_KERNEL)?;
        assert_eq!(c.set(0, CHUNK_GRANULES), CHUNK_GRANULES);
        assert_eq!(c.set(0, CHUNK_GRANULES), 0);
        let mut c = Chunk::new(GFP_KERNEL)?;
        assert_eq!(c.set(60, 70), 10);
        assert_eq!(c.set(65, 75), 5);
        Ok(())
    }

    #[test]
    fn take_clears_only_its_part() -> Result {
        let mut c = Chunk::new(GFP_KERNEL)?;
        c.set(10, 200);
        let mut sum = 0;
        assert_eq!(c.take(100, 130, |a, b| sum += b - a), 30);
        assert_eq!(sum, 30);
        assert!(!c.any(100, 130));
        assert!(c.any(99, 100));
        assert!(c.any(130, 131));
        assert_eq!(c.take(0, CHUNK_GRANULES, |_, _| ()), 160);
        assert!(c.is_clean());
        Ok(())
    }

    #[test]
    fn runs_inside_a_word() -> Result {
        let mut c = Chunk::new(GFP_KERNEL)?;
        c.set(1, 3);
        c.set(5, 6);
        c.set(63, 65);
        let mut runs = [(0, 0); 8];
        let mut n = 0;
        let mut note = |a, b| {
            runs[n] = (a, b);
            n += 1;
        };
        c.peek(0, CHUNK_GRANULES, &mut note);
        c.take(0, CHUNK_GRANULES, &mut note);
        assert_eq!(n, 8);
        assert_eq!(runs[..4], [(1, 3), (5, 6), (63, 64), (64, 65)]);
        assert_eq!(runs[4..], [(1, 3), (5, 6), (63, 64), (64, 65)]);
        Ok(())
    }

    #[test]
    fn last_bits() -> Result {
        let mut c = Chunk::new(GFP_KERNEL)?;
        c.set(CHUNK_GRANULES - 1, CHUNK_GRANULES);
        assert!(c.any(CHUNK_GRANULES - 1, CHUNK_GRANULES));
        assert!(!c.any(0, CHUNK_GRANULES - 1));
        Ok(())
    }

    #[test]
    fn splits_at_chunk_edges() -> Result {
        let s = Span::new(CHUNK_GRANULES - 1, 2 * CHUNK_GRANULES + 1).ok_or(EINVAL)?;
        let (i, lo, hi, rest) = split(s);
        assert_eq!((i, lo, hi), (0, CHUNK_GRANULES - 1, CHUNK_GRANULES));
        let (i, lo, hi, rest) = split(rest.ok_or(EINVAL)?);
        assert_eq!((i, lo, hi), (1, 0, CHUNK_GRANULES));
        let (i, lo, hi, rest) = split(rest.ok_or(EINVAL)?);
        assert_eq!((i, lo, hi), (2, 0, 1));
        assert!(rest.is_none());
        Ok(())
    }
}
