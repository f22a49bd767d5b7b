// SPDX-License-Identifier: GPL-2.0

//! A short run of granules in one word, as it stands in log entries.

use super::span::Span;
use kernel::prelude::*;

/// Number of bits of the length.
const LENGTH_BITS: u32 = 8;

/// Number of consecutive single granules from which marking them together is faster.
const ROW: usize = 4;

/// The granules `start` to `start + length - 1`, with `length` from 1 to 256. A run may reach
/// beyond [`MAX_GRANULE`](super::span::MAX_GRANULE), because a device wrote it and it is not
/// checked here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run(u64);

impl Run {
    /// Makes a run of one granule.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) const fn one(granule: u64) -> Self {
        Self(granule << LENGTH_BITS)
    }

    /// Makes a run from a span of at most 256 granules.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn of(span: Span) -> Option<Self> {
        (span.len() <= 256).then(|| Self(span.start() << LENGTH_BITS | (span.len() - 1)))
    }

    /// The run of granule 0, to initialise arrays.
    pub(crate) const FIRST: Self = Self(0);

    /// Makes a run from a word with the number of the first granule in the upper 56 bits and the
    /// length minus 1 in the lower 8.
    #[inline]
    pub(crate) const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// Returns the first granule.
    #[inline]
    pub(crate) const fn start(self) -> u64 {
        self.0 >> LENGTH_BITS
    }

    /// Returns the last granule.
    #[inline]
    pub(crate) const fn last(self) -> u64 {
        // OVERFLOW: `start` has 56 bits.
        self.start().wrapping_add(self.more())
    }

    /// Returns the number of granules after the first.
    #[inline]
    pub(crate) const fn more(self) -> u64 {
        self.0 & ((1 << LENGTH_BITS) - 1)
    }

    /// Returns whether it is a single granule with a number below `1 << shift`, by one comparison.
    /// `shift` is at most 56.
    #[inline]
    pub(crate) fn is_one_below(self, shift: u32) -> bool {
        // OVERFLOW: The mask has at most 64 bits.
        self.0 & !(((1 << shift) - 1) << LENGTH_BITS) == 0
    }

    /// Returns the number of granules of `runs`, or `None` if one lies outside of `span`. A granule
    /// in two runs counts twice.
    #[inline]
    pub(crate) fn all_in(runs: &[Self], span: Span) -> Option<u64> {
        // The start is in the upper bits, so comparing words compares starts. OVERFLOW: Numbers of
        // granules have 52 bits.
        let low = span.start() << LENGTH_BITS;
        let above = span.len() << LENGTH_BITS;
        let (mut outside, mut any) = (false, 0);
        for run in runs {
            outside |= run.0.wrapping_sub(low) >= above;
            any |= run.0;
        }
        let single = Self(any).more() == 0;
        if outside {
            return None;
        }
        let mut granules = runs.len() as u64;
        if !single {
            for run in runs {
                if run.last() >= span.end() {
                    return None;
                }
                granules = granules.wrapping_add(run.more());
            }
        }
        Some(granules)
    }

    /// If at least the first [`ROW`] of `runs` are consecutive single granules, returns them as a
    /// span, and the runs after them. Otherwise returns `None` and all `runs`.
    #[inline]
    pub(crate) fn row(runs: &[Self]) -> (Option<Span>, &[Self]) {
        let [first, second, ..] = runs else {
            return (None, runs);
        };
        let next = |run: &Self| run.0.wrapping_add(1 << LENGTH_BITS);
        // Check the first two runs before the loop, because most do not begin a row.
        if first.more() != 0 || second.0 != next(first) {
            return (None, runs);
        }
        let pairs = runs.iter().zip(runs.get(1..).unwrap_or_default());
        let more = pairs
            .take_while(|(run, after)| after.0 == next(run))
            .count();
        let length = more.saturating_add(1);
        if length < ROW {
            return (None, runs);
        }
        let start = first.start();
        let row = Span::new(start, start.saturating_add(length as u64));
        (row, runs.get(length..).unwrap_or_default())
    }

    /// Converts to a span, or returns `None` if the run reaches beyond
    /// [`MAX_GRANULE`](super::span::MAX_GRANULE).
    #[inline]
    pub(crate) fn span(self) -> Option<Span> {
        Span::new(self.start(), self.last().wrapping_add(1))
    }
}

#[kunit_tests(vfio_dirty_run)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_spans() -> Result {
        for (start, end) in [(0, 1), (5, 8), (1 << 40, (1 << 40) + 256)] {
            let span = Span::new(start, end).ok_or(EINVAL)?;
            let run = Run::of(span).ok_or(EINVAL)?;
            assert_eq!((run.start(), run.last() + 1), (start, end));
            assert_eq!((run.more(), run.span()), (end - start - 1, Some(span)));
        }
        assert!(Run::of(Span::new(0, 257).ok_or(EINVAL)?).is_none());
        assert_eq!(Run::one(7), Run::from_word(7 << 8));
        Ok(())
    }

    #[test]
    fn single_granules_below_a_limit() -> Result {
        for shift in [13, 21, 29, 37, 45, 53, 56] {
            let above = (1 << shift) - 1;
            assert!(Run::one(0).is_one_below(shift));
            assert!(Run::one(above).is_one_below(shift));
            assert!(!Run::of(Span::new(4, 6).ok_or(EINVAL)?)
                .ok_or(EINVAL)?
                .is_one_below(shift));
            assert_eq!(Run::one(above + 1).is_one_below(shift), shift == 56);
            assert!(!Run::from_word(u64::MAX).is_one_below(shift));
        }
        Ok(())
    }

    #[test]
    fn all_in_a_span() -> Result {
        let span = Span::new(5, 300).ok_or(EINVAL)?;
        let run = |start, end| Run::of(Span::new(start, end)?);
        let good = [Run::one(5), Run::one(299)];
        assert_eq!(Run::all_in(&[], span), Some(0));
        assert_eq!(Run::all_in(&good, span), Some(2));
        for (start, end, inside) in [
            (5, 6, true),
            (5, 261, true),
            (44, 300, true),
            (45, 301, false),
            (299, 301, false),
            (300, 301, false),
            (4, 5, false),
            (4, 260, false),
            (0, 1, false),
            (1 << 51, (1 << 51) + 1, false),
        ] {
            let [a, b] = good;
            let run = run(start, end).ok_or(EINVAL)?;
            for runs in [[run, a, b], [a, run, b], [a, b, run]] {
                let want = inside.then_some(2 + end - start);
                assert_eq!(Run::all_in(&runs, span), want);
            }
        }
        // What a device can write and what cannot exist.
        for word in [u64::MAX, 1 << 63, (1 << 63) + (5 << 8), 0] {
            assert_eq!(Run::all_in(&[Run::from_word(word)], span), None);
        }
        let top = Span::new((1 << 52) - 2, 1 << 52).ok_or(EINVAL)?;
        assert_eq!(Run::all_in(&[Run::one((1 << 52) - 1)], top), Some(1));
        assert_eq!(Run::all_in(&[Run::one(1 << 52)], top), None);
        assert_eq!(Run::all_in(&[Run::from_word((1 << 60) - 1)], top), None);
        Ok(())
    }

    #[test]
    fn rows() -> Result {
        let runs: [Run; 6] = core::array::from_fn(|i| Run::one(i as u64 + 5));
        assert_eq!(Run::row(&runs), (Span::new(5, 11), &[][..]));
        assert_eq!(Run::row(&runs[..4]).0, Span::new(5, 9));
        assert_eq!(Run::row(&runs[..3]), (None, &runs[..3]));
        assert_eq!(Run::row(&[]), (None, &[][..]));
        // A gap and a run of two granules end a row.
        for end in [
            Run::one(50),
            Run::of(Span::new(9, 11).ok_or(EINVAL)?).ok_or(EINVAL)?,
        ] {
            let mut runs = runs;
            runs[4] = end;
            assert_eq!(Run::row(&runs), (Span::new(5, 9), &runs[4..]));
            runs[1] = end;
            assert_eq!(Run::row(&runs), (None, &runs[..]));
        }
        Ok(())
    }

    #[test]
    fn what_cannot_exist_is_no_span() {
        assert!(Run::from_word((1 << 60) - 1).span().is_none());
        assert!(Run::from_word(u64::MAX).span().is_none());
        assert!(Run::one((1 << 52) - 1).span().is_some());
    }
}
