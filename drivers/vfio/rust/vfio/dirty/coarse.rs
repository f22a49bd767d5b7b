// SPDX-License-Identifier: GPL-2.0

//! Intervals of granules that are dirty as a whole.
//!
//! An interval is added when the hardware has lost log entries, when a report asks about granules
//! that were not tracked, and when a chunk of the bitmap cannot be allocated. Each interval takes
//! one node of a tree, whatever its length.
//!
//! Adding never fails. One interval, the *slot*, is a field of the structure. When the slot is in
//! use and a node cannot be allocated, the new interval is joined with its nearest neighbour: the
//! gap between them becomes dirty, which reports too much but loses nothing. Cutting a hole into an
//! interval needs one more node; without memory the interval stays whole and is reported again. All
//! other operations reuse the nodes that they remove.

use super::{memory::MemoryLimit, span::Span};
use kernel::{
    prelude::*,
    rbtree::{RBTree, RBTreeNodeReservation},
};

/// Memory of one interval: a `struct rb_node`, key and value, rounded up as the slab allocator
/// does.
const NODE_BYTES: usize = 64;

/// Memory of a node of the tree.
type Node = RBTreeNodeReservation<u64, u64>;

/// A set of granules kept as intervals.
///
/// # Invariants
///
/// The intervals, those of `tree` and `slot` together, neither overlap nor touch. `len` is the
/// number of nodes in `tree`.
pub(crate) struct Coarse {
    /// The key is the end of an interval, the value its start. With the end as key, one lookup
    /// finds the first interval that may overlap a span.
    tree: RBTree<u64, u64>,
    len: usize,
    limit: usize,
    slot: Option<Span>,
}

impl Coarse {
    /// Creates an empty set of at most `limit` intervals besides the slot.
    pub(crate) fn new(limit: usize) -> Self {
        // INVARIANT: There are no intervals.
        Self {
            tree: RBTree::new(),
            len: 0,
            limit,
            slot: None,
        }
    }

    /// Returns whether the set is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0 && self.slot.is_none()
    }

    /// Returns the number of intervals.
    pub(crate) fn intervals(&self) -> usize {
        self.len.saturating_add(usize::from(self.slot.is_some()))
    }

    /// Returns the memory of the nodes, in bytes.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) fn bytes(&self) -> usize {
        self.len * NODE_BYTES
    }

    /// Returns the interval that contains `granule`.
    pub(super) fn around(&self, granule: u64) -> Option<Span> {
        let has = |span: &Span| span.start() <= granule && granule < span.end();
        self.slot
            .filter(has)
            .or_else(|| self.first_above(granule).filter(has))
    }

    /// Adds `span`.
    pub(super) fn insert(&mut self, span: Span, memory: &mut MemoryLimit) {
        // INVARIANT: `absorb` removes the intervals that touch `span` before their union is added.
        let (joined, mut node) = self.absorb(span, memory);
        if node.is_none() {
            node = self.new_node(memory);
        }
        match node {
            Some(node) => self.put(joined, node, memory),
            None if self.slot.is_none() => self.slot = Some(joined),
            None => self.join_nearest(joined, memory),
        }
        self.debug_check();
    }

    /// Returns the lowest part of the set within `within`.
    pub(crate) fn first_in(&self, within: Span) -> Option<Span> {
        let tree = self
            .first_above(within.start())
            .and_then(|s| s.intersect(within));
        let slot = self.slot.and_then(|s| s.intersect(within));
        match (tree, slot) {
            (Some(a), Some(b)) if b.start() < a.start() => Some(b),
            (a, b) => a.or(b),
        }
    }

    /// Removes `span`. An interval that reaches beyond both ends of `span` stays whole if there is
    /// no memory for its second part.
    pub(super) fn remove(&mut self, span: Span, memory: &mut MemoryLimit) {
        // INVARIANT: Parts of an interval replace it. They do not touch, because at least one
        // granule of `span` lies between them.
        let mut from = span.start();
        while let Some(found) = self.first_above(from) {
            if found.intersect(span).is_none() {
                break;
            }
            from = found.end();
            match found.without(span) {
                (Some(below), Some(above)) => self.split(found, below, above, memory),
                (below, above) => {
                    if let Some(node) = self.take(found) {
                        match below.or(above) {
                            Some(rest) => self.put(rest, node, memory),
                            None => free(node, memory),
                        }
                    }
                }
            }
        }
        if let Some((below, above)) = self
            .slot
            .filter(|slot| slot.intersect(span).is_some())
            .map(|slot| slot.without(span))
        {
            match (below, above) {
                (Some(below), Some(above)) => {
                    if let Some(node) = self.new_node(memory) {
                        self.slot = Some(above);
                        self.put(below, node, memory);
                    }
                }
                (below, above) => self.slot = below.or(above),
            }
        }
        self.debug_check();
    }

    /// Replaces `found`, an interval of the tree, by `below` and `above`, if there is memory.
    fn split(&mut self, found: Span, below: Span, above: Span, memory: &mut MemoryLimit) {
        if let Some(second) = self.new_node(memory) {
            match self.take(found) {
                Some(first) => {
                    self.put(below, first, memory);
                    self.put(above, second, memory);
                }
                None => free(second, memory),
            }
        } else if self.slot.is_none() {
            if let Some(node) = self.take(found) {
                self.slot = Some(below);
                self.put(above, node, memory);
            }
        }
    }

    /// Removes all intervals that touch `span`. Returns their union with `span`, and a node for it
    /// if one became free.
    fn absorb(&mut self, span: Span, memory: &mut MemoryLimit) -> (Span, Option<Node>) {
        let mut joined = span;
        let mut spare = None;
        loop {
            if let Some(slot) = self.slot.filter(|s| s.touches(joined)) {
                self.slot = None;
                joined = joined.hull(slot);
                continue;
            }
            // The first interval that ends at or above the start of `joined`.
            let found = self.first_at(joined.start());
            let Some(found) = found.filter(|f| f.touches(joined)) else {
                return (joined, spare);
            };
            let Some(node) = self.take(found) else {
                return (joined, spare);
            };
            joined = joined.hull(found);
            if let Some(old) = spare.replace(node) {
                free(old, memory);
            }
        }
    }

    /// Adds `span`, which touches no interval, without allocating.
    fn join_nearest(&mut self, span: Span, memory: &mut MemoryLimit) {
        // Absorbing an interval of the tree frees its node; absorbing that of the slot frees the
        // slot.
        let wide = self.nearest(span).map_or(span, |n| span.hull(n));
        match self.absorb(wide, memory) {
            (joined, Some(node)) => self.put(joined, node, memory),
            (joined, None) => self.slot = Some(self.slot.map_or(joined, |s| s.hull(joined))),
        }
    }

    /// Returns the interval with the smallest gap to `span`.
    fn nearest(&self, span: Span) -> Option<Span> {
        let (below, above) = match self.tree.cursor_lower_bound(&span.start()) {
            Some(at) => (at.peek_prev().and_then(interval), interval(at.current())),
            None => {
                let last = self.tree.cursor_back();
                (last.and_then(|at| interval(at.current())), None)
            }
        };
        [below, above, self.slot]
            .into_iter()
            .flatten()
            .min_by_key(|s| s.gap(span))
    }

    /// Returns the first interval of the tree that ends at or above `end`.
    fn first_at(&self, end: u64) -> Option<Span> {
        interval(self.tree.cursor_lower_bound(&end)?.current())
    }

    /// Returns the first interval of the tree that ends above `end`.
    fn first_above(&self, end: u64) -> Option<Span> {
        self.first_at(end.saturating_add(1))
    }

    /// Removes an interval from the tree and returns its node for reuse.
    fn take(&mut self, span: Span) -> Option<Node> {
        let node = self.tree.remove_node(&span.end())?;
        self.len = self.len.saturating_sub(1);
        Some(node.into_reservation())
    }

    /// Allocates a node. Returns `None` without memory or at the limit.
    fn new_node(&self, memory: &mut MemoryLimit) -> Option<Node> {
        if self.len >= self.limit {
            return None;
        }
        memory.allocate(NODE_BYTES, Node::new)
    }

    /// Adds an interval that touches no other to the tree.
    fn put(&mut self, span: Span, node: Node, memory: &mut MemoryLimit) {
        self.len = self.len.saturating_add(1);
        let replaced = self.tree.insert(node.into_node(span.end(), span.start()));
        if let Some(replaced) = replaced {
            // This is a bug: the tree had this key and has dropped an interval, and other intervals
            // may overlap. Replace the set by one interval that contains all of them.
            let _ = kernel::warn_on!(true);
            let (end, start) = replaced.to_key_value();
            memory.give(NODE_BYTES);
            let mut all = span;
            for part in [Span::new(start, end), self.slot].into_iter().flatten() {
                all = all.hull(part);
            }
            for part in self.tree.iter().filter_map(interval) {
                all = all.hull(part);
            }
            memory.give(NODE_BYTES.saturating_mul(self.len.saturating_sub(1)));
            self.tree = RBTree::new();
            self.len = 0;
            self.slot = Some(all);
        }
    }

    /// Warns in a debug build if an invariant does not hold.
    fn debug_check(&self) {
        #[cfg(CONFIG_RUST_DEBUG_ASSERTIONS)]
        {
            let _ = kernel::warn_on!(!self.is_consistent());
        }
    }

    /// Returns whether the invariants of the type hold.
    #[cfg(any(CONFIG_RUST_DEBUG_ASSERTIONS, CONFIG_KUNIT = "y"))]
    pub(super) fn is_consistent(&self) -> bool {
        let mut last: Option<Span> = None;
        let mut count = 0usize;
        for (end, start) in self.tree.iter() {
            let Some(span) = Span::new(*start, *end) else {
                return false;
            };
            if last.is_some_and(|l| l.end() >= span.start())
                || self.slot.is_some_and(|s| s.touches(span))
            {
                return false;
            }
            last = Some(span);
            count = count.saturating_add(1);
        }
        count == self.len
    }
}

/// Converts an entry of the tree to a span.
fn interval((end, start): (&u64, &u64)) -> Option<Span> {
    Span::new(*start, *end)
}

/// Frees a node and returns its size to the limit.
fn free(node: Node, memory: &mut MemoryLimit) {
    drop(node);
    memory.give(NODE_BYTES);
}
