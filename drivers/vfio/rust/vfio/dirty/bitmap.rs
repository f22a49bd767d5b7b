// SPDX-License-Identifier: GPL-2.0

//! The sparse dirty bitmap: the granules that were logged and not reported yet.
//!
//! A chunk is allocated when a granule in it is first written, and freed when a report has cleared
//! its last dirty granule. So clean memory takes no memory here, and a report skips it quickly.
//! Intervals that are dirty as a whole are kept in [`Coarse`]. Chunks and intervals may overlap: a
//! granule is dirty if either contains it.
//!
//! **Marking cannot fail.** If a chunk cannot be allocated, all of its granules become an interval
//! of [`Coarse`], to which adding never fails.
//!
//! **A bit is cleared only after it was reported.** A report passes on a span
//! ([`DirtyBitmap::tell`]) and clears it ([`DirtyBitmap::clear`]) when all of it is in user memory,
//! in one hold of the log lock. A report that ends earlier clears nothing.

use super::{
    chunk::{
        split,
        CHUNK_GRANULES, //
    },
    coarse::Coarse,
    memory::MemoryLimit,
    run::Run,
    span::{
        Merger,
        Span, //
    },
    tree::Tree, //
};
use crate::ext::memcg::Charge;
use kernel::prelude::*;

/// Returns whether the first of `runs` has more than one granule, as then most others do, too.
#[inline]
fn longer(runs: &[Run]) -> bool {
    runs.first().is_some_and(|run| run.more() != 0)
}

/// Dirty granules of one function.
pub(crate) struct DirtyBitmap {
    tree: Tree,
    coarse: Coarse,
    memory: MemoryLimit,
}

impl DirtyBitmap {
    /// Creates a clean bitmap of at most `bytes` bytes of memory, charged to `charge`, and at most
    /// `intervals` coarse intervals.
    pub(crate) fn new(bytes: usize, intervals: usize, charge: Charge) -> Self {
        Self {
            tree: Tree::new(),
            coarse: Coarse::new(intervals),
            memory: MemoryLimit::new(bytes, charge),
        }
    }

    /// Changes the limit of its memory in bytes.
    pub(crate) fn set_limit(&mut self, bytes: usize) {
        self.memory.set_limit(bytes);
    }

    /// Marks `runs`, all below [`MAX_GRANULE`](super::span::MAX_GRANULE).
    pub(crate) fn mark(&mut self, runs: &[Run]) {
        // The coarse interval found last. Intervals only grow during this call.
        let mut whole = None;
        let mut rest = runs;
        loop {
            let (row, above) = Run::row(rest);
            if let Some(row) = row {
                self.mark_in(row, &mut whole);
                rest = above;
                continue;
            }
            // An existing chunk is marked even where a coarse interval covers it.
            if !longer(rest) {
                rest = self.tree.put(rest);
            }
            let Some((run, after)) = rest.split_first() else {
                return;
            };
            if let Some(span) = run.span() {
                self.mark_in(span, &mut whole);
            }
            rest = after;
        }
    }

    /// Marks all granules of `span`, one by one.
    pub(crate) fn mark_span(&mut self, span: Span) {
        self.mark_in(span, &mut None);
    }

    /// The slow path of [`Self::mark`]: may allocate a chunk or grow an interval.
    #[inline(never)]
    fn mark_in(&mut self, span: Span, whole: &mut Option<Span>) {
        let mut rest = Some(span);
        while let Some(run) = rest {
            let (index, lo, hi, above) = split(run);
            rest = above;
            // Allocate no chunk for granules that a coarse interval contains.
            if !self.coarse.is_empty() && whole.is_none_or(|whole| !whole.contains(run)) {
                *whole = self.coarse.around(run.start());
            }
            if whole.is_some_and(|whole| whole.contains(run)) {
                return;
            }
            if self.tree.set(index, lo, hi, &mut self.memory).is_none() {
                // Mark the whole chunk, so that later marks in it allocate nothing.
                let base = index.saturating_mul(CHUNK_GRANULES);
                let all = Span::new(base, base.saturating_add(CHUNK_GRANULES)).unwrap_or(run);
                self.mark_all([all.hull(run)]);
            }
        }
    }

    /// Marks all of `span` as one coarse interval.
    pub(crate) fn mark_whole(&mut self, span: Span) {
        self.coarse.insert(span, &mut self.memory);
    }

    /// Marks all of `tracked` as coarse intervals, and frees the chunks that they now cover.
    pub(crate) fn mark_all(&mut self, tracked: impl IntoIterator<Item = Span>) {
        for span in tracked {
            // Free the chunks first, so that the interval can use their memory. No report can run
            // in between, because the caller holds the log lock.
            self.tree.clear(span, &mut self.memory);
            self.coarse.insert(span, &mut self.memory);
        }
    }

    /// Returns whether a granule of `span` is dirty.
    pub(crate) fn any(&self, span: Span) -> bool {
        self.coarse.first_in(span).is_some() || self.tree.any(span)
    }

    /// Passes the dirty runs of `span` to `emit`, in ascending order and joined. Clears nothing.
    ///
    /// # Errors
    ///
    /// The first error of `emit`, which is not called again.
    pub(crate) fn tell(&self, span: Span, emit: impl FnMut(Span) -> Result) -> Result {
        let mut merger = Merger::new(emit);
        let mut rest = Some(span);
        while let Some(part) = rest {
            let Some(whole) = self.coarse.first_in(part) else {
                self.tree.tell(part, &mut merger)?;
                break;
            };
            let (below, above) = part.without(whole);
            if let Some(below) = below {
                self.tree.tell(below, &mut merger)?;
            }
            merger.push(whole)?;
            rest = above;
        }
        merger.finish()
    }

    /// Clears `span`. Without memory to split an interval, all of the interval stays dirty.
    pub(crate) fn clear(&mut self, span: Span) {
        self.tree.clear(span, &mut self.memory);
        self.coarse.remove(span, &mut self.memory);
    }

    /// Returns the kernel memory in use, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.memory.used()
    }

    /// Makes one of `one_in` allocations fail from now on, chosen by `seed`; with 0 none.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) fn fail(&mut self, one_in: u32, seed: u64) {
        self.memory.fail(one_in, seed);
    }

    /// Returns whether the invariants of the parts hold and their sizes add up to the memory in
    /// use.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) fn is_consistent(&self) -> bool {
        let (good, bytes) = self.tree.check();
        let used = bytes.saturating_add(self.coarse.bytes());
        good && self.coarse.is_consistent() && used == self.memory.used()
    }
}
