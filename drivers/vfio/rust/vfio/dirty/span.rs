// SPDX-License-Identifier: GPL-2.0

//! Intervals of granules, the unit of dirty logging. Plain values without locks or allocation.

use kernel::prelude::*;

/// A half-open interval `start..end` of granule numbers that is not empty.
///
/// A granule is `1 << shift` bytes of IOVA space with `shift >= 12`. So granule numbers are below
/// 2^52, and the sum of two does not wrap.
///
/// # Invariants
///
/// `start < end <= MAX_GRANULE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    start: u64,
    end: u64,
}

/// The number after the last granule of 4 KiB in a space of 64 bits.
pub(crate) const MAX_GRANULE: u64 = 1 << 52;

impl Span {
    /// Makes `start..end`, or returns `None` if it is empty or out of bounds.
    pub(crate) fn new(start: u64, end: u64) -> Option<Self> {
        // INVARIANT: The condition checks both.
        (start < end && end <= MAX_GRANULE).then_some(Self { start, end })
    }

    /// Returns the granules that `length` bytes at `iova` touch, so both ends are rounded outward.
    ///
    /// Returns `None` if `length` is 0, if the bytes wrap, or if `shift` is not from 12 to 63.
    pub(crate) fn covering(iova: u64, length: u64, shift: u32) -> Option<Self> {
        if !(12..64).contains(&shift) {
            return None;
        }
        let last = iova.checked_add(length.checked_sub(1)?)?;
        // OVERFLOW: A number shifted right by at least 12 can be incremented.
        Self::new(iova >> shift, (last >> shift) + 1)
    }

    /// Returns the granules that lie wholly within `length` bytes at `iova`, so both ends are
    /// rounded inward. Returns `None` if there is none.
    pub(crate) fn inside(iova: u64, length: u64, shift: u32) -> Option<Self> {
        if !(12..64).contains(&shift) {
            return None;
        }
        let end = iova.checked_add(length)?;
        let up = iova.checked_add((1u64 << shift) - 1)?;
        Self::new(up >> shift, end >> shift)
    }

    /// Returns the first granule.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Returns the number after the last granule.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Returns the number of granules, which is at least 1.
    pub(crate) fn len(&self) -> u64 {
        // OVERFLOW: By the invariant `start < end`.
        self.end - self.start
    }

    /// Returns whether all of `other` lies in `self`.
    pub(crate) fn contains(&self, other: Span) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Returns the common part of the two.
    pub(crate) fn intersect(&self, other: Span) -> Option<Span> {
        Span::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// Returns the smallest span that contains both.
    pub(crate) fn hull(&self, other: Span) -> Span {
        // INVARIANT: The smaller start is below the larger end, which is the end of one of the two.
        Span {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// Returns whether the two overlap or one begins where the other ends.
    pub(crate) fn touches(&self, other: Span) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// Returns the number of granules between the two, 0 if they touch.
    pub(crate) fn gap(&self, other: Span) -> u64 {
        let above = self.start.saturating_sub(other.end);
        above.max(other.start.saturating_sub(self.end))
    }

    /// Returns the part of `self` below `cut` and the part above it.
    pub(crate) fn without(&self, cut: Span) -> (Option<Span>, Option<Span>) {
        (
            Span::new(self.start, self.end.min(cut.start)),
            Span::new(self.start.max(cut.end), self.end),
        )
    }
}

/// Joins runs that arrive in ascending order, and passes each maximal run to a sink once. Runs in
/// another order are passed on as well, but may not be joined.
///
/// Each run costs a call of `iova_bitmap_set()`, so neighbours are joined across words, chunks and
/// coarse intervals.
pub(crate) struct Merger<F: FnMut(Span) -> Result> {
    open: Option<Span>,
    sink: F,
}

impl<F: FnMut(Span) -> Result> Merger<F> {
    /// Makes a merger that passes runs to `sink`.
    pub(crate) fn new(sink: F) -> Self {
        Self { open: None, sink }
    }

    /// Adds a run.
    ///
    /// # Errors
    ///
    /// Those of the sink. The merger drops the run that the sink has refused.
    #[inline(always)]
    pub(crate) fn push(&mut self, run: Span) -> Result {
        match &mut self.open {
            Some(open) if open.touches(run) => {
                *open = open.hull(run);
                Ok(())
            }
            open => open.replace(run).map_or(Ok(()), &mut self.sink),
        }
    }

    /// Adds the runs of granules for which `bits` has a bit: bit 0 stands for granule `base`, which
    /// is a multiple of 64.
    ///
    /// Only the first run can touch a run before the word, and only the last one a run after it.
    /// The others are passed on at once.
    ///
    /// # Errors
    ///
    /// Those of [`Self::push`], and `EIO` for granules that cannot exist, because the caller must
    /// not treat them as clean.
    #[inline(always)]
    pub(crate) fn push_word(&mut self, base: u64, bits: u64) -> Result {
        if bits == 0 {
            return Ok(());
        }
        if base > MAX_GRANULE - 64 {
            return Err(EIO);
        }
        let mut rest = bits;
        let run = take_lowest(base, &mut rest);
        self.push(run)?;
        if rest == 0 {
            return Ok(());
        }
        self.open.take().map_or(Ok(()), &mut self.sink)?;
        let mut last = take_lowest(base, &mut rest);
        while rest != 0 {
            (self.sink)(last)?;
            last = take_lowest(base, &mut rest);
        }
        self.open = Some(last);
        Ok(())
    }

    /// Passes on the last run. Called once, at the end.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    pub(crate) fn finish(mut self) -> Result {
        self.open.take().map_or(Ok(()), self.sink)
    }
}

/// Takes the lowest run of bits out of `bits`, which is not 0, and returns its granules. Bit 0
/// stands for granule `base`, which is at most `MAX_GRANULE - 64`.
#[inline(always)]
fn take_lowest(base: u64, bits: &mut u64) -> Span {
    let start = bits.trailing_zeros();
    // Adding at the lowest bit carries to the end of the run. At the top it carries out, and the
    // sum is 0, which has 64 zeros.
    let carried = bits.wrapping_add(*bits & bits.wrapping_neg());
    let end = carried.trailing_zeros();
    *bits &= carried;
    // INVARIANT: `start` is the number of a bit that is set, and `end` that of a higher one that is
    // not, or 64. OVERFLOW: By the limit of `base`.
    Span {
        start: base.wrapping_add(start.into()),
        end: base.wrapping_add(end.into()),
    }
}

#[kunit_tests(vfio_dirty_span)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        assert!(Span::new(3, 3).is_none());
        assert!(Span::new(4, 3).is_none());
        assert!(Span::new(0, MAX_GRANULE + 1).is_none());
        assert!(Span::new(0, MAX_GRANULE).is_some());
    }

    #[test]
    fn covering_goes_outward() {
        assert_eq!(Span::covering(0, 1, 12), Span::new(0, 1));
        assert_eq!(Span::covering(0xfff, 2, 12), Span::new(0, 2));
        assert_eq!(Span::covering(0x1000, 0x1000, 16), Span::new(0, 1));
        assert_eq!(Span::covering(0x1000, 0, 12), None);
        assert_eq!(Span::covering(u64::MAX, 2, 12), None);
        assert_eq!(
            Span::covering(u64::MAX, 1, 12),
            Span::new(MAX_GRANULE - 1, MAX_GRANULE)
        );
        assert_eq!(Span::covering(0, 1, 11), None);
        assert_eq!(Span::covering(0, 1, 64), None);
    }

    #[test]
    fn inside_goes_inward() {
        assert_eq!(Span::inside(0, 0x1000, 12), Span::new(0, 1));
        assert_eq!(Span::inside(1, 0x1000, 12), None);
        assert_eq!(Span::inside(1, 0x1fff, 12), Span::new(1, 2));
        assert_eq!(Span::inside(0x1000, 0xf000, 16), None);
        assert_eq!(Span::inside(u64::MAX, 1, 12), None);
    }

    #[test]
    fn parts() -> Result {
        let s = Span::new(10, 20).ok_or(EINVAL)?;
        let cut = Span::new(12, 15).ok_or(EINVAL)?;
        assert_eq!(s.without(cut), (Span::new(10, 12), Span::new(15, 20)));
        assert_eq!(cut.without(s), (None, None));
        let far = Span::new(30, 40).ok_or(EINVAL)?;
        assert_eq!(s.without(far), (Some(s), None));
        assert_eq!(far.without(s), (None, Some(far)));
        assert_eq!(s.intersect(far), None);
        assert!(s.touches(Span::new(20, 21).ok_or(EINVAL)?));
        assert!(!s.touches(Span::new(21, 22).ok_or(EINVAL)?));
        assert_eq!((s.gap(far), far.gap(s), s.gap(cut)), (10, 10, 0));
        Ok(())
    }

    #[test]
    fn merger_takes_words_apart() -> Result {
        let mut seen = [(0u64, 0u64); 16];
        let mut n = 0;
        let mut merger = Merger::new(|s: Span| {
            seen[n] = (s.start(), s.end());
            n += 1;
            Ok(())
        });
        merger.push(Span::new(60, 64).ok_or(EINVAL)?)?;
        merger.push_word(64, 0x8000_0000_0000_0065)?;
        merger.push_word(128, u64::MAX)?;
        merger.push_word(192, 1)?;
        merger.push_word(256, 2)?;
        // What is dirty as a whole goes on where a part of a word ends.
        merger.push(Span::new(258, 260).ok_or(EINVAL)?)?;
        merger.push_word(320, 1 << 63)?;
        merger.push_word(448, 1)?;
        merger.finish()?;
        let want = [
            (60, 65),
            (66, 67),
            (69, 71),
            (127, 193),
            (257, 260),
            (383, 384),
            (448, 449),
        ];
        assert_eq!((n, &seen[..7]), (7, &want[..]));
        // The first error ends it.
        n = 0;
        let mut merger = Merger::new(|_| {
            n += 1;
            Err(EINTR)
        });
        assert_eq!(merger.push_word(0, 5), Err(EINTR));
        merger.finish()?;
        assert_eq!(n, 1);
        let mut merger = Merger::new(|_| Ok(()));
        assert_eq!(merger.push_word(MAX_GRANULE - 64, 1 << 63), Ok(()));
        assert_eq!(merger.push_word(MAX_GRANULE, 1), Err(EIO));
        assert_eq!(merger.push_word(MAX_GRANULE, 0), Ok(()));
        Ok(())
    }

    #[test]
    fn merger_joins_neighbours() -> Result {
        let mut seen = [(0u64, 0u64); 4];
        let mut n = 0;
        let mut merger = Merger::new(|s: Span| {
            seen[n] = (s.start(), s.end());
            n += 1;
            Ok(())
        });
        for (a, b) in [(0, 1), (1, 3), (4, 5), (5, 9)] {
            merger.push(Span::new(a, b).ok_or(EINVAL)?)?;
        }
        merger.finish()?;
        assert_eq!(n, 2);
        assert_eq!(seen[0], (0, 3));
        assert_eq!(seen[1], (4, 9));
        Ok(())
    }
}
