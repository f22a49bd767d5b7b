// SPDX-License-Identifier: GPL-2.0

//! Intervals of granules: the unit in which everything about dirty logging is
//! reckoned. Pure values, no locks, no allocation.

use kernel::prelude::*;

/// A half-open, never empty interval `[start, end)` of granule numbers.
///
/// A granule is `1 << shift` bytes of IOVA space with `shift >= 12`, so a
/// granule number is below `2^52` and sums of two of them do not wrap.
///
/// # Invariants
///
/// `start < end <= MAX_GRANULE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    start: u64,
    end: u64,
}

/// One past the last granule number that can exist (4 KiB granules).
pub(crate) const MAX_GRANULE: u64 = 1 << 52;

impl Span {
    /// Makes `[start, end)`, or `None` when it is empty or out of bounds.
    pub(crate) fn new(start: u64, end: u64) -> Option<Self> {
        // INVARIANT: just checked.
        (start < end && end <= MAX_GRANULE).then_some(Self { start, end })
    }

    /// The granules that `length` bytes at `iova` touch: both ends outward.
    ///
    /// `None` when `length` is 0, when the bytes wrap, or when `shift` is not
    /// one of a granule.
    pub(crate) fn covering(iova: u64, length: u64, shift: u32) -> Option<Self> {
        if !(12..64).contains(&shift) {
            return None;
        }
        let last = iova.checked_add(length.checked_sub(1)?)?;
        // OVERFLOW: a number shifted right by 12 leaves room for one more.
        Self::new(iova >> shift, (last >> shift) + 1)
    }

    /// The granules that lie wholly inside `length` bytes at `iova`: both ends
    /// inward. `None` when there is none.
    pub(crate) fn inside(iova: u64, length: u64, shift: u32) -> Option<Self> {
        if !(12..64).contains(&shift) {
            return None;
        }
        let end = iova.checked_add(length)?;
        let up = iova.checked_add((1u64 << shift) - 1)?;
        Self::new(up >> shift, end >> shift)
    }

    /// First granule.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// One past the last granule.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Number of granules, at least 1.
    pub(crate) fn len(&self) -> u64 {
        // OVERFLOW: by the invariant `start < end`.
        self.end - self.start
    }

    /// Whether all of `other` lies in `self`.
    pub(crate) fn contains(&self, other: Span) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The common part.
    pub(crate) fn intersect(&self, other: Span) -> Option<Span> {
        Span::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// The smallest span that contains both.
    pub(crate) fn hull(&self, other: Span) -> Span {
        // INVARIANT: a minimum of starts is below a maximum of ends, which is
        // the end of one of the two.
        Span {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// Whether the two overlap or one begins where the other ends.
    pub(crate) fn touches(&self, other: Span) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// The part of `self` below `cut`, and the part above it.
    pub(crate) fn without(&self, cut: Span) -> (Option<Span>, Option<Span>) {
        (
            Span::new(self.start, self.end.min(cut.start)),
            Span::new(self.start.max(cut.end), self.end),
        )
    }
}

/// Joins runs that arrive in rising order, and hands on each maximal run once.
///
/// What a user of the dirty bitmap pays for is the number of calls that set bits
/// in user memory (one for each run), so neighbours are joined across words,
/// chunks and all-dirty intervals.
pub(crate) struct Merger<F: FnMut(Span)> {
    open: Option<Span>,
    sink: F,
}

impl<F: FnMut(Span)> Merger<F> {
    /// A merger in front of `sink`.
    pub(crate) fn new(sink: F) -> Self {
        Self { open: None, sink }
    }

    /// Adds a run that does not begin below the end of the previous one.
    pub(crate) fn push(&mut self, run: Span) {
        match &mut self.open {
            Some(open) if open.touches(run) => *open = open.hull(run),
            open => {
                if let Some(done) = open.replace(run) {
                    (self.sink)(done);
                }
            }
        }
    }

    /// Hands on the last run. To be called once, at the end.
    pub(crate) fn finish(mut self) {
        if let Some(done) = self.open.take() {
            (self.sink)(done);
        }
    }
}

#[kunit_tests(dlr_vf_span)]
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
        Ok(())
    }

    #[test]
    fn merger_joins_neighbours() -> Result {
        let mut seen = [(0u64, 0u64); 4];
        let mut n = 0;
        let mut merger = Merger::new(|s: Span| {
            seen[n] = (s.start(), s.end());
            n += 1;
        });
        for (a, b) in [(0, 1), (1, 3), (4, 5), (5, 9)] {
            merger.push(Span::new(a, b).ok_or(EINVAL)?);
        }
        merger.finish();
        assert_eq!(n, 2);
        assert_eq!(seen[0], (0, 3));
        assert_eq!(seen[1], (4, 9));
        Ok(())
    }
}
