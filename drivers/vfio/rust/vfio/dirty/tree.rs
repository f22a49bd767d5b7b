// SPDX-License-Identifier: GPL-2.0

//! The tree of chunks: a radix tree with as many levels as the highest granule in it needs.
//!
//! With pages of 4 KiB, addresses below 8 GiB need one level, those below 2 TiB two, and all 64
//! bits five. A look-up compares the granule with the size of the tree once, and then loads one
//! pointer for each level.

use super::{
    chunk::{
        Chunk,
        CHUNK_SHIFT, //
    },
    memory::MemoryLimit,
    node::{
        self,
        Node,
        MAX_LEVELS,
        NODE_BYTES, //
    },
    run::Run,
    span::{
        Merger,
        Span, //
    },
};
use kernel::prelude::*;

/// A radix tree of the chunks that have dirty granules.
///
/// # Invariants
///
/// All paths from the root have `levels` nodes, of which the last is [`Node::Chunks`]. Without a
/// root, `levels` is 0.
pub(super) struct Tree {
    root: Option<Node>,
    levels: u32,
}

/// Returns the number of levels of a tree that has room for `granule`.
fn levels_for(granule: u64) -> u32 {
    let mut levels = 1;
    while granule >> node::span_shift(levels) != 0 {
        levels = levels.saturating_add(1);
    }
    levels
}

impl Tree {
    /// Creates an empty tree.
    pub(super) const fn new() -> Self {
        Self {
            root: None,
            levels: 0,
        }
    }

    /// Marks `runs` from the first on, up to a run that is not a single granule or whose mark needs
    /// memory. Returns the rest. This is the fastest way to mark.
    #[inline]
    pub(super) fn put<'a>(&mut self, runs: &'a [Run]) -> &'a [Run] {
        let Some(root) = &mut self.root else {
            return runs;
        };
        // Match on the number of levels once, not for each granule.
        match self.levels {
            1 => node::put_each::<1>(root, runs),
            2 => node::put_each::<2>(root, runs),
            3 => node::put_each::<3>(root, runs),
            4 => node::put_each::<4>(root, runs),
            _ => node::put_each::<MAX_LEVELS>(root, runs),
        }
    }

    /// Marks the granules `[lo, hi)` of chunk `index`. Without memory, marks nothing and returns
    /// `None`.
    pub(super) fn set(
        &mut self,
        index: u64,
        lo: u64,
        hi: u64,
        memory: &mut MemoryLimit,
    ) -> Option<()> {
        let granule = index << CHUNK_SHIFT;
        if let Some(chunk) = self.chunk_mut(granule) {
            return chunk.set(lo, hi, memory);
        }
        let chunk = Chunk::with(lo, hi, memory)?;
        self.insert(granule, chunk, memory)
    }

    /// Returns the chunk that contains `granule`.
    fn chunk_mut(&mut self, granule: u64) -> Option<&mut Chunk> {
        let root = self.root.as_mut()?;
        match self.levels {
            1 => node::chunk_mut::<1>(root, granule),
            2 => node::chunk_mut::<2>(root, granule),
            3 => node::chunk_mut::<3>(root, granule),
            4 => node::chunk_mut::<4>(root, granule),
            _ => node::chunk_mut::<MAX_LEVELS>(root, granule),
        }
    }

    /// Inserts `chunk`, which contains `granule`. Its place is empty. Without memory, frees the
    /// chunk and returns `None`.
    fn insert(&mut self, granule: u64, chunk: Chunk, memory: &mut MemoryLimit) -> Option<()> {
        let levels = levels_for(granule);
        if self.root.is_none() {
            // INVARIANT: Without a root any number of levels is right.
            self.levels = levels;
        }
        while self.levels < levels {
            // The root becomes the first child of a new root. If a later allocation fails, the tree
            // has more levels than it needs, which is harmless.
            let Some(mut children) = node::inner(memory) else {
                chunk.free(memory);
                return None;
            };
            if let Some(first) = children.first_mut() {
                *first = self.root.take();
            }
            self.root = Some(Node::Inner(children));
            self.levels = self.levels.saturating_add(1);
        }
        let done = node::attach(&mut self.root, self.levels, granule, chunk, memory);
        if self.root.is_none() {
            self.levels = 0;
        }
        done
    }

    /// Removes `span`.
    pub(super) fn clear(&mut self, span: Span, memory: &mut MemoryLimit) {
        if let Some(root) = &mut self.root {
            if meets(span, self.levels) && node::clear_node(root, self.levels, 0, span, memory) {
                memory.give(NODE_BYTES);
                self.root = None;
                self.levels = 0;
            }
        }
    }

    /// Returns whether a granule of `span` is dirty.
    pub(super) fn any(&self, span: Span) -> bool {
        self.root.as_ref().is_some_and(|root| {
            meets(span, self.levels) && node::any_in(root, self.levels, 0, span)
        })
    }

    /// Passes the dirty granules of `span` to `merger` in ascending order.
    ///
    /// # Errors
    ///
    /// Those of [`Chunk::tell`].
    pub(super) fn tell<F: FnMut(Span) -> Result>(
        &self,
        span: Span,
        merger: &mut Merger<F>,
    ) -> Result {
        match &self.root {
            Some(root) if meets(span, self.levels) => {
                node::tell_node(root, self.levels, 0, span, merger)
            }
            _ => Ok(()),
        }
    }

    /// Returns whether the invariants hold, and the size of the tree in bytes.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) fn check(&self) -> (bool, usize) {
        let mut bytes = 0;
        let good = match &self.root {
            Some(root) => node::check_node(root, self.levels, &mut bytes),
            None => self.levels == 0,
        };
        (good, bytes)
    }
}

/// Returns whether a tree of `levels` levels has room for the first granule of `span`.
fn meets(span: Span, levels: u32) -> bool {
    span.start() >> node::span_shift(levels) == 0
}
