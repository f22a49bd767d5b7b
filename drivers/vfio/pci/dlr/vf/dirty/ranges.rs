// SPDX-License-Identifier: GPL-2.0

//! The set of granules that are tracked: what the user asked for, widened to
//! granules, combined to what the device can hold, and extended later when a
//! report asks about something else (rule 9).
//!
//! Pure; the caller holds the log lock.

use super::span::Span;
use kernel::prelude::*;

/// Tracked granules: sorted, disjoint and not touching each other.
pub(crate) struct Tracked {
    spans: KVec<Span>,
}

impl Tracked {
    /// Nothing tracked.
    pub(crate) const fn empty() -> Self {
        Self { spans: KVec::new() }
    }

    /// The union of `wanted`, in at most `limit` spans: when there are more, the
    /// smallest gaps are tracked too.
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

    /// Makes room so that the next [`Self::insert`] cannot fail.
    ///
    /// Called before the device is told of a new range: what the device has
    /// accepted must not be forgotten for want of memory.
    pub(crate) fn reserve(&mut self) -> Result {
        Ok(self.spans.reserve(1, GFP_KERNEL_ACCOUNT)?)
    }

    /// Adds `span`, joining what it touches. [`Self::reserve`] comes before it;
    /// without it an insertion that needs room is dropped, and then the span
    /// stays "not tracked", which every report answers with "dirty".
    pub(crate) fn insert(&mut self, span: Span) {
        let mut joined = span;
        self.spans.retain(|s| {
            let apart = !s.touches(joined);
            if !apart {
                joined = joined.hull(*s);
            }
            apart
        });
        // `retain` runs upward and `joined` can only grow to include what it
        // touches there; the sorted and disjoint spans below `joined.start` are
        // untouched by a growth upward, so one pass is enough.
        let at = self
            .spans
            .iter()
            .take_while(|s| s.end() < joined.start())
            .count();
        let _ = self.spans.insert_within_capacity(at, joined);
    }

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
            // Replaces two spans by one: needs no room.
            self.insert(hull);
        }
    }

    /// Whether every granule of `span` is tracked.
    pub(crate) fn covers(&self, span: Span) -> bool {
        // As spans do not touch, a covered span lies in one of them.
        self.find(span).is_some_and(|s| s.contains(span))
    }

    /// The span that ends above `span`'s start: the only one that may contain it.
    fn find(&self, span: Span) -> Option<&Span> {
        let at = self.spans.partition_point(|s| s.end() <= span.start());
        self.spans.get(at)
    }

    /// The first part of `span` that is not tracked.
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

    /// The tracked spans, rising.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.spans.iter().copied()
    }

    /// Number of spans.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }
}

#[kunit_tests(dlr_vf_ranges)]
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
        // The loop a report runs: it ends, and then all is tracked.
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
