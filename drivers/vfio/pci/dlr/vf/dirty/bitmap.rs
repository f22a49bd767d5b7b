// SPDX-License-Identifier: GPL-2.0

//! The sparse dirty bitmap: what the log said and no report has taken yet.
//!
//! Chunks of bits are made when a granule in them is first written and freed when
//! a report has taken their last bit, so clean memory costs nothing and a walk
//! over it costs nothing either. What is dirty as a whole stands in
//! [`Coarse`]; the two may overlap, and a granule is dirty if either says so.
//!
//! **Marking cannot fail.** A chunk that finds no memory becomes an interval of
//! [`Coarse`], which always has room for one more truth.
//!
//! **A bit is cleared only by the call that hands it to the user**, under the log
//! lock of the caller: there is no moment at which a granule is in neither place.

use super::{
    chunk::{split, Chunk, CHUNK_GRANULES},
    coarse::Coarse,
    span::{Merger, Span},
};
use kernel::{alloc::Flags, prelude::*, rbtree::RBTree};

/// Dirty granules of one function.
pub(crate) struct DirtyBitmap {
    chunks: RBTree<u64, Chunk>,
    count: usize,
    limit: usize,
    bits: u64,
    coarse: Coarse,
}

impl DirtyBitmap {
    /// A clean bitmap of at most `chunks` chunks and `intervals` intervals.
    pub(crate) fn new(chunks: usize, intervals: usize) -> Self {
        Self {
            chunks: RBTree::new(),
            count: 0,
            limit: chunks,
            bits: 0,
            coarse: Coarse::new(intervals),
        }
    }

    /// Marks `runs`. Best when neighbours follow each other: a chunk is looked up
    /// once for all consecutive runs in it.
    pub(crate) fn mark(&mut self, runs: impl IntoIterator<Item = Span>) {
        let mut runs = runs.into_iter();
        let mut next = runs.next();
        while let Some(run) = next {
            let (index, lo, hi, rest) = split(run);
            // Already dirty as part of something larger: no chunk for it.
            if !self.coarse.is_empty() && self.coarse.first_in(run) == Some(run) {
                next = runs.next();
                continue;
            }
            let Some(chunk) = chunk_at(&mut self.chunks, &mut self.count, self.limit, index) else {
                if let Some(whole) = chunk_span(index) {
                    self.coarse.insert(whole);
                }
                next = rest.or_else(|| runs.next());
                continue;
            };
            let mut fresh = chunk.set(lo, hi);
            next = rest.or_else(|| runs.next());
            while let Some(run) = next {
                let (same, lo, hi, rest) = split(run);
                if same != index {
                    break;
                }
                // OVERFLOW: a chunk has 8192 bits, and only fresh ones count.
                fresh += chunk.set(lo, hi);
                next = rest.or_else(|| runs.next());
            }
            self.bits = self.bits.saturating_add(fresh);
        }
    }

    /// Marks all of `span`, in constant memory.
    pub(crate) fn mark_whole(&mut self, span: Span) {
        self.coarse.insert(span);
    }

    /// Marks all of `tracked` (rule 6) and drops the bits, which say no more.
    pub(crate) fn mark_all(&mut self, tracked: impl IntoIterator<Item = Span>) {
        for span in tracked {
            self.coarse.insert(span);
        }
        self.chunks = RBTree::new();
        self.count = 0;
        self.bits = 0;
    }

    /// Whether a granule of `span` is dirty.
    pub(crate) fn any(&self, span: Span) -> bool {
        if self.coarse.first_in(span).is_some() {
            return true;
        }
        // A chunk is only kept while it has a bit: this ends at the first one, or, at
        // the edges of `span`, at the second or third.
        let mut from = first_index(span);
        while let Some(at) = self.chunks.cursor_lower_bound(&from) {
            let (&index, chunk) = at.current();
            let Some((lo, hi)) = part_of_chunk(index, span) else {
                return false;
            };
            if chunk.any(lo, hi) {
                return true;
            }
            from = index.saturating_add(1);
        }
        false
    }

    /// Hands each dirty run of `reported`, rising and joined, to `emit`, and
    /// clears what lies in `cleared`, a part of `reported`.
    ///
    /// The two differ when a report does not begin and end at granules: a granule
    /// that it covers only in part is dirty for this report and stays dirty for
    /// the one that asks about the other part.
    pub(crate) fn harvest(
        &mut self,
        reported: Span,
        cleared: Option<Span>,
        emit: impl FnMut(Span),
    ) {
        let mut merger = Merger::new(emit);
        let cleared = cleared.and_then(|c| c.intersect(reported));
        let (below, above) = match cleared {
            Some(cleared) => reported.without(cleared),
            None => (Some(reported), None),
        };
        if let Some(below) = below {
            self.walk(below, false, |s| merger.push(s));
        }
        if let Some(cleared) = cleared {
            self.walk(cleared, true, |s| merger.push(s));
            self.coarse.remove(cleared);
        }
        if let Some(above) = above {
            self.walk(above, false, |s| merger.push(s));
        }
        merger.finish();
    }

    /// Bytes of kernel memory in use, for debugfs and tests.
    pub(crate) fn memory(&self) -> usize {
        const CHUNK_BYTES: usize = CHUNK_GRANULES as usize / 8 + 64;
        self.count
            .saturating_mul(CHUNK_BYTES)
            .saturating_add(self.coarse.intervals() * 64)
    }

    /// Set bits, not counting what is dirty as a whole.
    pub(crate) fn bits(&self) -> u64 {
        self.bits
    }

    /// Both sources of `span`, rising.
    fn walk(&mut self, span: Span, clear: bool, mut push: impl FnMut(Span)) {
        let mut rest = Some(span);
        while let Some(part) = rest {
            let Some(whole) = self.coarse.first_in(part) else {
                self.walk_bits(part, clear, &mut push);
                return;
            };
            let (below, above) = part.without(whole);
            if let Some(below) = below {
                self.walk_bits(below, clear, &mut push);
            }
            if clear {
                // Told by `push(whole)`, in this very call.
                self.walk_bits(whole, true, |_| ());
            }
            push(whole);
            rest = above;
        }
    }

    fn walk_bits(&mut self, span: Span, clear: bool, mut push: impl FnMut(Span)) {
        let mut cursor = self.chunks.cursor_lower_bound_mut(&first_index(span));
        while let Some(mut at) = cursor {
            let (&index, chunk) = at.current_mut();
            let Some((lo, hi)) = part_of_chunk(index, span) else {
                return;
            };
            let base = index.saturating_mul(CHUNK_GRANULES);
            let run = |a, b| {
                if let Some(run) = Span::new(base.saturating_add(a), base.saturating_add(b)) {
                    push(run);
                }
            };
            if !clear {
                chunk.peek(lo, hi, run);
                cursor = at.move_next();
                continue;
            }
            self.bits = self.bits.saturating_sub(chunk.take(lo, hi, run));
            let all = lo == 0 && hi == CHUNK_GRANULES;
            if !all && !chunk.is_clean() {
                cursor = at.move_next();
                continue;
            }
            self.count = self.count.saturating_sub(1);
            // The cursor goes to the next chunk, or back when there is none.
            let (next, _freed) = at.remove_current();
            cursor = next.filter(|n| *n.current().0 > index);
        }
    }
}

fn chunk_at<'a>(
    chunks: &'a mut RBTree<u64, Chunk>,
    count: &mut usize,
    limit: usize,
    index: u64,
) -> Option<&'a mut Chunk> {
    if chunks.get(&index).is_none() {
        if *count >= limit {
            return None;
        }
        let chunk = Chunk::new(flags()).ok()?;
        chunks.try_create_and_insert(index, chunk, flags()).ok()?;
        *count = count.saturating_add(1);
    }
    chunks.get_mut(&index)
}

/// May sleep, but gives up early and quietly: there is another way out.
pub(super) fn flags() -> Flags {
    GFP_KERNEL_ACCOUNT | __GFP_NOWARN
}

fn first_index(span: Span) -> u64 {
    span.start() / CHUNK_GRANULES
}

fn chunk_span(index: u64) -> Option<Span> {
    let base = index.checked_mul(CHUNK_GRANULES)?;
    Span::new(base, base.checked_add(CHUNK_GRANULES)?)
}

/// The part of `span` in chunk `index`, as numbers inside the chunk.
fn part_of_chunk(index: u64, span: Span) -> Option<(u64, u64)> {
    let chunk = chunk_span(index)?;
    let part = chunk.intersect(span)?;
    // OVERFLOW: the part lies in the chunk.
    Some((part.start() - chunk.start(), part.end() - chunk.start()))
}

#[kunit_tests(dlr_vf_bitmap)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_clean() -> Result {
        let mut b = big();
        assert!(!b.any(span(0, 1 << 40)?));
        assert_eq!(taken(&mut b, span(0, 1 << 40)?)?, (0, 0));
        assert_eq!(b.memory(), 0);
        Ok(())
    }

    #[test]
    fn one_granule_anywhere() -> Result {
        for at in [0, 63, 64, CHUNK_GRANULES - 1, CHUNK_GRANULES, (1 << 52) - 1] {
            let mut b = big();
            b.mark([span(at, at + 1)?]);
            assert!(b.any(span(at, at + 1)?));
            assert_eq!(taken(&mut b, span(at, at + 1)?)?, (1, 1));
            assert!(!b.any(span(0, 1 << 52)?));
            assert_eq!(b.memory(), 0);
            assert_eq!(b.bits(), 0);
        }
        Ok(())
    }

    #[test]
    fn clears_only_the_range() -> Result {
        let mut b = big();
        let top = 3 * CHUNK_GRANULES;
        b.mark([span(0, top)?]);
        assert_eq!(taken(&mut b, span(100, top - 100)?)?, (top - 200, 1));
        assert_eq!(taken(&mut b, span(0, top)?)?, (200, 2));
        assert_eq!(b.memory(), 0);
        Ok(())
    }

    #[test]
    fn part_of_a_granule_is_reported_and_kept() -> Result {
        let mut b = big();
        b.mark([span(10, 13)?]);
        let mut n = 0;
        b.harvest(span(10, 13)?, Span::new(11, 12), |s| n += s.len());
        assert_eq!(n, 3);
        n = 0;
        b.harvest(span(10, 13)?, None, |s| n += s.len());
        assert_eq!(n, 2);
        assert!(b.any(span(10, 11)?));
        assert!(!b.any(span(11, 12)?));
        assert!(b.any(span(12, 13)?));
        Ok(())
    }

    #[test]
    fn runs_join_over_words_and_chunks() -> Result {
        let mut b = big();
        b.mark([span(60, 70)?, span(70, 80)?]);
        b.mark([span(CHUNK_GRANULES - 2, CHUNK_GRANULES + 2)?]);
        assert_eq!(taken(&mut b, span(0, 1 << 20)?)?, (24, 2));
        Ok(())
    }

    #[test]
    fn whole_and_bits_overlap() -> Result {
        let mut b = big();
        b.mark([span(5, 15)?, span(95, 105)?, span(200, 201)?]);
        b.mark_whole(span(10, 100)?);
        assert!(b.any(span(50, 51)?));
        assert_eq!(taken(&mut b, span(0, 300)?)?, (101, 2));
        assert!(!b.any(span(0, 300)?));
        assert_eq!(b.bits(), 0);
        Ok(())
    }

    #[test]
    fn all_dirty_is_taken_range_by_range() -> Result {
        let mut b = big();
        b.mark([span(7, 8)?]);
        b.mark_all([span(0, 1 << 30)?, span(1 << 31, 1 << 32)?]);
        assert_eq!(b.bits(), 0);
        // As QEMU asks: sections with holes between them.
        assert_eq!(taken(&mut b, span(0, 0xc3)?)?, (0xc3, 1));
        assert_eq!(taken(&mut b, span(0xe8, 0xf0)?)?, (8, 1));
        assert_eq!(taken(&mut b, span(0xe8, 0xf0)?)?, (0, 0));
        assert!(b.any(span(0xc3, 0xe8)?));
        assert_eq!(taken(&mut b, span(0x100, 1 << 32)?)?.1, 2);
        assert_eq!(taken(&mut b, span(0, 1 << 32)?)?, (0xe8 - 0xc3 + 0x10, 2));
        assert_eq!(b.memory(), 0);
        Ok(())
    }

    #[test]
    fn marks_inside_whole_cost_nothing() -> Result {
        let mut b = big();
        b.mark_whole(span(0, 1 << 20)?);
        let before = b.memory();
        b.mark([span(5, 6)?, span(1000, 2000)?]);
        assert_eq!(b.memory(), before);
        Ok(())
    }

    #[test]
    fn no_memory_degrades_to_all_dirty() -> Result {
        // One chunk, no interval but the built-in one.
        let mut b = DirtyBitmap::new(1, 0);
        b.mark([span(5, 6)?]);
        b.mark([span(CHUNK_GRANULES + 5, CHUNK_GRANULES + 6)?]);
        b.mark([span(4 * CHUNK_GRANULES, 4 * CHUNK_GRANULES + 1)?]);
        assert!(b.any(span(5, 6)?));
        assert!(b.any(span(CHUNK_GRANULES + 5, CHUNK_GRANULES + 6)?));
        assert!(b.any(span(4 * CHUNK_GRANULES, 4 * CHUNK_GRANULES + 1)?));
        let (n, _) = taken(&mut b, span(0, 8 * CHUNK_GRANULES)?)?;
        assert_eq!(n, 1 + 4 * CHUNK_GRANULES);
        assert!(!b.any(span(0, 8 * CHUNK_GRANULES)?));
        Ok(())
    }

    #[test]
    fn memory_bound() -> Result {
        let mut b = big();
        let pages = 1u64 << 20;
        b.mark([span(0, pages)?]);
        assert!(b.memory() as u64 * 8 <= 2 * pages);
        assert_eq!(b.bits(), pages);
        Ok(())
    }

    fn big() -> DirtyBitmap {
        DirtyBitmap::new(usize::MAX, 64)
    }

    fn span(a: u64, b: u64) -> Result<Span> {
        Span::new(a, b).ok_or(EINVAL)
    }

    /// Granules and runs that a harvest of `s` hands out; `Err` if not rising.
    fn taken(b: &mut DirtyBitmap, s: Span) -> Result<(u64, u64)> {
        let (mut granules, mut runs, mut last) = (0, 0, None);
        let mut rising = true;
        b.harvest(s, Some(s), |r| {
            granules += r.len();
            runs += 1;
            rising &= last.is_none_or(|l| l < r.start());
            last = Some(r.end());
        });
        if rising {
            Ok((granules, runs))
        } else {
            Err(EINVAL)
        }
    }
}
