// SPDX-License-Identifier: GPL-2.0

//! The tests that use [`property`](super::property), and random tests of the smaller files.

use super::{
    chunk::{Chunk, CHUNK_BYTES, CHUNK_GRANULES},
    memory::MemoryLimit,
    node::NODE_BYTES,
    property::{bitmap, intervals, steps, Set, Shape, Told},
    random::Random,
    ranges::Tracked,
    run::Run,
    span::{Merger, Span, MAX_GRANULE},
};
use crate::ext::{
    memcg::Charge,
    testing::holds, //
};
use kernel::prelude::*;

#[kunit_tests(vfio_dirty_property)]
mod tests {
    use super::*;

    /// First granules: within one node of the tree, at the end of its first level, and up to
    /// [`MAX_GRANULE`].
    const BASES: [u64; 3] = [
        0,
        (1 << 29) - CHUNK_GRANULES,
        MAX_GRANULE - 3 * CHUNK_GRANULES,
    ];
    const SHORT: u64 = 4;

    #[test]
    fn bitmap_is_exact_with_memory() -> Result {
        for (base, seed) in BASES.into_iter().zip(1..) {
            let share = if base == 0 { 1 } else { 8 };
            let shape = Shape {
                base,
                share,
                ..Shape::PLAIN
            };
            bitmap(c"exact", shape, seed)?;
            let most = SHORT;
            bitmap(c"exact, lists", Shape { most, ..shape }, 100 + seed)?;
        }
        Ok(())
    }

    #[test]
    fn bitmap_loses_nothing_when_allocations_fail() -> Result {
        for (base, seed) in BASES.into_iter().zip(2..) {
            for (one_in, most) in [
                (2, u64::MAX),
                (2, SHORT),
                (7, u64::MAX),
                (7, SHORT),
                (1, 300),
            ] {
                let intervals = if one_in == 2 { usize::MAX } else { 64 };
                let shape = Shape {
                    intervals,
                    one_in,
                    base,
                    most,
                    share: if (base, one_in) == (0, 2) { 1 } else { 8 },
                    ..Shape::PLAIN
                };
                bitmap(c"allocations fail", shape, seed)?;
            }
        }
        Ok(())
    }

    #[test]
    fn bitmap_loses_nothing_at_its_limits() -> Result {
        let limits = [
            (c"few intervals", usize::MAX, 3, 0),
            (c"two chunks", 2 * (CHUNK_BYTES + NODE_BYTES), 64, 0),
            (c"one node and lists", NODE_BYTES + 600, 64, 0),
            (c"no intervals", NODE_BYTES + 3000, 0, 9),
        ];
        for (n, (name, bytes, intervals, one_in)) in limits.into_iter().enumerate() {
            for most in [SHORT, u64::MAX] {
                let shape = Shape {
                    bytes,
                    intervals,
                    one_in,
                    most,
                    ..Shape::PLAIN
                };
                bitmap(name, shape, 5 + n as u64)?;
            }
        }
        Ok(())
    }

    #[test]
    fn intervals_against_a_set() -> Result {
        intervals(c"intervals: exact", usize::MAX, 0, 11)?;
        intervals(c"intervals: limit 4", 4, 0, 12)?;
        intervals(c"intervals: limit 1", 1, 0, 13)?;
        intervals(c"intervals: limit 0", 0, 0, 14)?;
        intervals(c"intervals: one of 2", 64, 2, 15)?;
        intervals(c"intervals: one of 5", 4, 5, 16)
    }

    /// A chunk changes from a list to a bitmap and back many times while every third allocation
    /// fails. A failed allocation changes nothing.
    #[test]
    fn chunk_against_a_set() -> Result {
        let mut random = Random::new(21);
        let mut set = Set::new(CHUNK_GRANULES)?;
        let mut memory = MemoryLimit::new(usize::MAX, Charge::none());
        memory.fail(3, 22);
        let mut place: Option<Chunk> = None;
        steps(c"chunk", |step| {
            let span = random.span(CHUNK_GRANULES)?;
            // Long spans make a bitmap at once, so use short ones for a while.
            let most = if step & 0x2000 == 0 { 5 } else { u64::MAX };
            let span = Span::new(
                span.start(),
                span.end().min(span.start().saturating_add(most)),
            )
            .ok_or(EINVAL)?;
            let (lo, hi) = (span.start(), span.end());
            match (random.below(8), &mut place) {
                (0..=3, Some(chunk)) => {
                    if chunk.set(lo, hi, &mut memory).is_some() {
                        set.put(span, true);
                    }
                }
                (0..=3, None) => {
                    place = Chunk::with(lo, hi, &mut memory);
                    set.put(span, place.is_some());
                }
                (4, _) if random.below(64) == 0 => {
                    set.put(Span::new(0, CHUNK_GRANULES).ok_or(EINVAL)?, false);
                    if let Some(mut chunk) = place.take() {
                        holds(chunk.clear(0, CHUNK_GRANULES))?;
                        chunk.free(&mut memory);
                    }
                }
                (4, Some(chunk)) => {
                    set.put(span, false);
                    if chunk.clear(lo, hi) {
                        if let Some(chunk) = place.take() {
                            chunk.free(&mut memory);
                        }
                    }
                }
                (5, Some(chunk)) => holds(chunk.any(lo, hi) == set.any(span))?,
                (_, Some(chunk)) => {
                    let mut told = Told::new(&set, span, true);
                    let mut merger = Merger::new(|run| told.run(run));
                    chunk.tell(0, lo, hi, &mut merger)?;
                    merger.finish()?;
                    told.end()?;
                }
                (_, None) => holds(!set.any(span))?,
            }
            let bytes = place.as_ref().map_or(0, Chunk::bytes);
            holds(memory.used() == bytes && place.as_ref().is_none_or(Chunk::is_consistent))
        })
    }

    #[test]
    fn merger_against_a_set() -> Result {
        const N: u64 = 200;
        let mut random = Random::new(31);
        let whole = Span::new(0, N).ok_or(EINVAL)?;
        let mut set = Set::new(N)?;
        steps(c"merger", |_| {
            set.put(whole, false);
            let mut runs = [None; 8];
            let mut at = 0;
            for run in &mut runs {
                at += random.below(3);
                *run = Span::new(at, at + 1 + random.below(5));
                at = run.map_or(at, |r| r.end());
                run.iter().for_each(|r| set.put(*r, true));
            }
            let mut told = Told::new(&set, whole, true);
            let mut merger = Merger::new(|run| told.run(run));
            runs.into_iter()
                .flatten()
                .try_for_each(|run| merger.push(run))?;
            merger.finish()?;
            told.end()
        })
    }

    #[test]
    fn spans_against_numbers() -> Result {
        let mut random = Random::new(41);
        steps(c"span", |_| {
            let shift = 12 + random.below(52) as u32;
            let iova = random.next() << random.below(17);
            let length = (random.next() << random.below(17)) >> random.below(64);
            let (wide, granule) = (u128::from(iova) + u128::from(length), 1u128 << shift);
            let covering = Span::covering(iova, length, shift);
            holds(covering.is_some() == (length != 0 && wide <= 1 << 64))?;
            if let Some(s) = covering {
                holds(u128::from(s.start()) == u128::from(iova) / granule)?;
                holds(u128::from(s.end()) == wide.div_ceil(granule))?;
                holds(s.end() <= MAX_GRANULE)?;
            }
            if let Some(s) = Span::inside(iova, length, shift) {
                holds(u128::from(s.start()) == u128::from(iova).div_ceil(granule))?;
                holds(u128::from(s.end()) == wide / granule)?;
                holds(covering.is_some_and(|c| c.contains(s)))?;
            } else if wide < 1 << 64 {
                holds(u128::from(iova).div_ceil(granule) >= wide / granule)?;
            }
            Ok(())
        })
    }

    #[test]
    fn ranges_against_a_set() -> Result {
        const N: u64 = 64;
        let mut random = Random::new(51);
        let mut set = Set::new(N)?;
        let mut tracked = Tracked::empty();
        let mut limit = 8;
        steps(c"ranges", |n| {
            let span = random.span(N)?;
            if n % 64 == 0 {
                let wanted = [span, random.span(N)?, random.span(N)?, random.span(N)?];
                limit = 1 + random.below(4) as usize;
                tracked = Tracked::combine(wanted.into_iter(), limit)?;
                set.put(Span::new(0, N).ok_or(EINVAL)?, false);
                for s in tracked.iter() {
                    set.put(s, true);
                }
                holds(tracked.len() <= limit && wanted.iter().all(|w| tracked.covers(*w)))?;
            }
            holds(tracked.covers(span) == set.all(span))?;
            let runs = [Some(span), Span::new(0, 1), Some(random.span(N)?)];
            let all = runs.iter().flatten().all(|run| set.all(*run));
            let runs = runs.map(|run| run.and_then(Run::of).unwrap_or(Run::FIRST));
            let granules = runs.iter().map(|run| run.more() + 1).sum();
            holds(tracked.covers_all(&runs) == all.then_some(granules))?;
            // The parts outside, and how a report adds them. Without memory some stay outside.
            let mut rest = Some(span);
            while let Some(part) = rest.and_then(|r| tracked.first_outside(r)) {
                holds(span.contains(part) && !set.any(part))?;
                if random.below(2) == 0 {
                    tracked.reserve()?;
                    tracked.insert(part);
                    holds(tracked.covers(part))?;
                } else {
                    tracked.insert(part);
                }
                if tracked.covers(part) {
                    set.put(part, true);
                }
                rest = Span::new(part.end(), span.end());
            }
            let mut count = 0;
            for s in tracked.iter() {
                count += s.len();
                holds(set.all(s))?;
            }
            holds(count == set.0.iter().filter(|b| **b).count() as u64)
        })
    }
}
