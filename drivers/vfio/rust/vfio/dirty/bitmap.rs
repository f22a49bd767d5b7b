// SPDX-License-Identifier: GPL-2.0

//! The sparse dirty bitmap: what the log said and no report has taken yet.
//!
//! Chunks are made when a granule in them is first written and freed when a report has cleared
//! their last one, so clean memory costs nothing and a walk over it costs next to nothing either.
//! What is dirty as a whole stands in [`Coarse`]; the two may overlap, and a granule is dirty if
//! either says so.
//!
//! **Marking cannot fail.** A chunk that finds no memory becomes an interval of [`Coarse`], where
//! adding never fails.
//!
//! **A bit is cleared only after it was told.** A report tells a span ([`DirtyBitmap::tell`]) and
//! clears it ([`DirtyBitmap::clear`]) when all of it has arrived, in one hold of the log lock. A
//! report that ends in between has cleared nothing.

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

/// Whether the first of `runs` has more than one granule: then most of the others do, too.
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
    /// A clean bitmap that takes at most `bytes` of memory, which `charge` pays for, and keeps at
    /// most `intervals` intervals.
    pub(crate) fn new(bytes: usize, intervals: usize, charge: Charge) -> Self {
        Self {
            tree: Tree::new(),
            coarse: Coarse::new(intervals),
            memory: MemoryLimit::new(bytes, charge),
        }
    }

    /// Changes how many bytes of memory it may take.
    pub(crate) fn set_limit(&mut self, bytes: usize) {
        self.memory.set_limit(bytes);
    }

    /// Marks `runs`, which must not reach beyond the last granule that can exist.
    pub(crate) fn mark(&mut self, runs: &[Run]) {
        // What is known to be dirty as a whole. It stays so in here: intervals only grow.
        let mut whole = None;
        let mut rest = runs;
        loop {
            let (row, above) = Run::row(rest);
            if let Some(row) = row {
                self.mark_in(row, &mut whole);
                rest = above;
                continue;
            }
            // A chunk that is there takes it even if it is dirty as part of something larger, too.
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

    /// As [`Self::mark`], for all that takes longer.
    #[inline(never)]
    fn mark_in(&mut self, span: Span, whole: &mut Option<Span>) {
        let mut rest = Some(span);
        while let Some(run) = rest {
            let (index, lo, hi, above) = split(run);
            rest = above;
            // Already dirty as part of something larger: no chunk for it.
            if !self.coarse.is_empty() && whole.is_none_or(|whole| !whole.contains(run)) {
                *whole = self.coarse.around(run.start());
            }
            if whole.is_some_and(|whole| whole.contains(run)) {
                return;
            }
            if self.tree.set(index, lo, hi, &mut self.memory).is_none() {
                // All of the chunk: the next mark in it needs no memory either.
                let base = index.saturating_mul(CHUNK_GRANULES);
                let all = Span::new(base, base.saturating_add(CHUNK_GRANULES)).unwrap_or(run);
                self.mark_all([all.hull(run)]);
            }
        }
    }

    /// Marks all of `span`, in constant memory.
    pub(crate) fn mark_whole(&mut self, span: Span) {
        self.coarse.insert(span, &mut self.memory);
    }

    /// Marks all of `tracked` (rule 6) and drops the bits there, which say no more.
    pub(crate) fn mark_all(&mut self, tracked: impl IntoIterator<Item = Span>) {
        for span in tracked {
            // The bits first: their memory is free for the interval. Both happen in one hold
            // of the log lock.
            self.tree.clear(span, &mut self.memory);
            self.coarse.insert(span, &mut self.memory);
        }
    }

    /// Whether a granule of `span` is dirty.
    pub(crate) fn any(&self, span: Span) -> bool {
        self.coarse.first_in(span).is_some() || self.tree.any(span)
    }

    /// Hands each dirty run of `span`, rising and joined, to `emit`. Clears nothing.
    ///
    /// # Errors
    ///
    /// The first that `emit` returns; it is not called again.
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

    /// Clears `span`. What there is no memory to keep apart from it stays dirty with it.
    pub(crate) fn clear(&mut self, span: Span) {
        self.tree.clear(span, &mut self.memory);
        self.coarse.remove(span, &mut self.memory);
    }

    /// Bytes of kernel memory in use.
    pub(crate) fn memory(&self) -> usize {
        self.memory.used()
    }

    /// From here on one of `one_in` allocations fails, as `seed` decides; 0 ends it.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) fn fail(&mut self, one_in: u32, seed: u64) {
        self.memory.fail(one_in, seed);
    }

    /// Whether the invariants of its parts hold, and the memory in use is what they take.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) fn is_consistent(&self) -> bool {
        let (good, bytes) = self.tree.check();
        let used = bytes.saturating_add(self.coarse.bytes());
        good && self.coarse.is_consistent() && used == self.memory.used()
    }
}
