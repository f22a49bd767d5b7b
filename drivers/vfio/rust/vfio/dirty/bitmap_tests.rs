// SPDX-License-Identifier: GPL-2.0

//! Tests of the dirty bitmap with examples; [`property_tests`](super::property_tests) has random
//! tests.

use super::{
    bitmap::DirtyBitmap,
    chunk::{
        CHUNK_BYTES,
        CHUNK_GRANULES, //
    },
    node::NODE_BYTES,
    random::Random,
    run::Run,
    span::Span,
};
use crate::ext::memcg::Charge;
use kernel::prelude::*;

#[kunit_tests(vfio_dirty_bitmap)]
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
            mark(&mut b, [span(at, at + 1)?]);
            assert!(b.any(span(at, at + 1)?));
            assert_eq!(taken(&mut b, span(at, at + 1)?)?, (1, 1));
            assert!(!b.any(span(0, 1 << 52)?));
            assert_eq!(b.memory(), 0);
        }
        Ok(())
    }

    #[test]
    fn clears_only_the_range() -> Result {
        let mut b = big();
        let top = 3 * CHUNK_GRANULES;
        mark(&mut b, [span(0, top)?]);
        assert_eq!(taken(&mut b, span(100, top - 100)?)?, (top - 200, 1));
        assert_eq!(taken(&mut b, span(0, top)?)?, (200, 2));
        assert_eq!(b.memory(), 0);
        Ok(())
    }

    #[test]
    fn part_of_a_granule_is_reported_and_kept() -> Result {
        let mut b = big();
        mark(&mut b, [span(10, 13)?]);
        assert_eq!(told(&b, span(10, 13)?)?, (3, 1));
        b.clear(span(11, 12)?);
        assert_eq!(told(&b, span(10, 13)?)?, (2, 2));
        assert!(b.any(span(10, 11)?));
        assert!(!b.any(span(11, 12)?));
        assert!(b.any(span(12, 13)?));
        Ok(())
    }

    #[test]
    fn runs_join_over_words_and_chunks() -> Result {
        let mut b = big();
        mark(&mut b, [span(60, 70)?, span(70, 80)?]);
        mark(&mut b, [span(CHUNK_GRANULES - 2, CHUNK_GRANULES + 2)?]);
        assert_eq!(taken(&mut b, span(0, 1 << 20)?)?, (24, 2));
        Ok(())
    }

    #[test]
    fn whole_and_bits_overlap() -> Result {
        let mut b = big();
        mark(&mut b, [span(5, 15)?, span(95, 105)?, span(200, 201)?]);
        b.mark_whole(span(10, 100)?);
        assert!(b.any(span(50, 51)?));
        assert_eq!(taken(&mut b, span(0, 300)?)?, (101, 2));
        assert!(!b.any(span(0, 300)?));
        assert_eq!(b.memory(), 0);
        Ok(())
    }

    #[test]
    fn all_dirty_is_taken_range_by_range() -> Result {
        let mut b = big();
        mark(&mut b, [span(7, 8)?]);
        b.mark_all([span(0, 1 << 30)?, span(1 << 31, 1 << 32)?]);
        // The bits are dropped.
        assert!(b.memory() < NODE_BYTES);
        // QEMU reports sections with holes between them.
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
        mark(&mut b, [span(5, 6)?, span(1000, 2000)?]);
        assert_eq!(b.memory(), before);
        Ok(())
    }

    #[test]
    fn no_memory_degrades_to_all_dirty() -> Result {
        // There is memory for one node with one short list, and no interval besides the slot.
        let mut b = DirtyBitmap::new(NODE_BYTES + 64, 0, Charge::none());
        mark(&mut b, [span(5, 6)?]);
        mark(&mut b, [span(CHUNK_GRANULES + 5, CHUNK_GRANULES + 6)?]);
        mark(&mut b, [span(4 * CHUNK_GRANULES, 4 * CHUNK_GRANULES + 1)?]);
        assert!(b.any(span(5, 6)?));
        assert!(b.any(span(CHUNK_GRANULES + 5, CHUNK_GRANULES + 6)?));
        assert!(b.any(span(4 * CHUNK_GRANULES, 4 * CHUNK_GRANULES + 1)?));
        let (n, _) = taken(&mut b, span(0, 8 * CHUNK_GRANULES)?)?;
        assert_eq!(n, 1 + 4 * CHUNK_GRANULES);
        assert!(!b.any(span(0, 8 * CHUNK_GRANULES)?));
        Ok(())
    }

    /// A list that is full and finds no memory to grow (mutant D19).
    #[test]
    fn a_full_list_without_memory_degrades_to_its_chunk() -> Result {
        let mut b = DirtyBitmap::new(NODE_BYTES + 64, 0, Charge::none());
        for n in 0..40 {
            mark(&mut b, [span(2 * n, 2 * n + 1)?]);
        }
        for n in 0..40 {
            assert!(b.any(span(2 * n, 2 * n + 1)?));
        }
        let all = span(0, 2 * CHUNK_GRANULES)?;
        assert_eq!(taken(&mut b, all)?, (CHUNK_GRANULES, 1));
        Ok(())
    }

    #[test]
    fn memory_bound() -> Result {
        let mut b = big();
        let pages = 1u64 << 20;
        mark(&mut b, [span(0, pages)?]);
        assert!(b.memory() as u64 * 8 <= 2 * pages);
        assert_eq!(taken(&mut b, span(0, pages)?)?, (pages, 1));
        assert_eq!(b.memory(), 0);
        Ok(())
    }

    #[test]
    fn looks_into_every_chunk() -> Result {
        let mut b = big();
        // One bit of the first chunk is outside of the span, one of the third inside.
        mark(
            &mut b,
            [
                span(0, 1)?,
                span(2 * CHUNK_GRANULES + 5, 2 * CHUNK_GRANULES + 6)?,
            ],
        );
        assert!(b.any(span(1, 3 * CHUNK_GRANULES)?));
        assert!(!b.any(span(1, 2 * CHUNK_GRANULES + 5)?));
        Ok(())
    }

    #[test]
    fn what_was_not_told_is_not_cleared() -> Result {
        let mut b = big();
        mark(&mut b, [span(5, 6)?, span(9, 10)?, span(20_000, 20_001)?]);
        b.mark_whole(span(30_000, 40_000)?);
        let all = span(0, 1 << 20)?;
        for cut in 0..4 {
            let mut runs = 0;
            let told = b.tell(all, |_| {
                runs += 1;
                (runs <= cut).then_some(()).ok_or(EINTR)
            });
            assert_eq!((told, runs), (Err(EINTR), cut + 1));
        }
        assert_eq!(taken(&mut b, all)?, (10_003, 4));
        Ok(())
    }

    /// A regression test: an earlier version lost pages here although no allocation failed.
    #[test]
    fn c1_many_reports_between_two_losses() -> Result {
        let pages = 1 << 18;
        let all = span(0, pages)?;
        let mut b = DirtyBitmap::new(usize::MAX, 4096, Charge::none());
        b.mark_all([all]);
        let mut random = Random::new(1);
        let mut at = 0;
        for _ in 0..5200 {
            at += 2 + 2 * random.below(48);
            assert!(b.any(span(at, at + 1)?));
            b.clear(span(at, at + 1)?);
        }
        b.mark_all([all]);
        assert_eq!(taken(&mut b, span(at - 99, at - 98)?)?, (1, 1));
        assert_eq!(told(&b, all)?.0, pages - 1);
        Ok(())
    }

    #[test]
    fn memory_has_a_bound() -> Result {
        let limit = 6 * NODE_BYTES + 10 * CHUNK_BYTES;
        let mut b = DirtyBitmap::new(limit, 64, Charge::none());
        for n in (0..1000).rev() {
            mark(&mut b, [span(n * CHUNK_GRANULES, n * CHUNK_GRANULES + 1)?]);
            assert!(b.memory() <= limit);
        }
        for n in 0..1000 {
            assert!(b.any(span(n * CHUNK_GRANULES, n * CHUNK_GRANULES + 1)?));
        }
        b.clear(span(0, 1000 * CHUNK_GRANULES)?);
        assert_eq!(b.memory(), 0);
        Ok(())
    }

    /// Marks single granules by `mark`, as a drain does.
    fn mark<const N: usize>(b: &mut DirtyBitmap, spans: [Span; N]) {
        for span in spans {
            match span.len() {
                1 => b.mark(&[Run::one(span.start())]),
                _ => b.mark_span(span),
            }
        }
    }

    fn big() -> DirtyBitmap {
        DirtyBitmap::new(usize::MAX, 64, Charge::none())
    }

    fn span(a: u64, b: u64) -> Result<Span> {
        Span::new(a, b).ok_or(EINVAL)
    }

    /// Returns the number of granules and of runs in a report of `s`, or `EINVAL` if the runs do
    /// not ascend.
    fn told(b: &DirtyBitmap, s: Span) -> Result<(u64, u64)> {
        let (mut granules, mut runs, mut last) = (0, 0, None);
        b.tell(s, |r| {
            granules += r.len();
            runs += 1;
            let rising = last.is_none_or(|l| l < r.start());
            last = Some(r.end());
            rising.then_some(()).ok_or(EINVAL)
        })?;
        Ok((granules, runs))
    }

    /// Like [`told`], and clears `s`.
    fn taken(b: &mut DirtyBitmap, s: Span) -> Result<(u64, u64)> {
        let counts = told(b, s)?;
        b.clear(s);
        Ok(counts)
    }
}
