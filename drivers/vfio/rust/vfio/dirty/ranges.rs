// SPDX-License-Identifier: GPL-2.0

//! The set of tracked granules: the ranges of the user, widened to granules and merged to the
//! number that the device supports. A report of other granules adds them to the set.
//!
//! This code has no hardware access; its caller holds the log lock.

use super::{
    run::Run,
    span::Span, //
};
use kernel::prelude::*;

/// A set of granules as sorted spans that neither overlap nor touch.
pub(crate) struct Tracked {
    spans: KVec<Span>,
}

impl Tracked {
    /// Creates an empty set.
    pub(crate) const fn empty() -> Self {
        Self { spans: KVec::new() }
    }

    /// Creates the union of `wanted` in at most `limit` spans. If there are more, it adds the
    /// granules of the smallest gaps.
    ///
    /// # Errors
    ///
    /// `EINVAL` when `wanted` is empty or `limit` is 0, `ENOMEM`.
    pub(crate) fn combine(wanted: impl Iterator<Item = Span>, limit: usize) -> Result<Self> {
        let mut this = Self::empty();
        for span in wanted {
            this.reserve()?;
            this.insert(span);
        }
        if this.spans.is_empty() || limit == 0 {
            return Err(EINVAL);
        }
        while this.spans.len() > limit {
            this.close_smallest_gap();
        }
        Ok(this)
    }

    /// Reserves memory for the next [`Self::insert`].
    ///
    /// Called before the device gets a new range, so that the range can be inserted once the device
    /// has accepted it.
    pub(crate) fn reserve(&mut self) -> Result {
        Ok(self.spans.reserve(1, crate::ext::gfp::USER)?)
    }

    /// Adds `span` and joins it with the spans that it touches. The caller has called
    /// [`Self::reserve`] before. Without reserved memory the span is not added, and every report of
    /// it is dirty.
    pub(crate) fn insert(&mut self, span: Span) {
        let mut joined = span;
        self.spans.retain(|s| {
            let apart = !s.touches(joined);
            if !apart {
                joined = joined.hull(*s);
            }
            apart
        });
        // One pass is enough: `retain` visits the spans in ascending order, and when `joined` grows
        // upward it does not come to touch a span below it.
        let at = self
            .spans
            .iter()
            .take_while(|s| s.end() < joined.start())
            .count();
        let _ = self.spans.insert_within_capacity(at, joined);
    }

    /// Joins the two neighbours with the smallest gap between them.
    fn close_smallest_gap(&mut self) {
        let gap = self
            .spans
            .windows(2)
            .filter_map(|w| match w {
                [a, b] => Some((b.start() - a.end(), a.hull(*b))),
                _ => None,
            })
            .min_by_key(|(gap, _)| *gap);
        if let Some((_, hull)) = gap {
            // This replaces two spans by one and needs no memory.
            self.insert(hull);
        }
    }

    /// Returns whether every granule of `span` is tracked.
    pub(crate) fn covers(&self, span: Span) -> bool {
        // Spans of the set do not touch, so a covered span lies within one of them.
        self.find(span).is_some_and(|s| s.contains(span))
    }

    /// Returns the number of granules of `runs`, or `None` if one is not tracked. A granule in two
    /// runs counts twice.
    pub(crate) fn covers_all(&self, runs: &[Run]) -> Option<u64> {
        // Usually one span covers all runs, and they are checked together.
        let first = runs.first().and_then(|run| self.find(run.span()?));
        if let Some(granules) = first.and_then(|span| Run::all_in(runs, *span)) {
            return Some(granules);
        }
        // First and last granule of the span that covers the previous run. It usually covers the
        // next run, too.
        let (mut first, mut last) = (1, 0);
        let mut granules = runs.len() as u64;
        for run in runs {
            // OVERFLOW: A run adds at most 255.
            granules = granules.wrapping_add(run.more());
            if first <= run.start() && run.last() <= last {
                continue;
            }
            let span = run.span()?;
            let found = self.find(span).filter(|found| found.contains(span))?;
            // OVERFLOW: A span is not empty.
            (first, last) = (found.start(), found.end().wrapping_sub(1));
        }
        Some(granules)
    }

    /// Returns the first span that ends above the start of `span`, the only one that may contain
    /// `span`.
    fn find(&self, span: Span) -> Option<&Span> {
        let at = self.spans.partition_point(|s| s.end() <= span.start());
        self.spans.get(at)
    }

    /// Returns the first part of `span` that is not tracked.
    pub(crate) fn first_outside(&self, span: Span) -> Option<Span> {
        match self.find(span) {
            None => Some(span),
            Some(s) if s.start() > span.start() => {
                Span::new(span.start(), s.start().min(span.end()))
            }
            // `s` holds the start of `span`, and what follows `s` is a gap.
            Some(s) => {
                let rest = Span::new(s.end(), span.end())?;
                let next = self.find(rest).map_or(rest.end(), |n| n.start());
                Span::new(rest.start(), rest.end().min(next))
            }
        }
    }

    /// Returns the tracked spans in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.spans.iter().copied()
    }

    /// Returns the number of spans.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }
}

#[kunit_tests(vfio_dirty_ranges)]
mod tests {
    use super::*;

    #[test]
    fn combines_and_sorts() -> Result {
        let t = make(&[(50, 60), (0, 10), (10, 20), (55, 70)], 8)?;
        check(&t, &[(0, 20), (50, 70)])
    }

    #[test]
    fn insert_swallows_many() -> Result {
        let mut t = make(&[(0, 1), (2, 3), (4, 5), (8, 9)], 8)?;
        t.reserve()?;
        t.insert(span(1, 5)?);
        check(&t, &[(0, 5), (8, 9)])?;
        t.reserve()?;
        t.insert(span(6, 7)?);
        check(&t, &[(0, 5), (6, 7), (8, 9)])
    }

    #[test]
    fn limit_closes_smallest_gaps() -> Result {
        check(
            &make(&[(0, 1), (10, 11), (12, 13), (100, 101)], 3)?,
            &[(0, 1), (10, 13), (100, 101)],
        )?;
        check(
            &make(&[(0, 1), (10, 11), (12, 13), (100, 101)], 2)?,
            &[(0, 13), (100, 101)],
        )?;
        check(
            &make(&[(0, 1), (10, 11), (12, 13), (100, 101)], 1)?,
            &[(0, 101)],
        )
    }

    #[test]
    fn refuses_nothing() {
        assert!(Tracked::combine(core::iter::empty(), 4).is_err());
        assert!(make(&[(0, 1)], 0).is_err());
    }

    #[test]
    fn containment() -> Result {
        let t = make(&[(10, 20), (30, 40)], 8)?;
        assert!(t.covers(span(10, 20)?));
        assert!(t.covers(span(39, 40)?));
        assert!(!t.covers(span(9, 11)?));
        assert!(!t.covers(span(19, 31)?));
        assert!(!t.covers(span(40, 41)?));
        Ok(())
    }

    #[test]
    fn parts_outside() -> Result {
        let mut t = make(&[(10, 20), (30, 40)], 8)?;
        assert_eq!(t.first_outside(span(12, 18)?), None);
        assert_eq!(t.first_outside(span(0, 5)?), Span::new(0, 5));
        assert_eq!(t.first_outside(span(0, 50)?), Span::new(0, 10));
        assert_eq!(t.first_outside(span(10, 50)?), Span::new(20, 30));
        assert_eq!(t.first_outside(span(35, 50)?), Span::new(40, 50));
        assert_eq!(t.first_outside(span(15, 25)?), Span::new(20, 25));
        // This is the loop of a report. It ends when all is tracked.
        let asked = span(0, 50)?;
        let mut rounds = 0;
        while let Some(out) = t.first_outside(asked) {
            t.reserve()?;
            t.insert(out);
            rounds += 1;
        }
        assert_eq!(rounds, 3);
        check(&t, &[(0, 50)])
    }

    fn span(a: u64, b: u64) -> Result<Span> {
        Span::new(a, b).ok_or(EINVAL)
    }

    fn make(list: &[(u64, u64)], limit: usize) -> Result<Tracked> {
        Tracked::combine(list.iter().filter_map(|&(a, b)| Span::new(a, b)), limit)
    }

    fn check(t: &Tracked, want: &[(u64, u64)]) -> Result {
        let same =
            t.len() == want.len() && t.iter().zip(want).all(|(s, w)| (s.start(), s.end()) == *w);
        if same {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }
}
