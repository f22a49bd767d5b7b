// SPDX-License-Identifier: GPL-2.0

//! Intervals that are dirty as a whole.
//!
//! They come from a lost log entry (rule 6), from a range that was not tracked
//! until now (rule 9) and from a bitmap chunk that could not be allocated. They
//! cost a few words each, whatever they span.
//!
//! Adding never fails: one interval, the *hull*, lives in the structure itself,
//! and what finds no memory of its own widens it. That is dirtier than the truth
//! and therefore safe. Taking something out of the middle of the hull may need
//! memory too; without it the hull stays as it is, and will be reported again.

use super::span::Span;
use kernel::{prelude::*, rbtree::RBTree};

/// A set of granules kept as intervals.
pub(crate) struct Coarse {
    /// Key: end of the interval. Value: its start. Disjoint, not touching. Keyed
    /// by the end, the first interval that may meet a span is one lookup away.
    tree: RBTree<u64, u64>,
    len: usize,
    limit: usize,
    hull: Option<Span>,
}

impl Coarse {
    /// An empty set that keeps at most `limit` intervals besides the hull.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            tree: RBTree::new(),
            len: 0,
            limit,
            hull: None,
        }
    }

    /// Whether nothing is in the set.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0 && self.hull.is_none()
    }

    /// Number of intervals.
    pub(crate) fn intervals(&self) -> usize {
        // OVERFLOW: far fewer intervals than `usize` values fit in memory.
        self.len + usize::from(self.hull.is_some())
    }

    /// Adds `span`.
    pub(crate) fn insert(&mut self, span: Span) {
        let mut joined = span;
        while let Some(found) = self.first_in_tree(joined.start()) {
            if !found.touches(joined) {
                break;
            }
            self.take_from_tree(found);
            joined = joined.hull(found);
        }
        if !self.put_in_tree(joined) {
            self.hull = Some(self.hull.map_or(joined, |h| h.hull(joined)));
        }
    }

    /// The lowest part of the set inside `within`.
    pub(crate) fn first_in(&self, within: Span) -> Option<Span> {
        // The first interval that ends above the start of `within`.
        let tree = self
            .first_in_tree(within.start().saturating_add(1))
            .and_then(|s| s.intersect(within));
        let hull = self.hull.and_then(|h| h.intersect(within));
        match (tree, hull) {
            (Some(a), Some(b)) if a.touches(b) => Some(a.hull(b)),
            (Some(a), Some(b)) => Some(if a.start() < b.start() { a } else { b }),
            (a, b) => a.or(b),
        }
    }

    /// Takes `span` out. Parts for which there is no memory stay in.
    pub(crate) fn remove(&mut self, span: Span) {
        // An interval that ends at or below `span` is not met.
        while let Some(found) = self.first_in_tree(span.start().saturating_add(1)) {
            if found.intersect(span).is_none() {
                break;
            }
            self.take_from_tree(found);
            let (below, above) = found.without(span);
            // Above first: it has the key, and with it the node, of `found`.
            for rest in [above, below].into_iter().flatten() {
                if !self.put_in_tree(rest) {
                    self.hull = Some(self.hull.map_or(rest, |h| h.hull(rest)));
                }
            }
        }
        if let Some(hull) = self.hull {
            self.hull = match hull.without(span) {
                (Some(below), Some(above)) => {
                    if self.put_in_tree(below) {
                        Some(above)
                    } else {
                        Some(hull)
                    }
                }
                (below, above) => below.or(above),
            };
        }
    }

    /// The first interval that ends at or above `end`.
    fn first_in_tree(&self, end: u64) -> Option<Span> {
        let cursor = self.tree.cursor_lower_bound(&end)?;
        let (end, start) = cursor.current();
        Span::new(*start, *end)
    }

    fn take_from_tree(&mut self, span: Span) {
        if self.tree.remove(&span.end()).is_some() {
            self.len = self.len.saturating_sub(1);
        }
    }

    /// `false` when there is no room. Never joins: the callers have done so, or
    /// put in parts of what was disjoint.
    fn put_in_tree(&mut self, span: Span) -> bool {
        if self.len >= self.limit {
            return false;
        }
        if self
            .tree
            .try_create_and_insert(span.end(), span.start(), super::bitmap::flags())
            .is_err()
        {
            return false;
        }
        self.len = self.len.saturating_add(1);
        true
    }
}

#[kunit_tests(dlr_vf_coarse)]
mod tests {
    use super::*;

    #[test]
    fn joins() -> Result {
        let mut c = Coarse::new(16);
        for (a, b) in [(0, 10), (20, 30), (40, 50)] {
            c.insert(span(a, b)?);
        }
        assert_eq!(c.intervals(), 3);
        c.insert(span(10, 41)?);
        assert_eq!(c.intervals(), 1);
        assert_eq!(c.first_in(span(0, 100)?), Span::new(0, 50));
        Ok(())
    }

    #[test]
    fn removes_exactly() -> Result {
        for limit in [16, 0] {
            let mut c = Coarse::new(limit);
            c.insert(span(0, 100)?);
            c.remove(span(0, 10)?);
            assert_eq!(c.first_in(span(0, 100)?), Span::new(10, 100));
            c.remove(span(90, 200)?);
            assert_eq!(c.first_in(span(0, 300)?), Span::new(10, 90));
            c.remove(span(10, 90)?);
            assert!(c.is_empty());
        }
        Ok(())
    }

    #[test]
    fn splits() -> Result {
        let mut c = Coarse::new(16);
        c.insert(span(0, 100)?);
        c.remove(span(40, 60)?);
        assert_eq!(c.first_in(span(0, 100)?), Span::new(0, 40));
        assert_eq!(c.first_in(span(40, 60)?), None);
        assert_eq!(c.first_in(span(40, 100)?), Span::new(60, 100));
        assert_eq!(c.first_in(span(45, 61)?), Span::new(60, 61));
        Ok(())
    }

    #[test]
    fn without_memory_only_grows() -> Result {
        let mut c = Coarse::new(0);
        c.insert(span(0, 10)?);
        c.insert(span(20, 30)?);
        assert_eq!(c.first_in(span(0, 100)?), Span::new(0, 30));
        // A hole in the middle finds no memory: it stays dirty.
        c.remove(span(12, 14)?);
        assert_eq!(c.first_in(span(12, 14)?), Span::new(12, 14));
        Ok(())
    }

    #[test]
    fn hull_and_tree_meet() -> Result {
        let mut c = Coarse::new(1);
        c.insert(span(20, 30)?);
        c.insert(span(50, 60)?);
        // The second is the hull. Both are seen, the lower one first.
        assert_eq!(c.first_in(span(0, 100)?), Span::new(20, 30));
        assert_eq!(c.first_in(span(30, 100)?), Span::new(50, 60));
        c.remove(span(22, 55)?);
        assert_eq!(c.first_in(span(0, 22)?), Span::new(20, 22));
        assert_eq!(c.first_in(span(55, 100)?), Span::new(55, 60));
        Ok(())
    }

    fn span(a: u64, b: u64) -> Result<Span> {
        Span::new(a, b).ok_or(EINVAL)
    }
}
