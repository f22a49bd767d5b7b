// SPDX-License-Identifier: GPL-2.0

//! Random tests of the files without hardware access in this folder, against a plain set of
//! integers and with an allocator that fails at random.
//!
//! They check what every tracker of dirty granules must promise:
//!
//! * a report includes what was marked and not cleared since, whichever allocations fail;
//! * while no allocation fails, a report includes nothing else;
//! * once everything is cleared, a report is empty and no memory is in use;
//! * runs come in ascending order, joined, and within the reported range;
//! * a report changes nothing, whether it is completed or not.

use super::{
    bitmap::DirtyBitmap,
    chunk::CHUNK_GRANULES,
    coarse::Coarse,
    memory::MemoryLimit,
    random::Random,
    run::Run,
    span::Span, //
};
use crate::ext::{
    memcg::Charge,
    testing::holds, //
};
use kernel::prelude::*;

/// Number of steps of each test: more where the processor is not emulated.
const STEPS: u32 = if cfg!(CONFIG_UML) { 1_000_000 } else { 3_000 };

/// A plain set of numbers: the element at an index is true if the number is in the set.
pub(super) struct Set(pub(super) KVec<bool>);

impl Set {
    /// Creates the empty set of numbers below `n`.
    pub(super) fn new(n: u64) -> Result<Self> {
        let mut all = KVec::new();
        for _ in 0..n {
            all.push(false, GFP_KERNEL)?;
        }
        Ok(Self(all))
    }

    /// Adds all numbers of `span` if `value` is true, else removes them.
    pub(super) fn put(&mut self, span: Span, value: bool) {
        self.0[span.start() as usize..span.end() as usize].fill(value);
    }

    /// Returns whether a number of `span` is in the set.
    pub(super) fn any(&self, span: Span) -> bool {
        self.0[span.start() as usize..span.end() as usize].contains(&true)
    }

    /// Returns whether all numbers of `span` are in the set.
    pub(super) fn all(&self, span: Span) -> bool {
        !self.0[span.start() as usize..span.end() as usize].contains(&false)
    }
}

/// Checks the runs of a report of `asked`.
pub(super) struct Told<'a> {
    set: &'a Set,
    asked: Span,
    exact: bool,
    /// The number up to which the report was checked.
    done: u64,
    runs: u32,
}

impl<'a> Told<'a> {
    /// Creates the check of a report of `asked`. With `exact`, the report must include nothing
    /// else.
    pub(super) fn new(set: &'a Set, asked: Span, exact: bool) -> Self {
        Self {
            set,
            asked,
            exact,
            done: asked.start(),
            runs: 0,
        }
    }

    /// Checks the next run; returns `EINVAL` if it is wrong.
    pub(super) fn run(&mut self, run: Span) -> Result {
        let joined = self.runs == 0 || run.start() > self.done;
        let inside = self.asked.contains(run) && run.start() >= self.done;
        let gap = Span::new(self.done, run.start());
        let missed = gap.is_some_and(|gap| self.set.any(gap));
        let more = self.exact && !self.set.all(run);
        self.done = run.end();
        self.runs += 1;
        (joined && inside && !missed && !more)
            .then_some(())
            .ok_or(EINVAL)
    }

    /// Checks the rest after the last run; returns `EINVAL` if something is missing.
    pub(super) fn end(self) -> Result {
        let gap = Span::new(self.done, self.asked.end());
        let missed = gap.is_some_and(|gap| self.set.any(gap));
        (!missed).then_some(()).ok_or(EINVAL)
    }
}

/// Runs `step` [`STEPS`] times, and logs the number of the step that fails.
pub(super) fn steps(name: &CStr, step: impl FnMut(u32) -> Result) -> Result {
    steps_of(name, 1, step)
}

/// Like [`steps`], with [`STEPS`] divided by `share`.
fn steps_of(name: &CStr, share: u32, mut step: impl FnMut(u32) -> Result) -> Result {
    for n in 0..STEPS / share {
        step(n).inspect_err(|_| pr_err!("property {}: fails at step {}\n", name, n))?;
    }
    Ok(())
}

/// The parameters of a test of the dirty bitmap.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Memory limit in bytes.
    pub(super) bytes: usize,
    /// Limit of intervals.
    pub(super) intervals: usize,
    /// One of this many allocations fails; with 0 none.
    pub(super) one_in: u32,
    /// Number of the first granule.
    pub(super) base: u64,
    /// Largest number of granules marked at once. With a small number, chunks stay lists for long.
    pub(super) most: u64,
    /// Divisor of the number of steps.
    pub(super) share: u32,
}

impl Shape {
    /// No limits and no failures.
    pub(super) const PLAIN: Self = Self {
        bytes: usize::MAX,
        intervals: usize::MAX,
        one_in: 0,
        base: 0,
        most: u64::MAX,
        share: 8,
    };
}

/// Tests the dirty bitmap.
pub(super) fn bitmap(name: &CStr, shape: Shape, seed: u64) -> Result {
    const N: u64 = 3 * CHUNK_GRANULES;
    let Shape { base, most, .. } = shape;
    let whole = Span::new(0, N).ok_or(EINVAL)?;
    // Convert from numbers of the set to granules, and back.
    let up = |span: Span| Span::new(base + span.start(), base + span.end()).ok_or(EINVAL);
    let down = |span: Span| {
        let start = span.start().checked_sub(base).ok_or(EINVAL)?;
        Span::new(start, span.end() - base).ok_or(EINVAL)
    };
    let mut random = Random::new(seed);
    let mut set = Set::new(N)?;
    let mut b = DirtyBitmap::new(shape.bytes, shape.intervals, Charge::none());
    b.fail(shape.one_in, seed);
    // Some of the spans are tracked.
    let tracked = [
        Span::new(3, CHUNK_GRANULES + 77).ok_or(EINVAL)?,
        Span::new(CHUNK_GRANULES + 80, N - 1).ok_or(EINVAL)?,
    ];
    // With limits or failures a report may include more.
    let exact = shape.one_in == 0 && shape.bytes == usize::MAX && shape.intervals >= N as usize;
    steps_of(name, shape.share, |step| {
        let span = random.span(N)?;
        match random.below(16) {
            0..=5 => {
                // Mark several short runs together, as a drain does, and some of them again.
                let mut runs = [Run::one(0); 4];
                for place in &mut runs {
                    let next = random.span(N)?;
                    let end = next.end().min(next.start().saturating_add(most.min(256)));
                    let next = Span::new(next.start(), end).ok_or(EINVAL)?;
                    set.put(next, true);
                    *place = Run::of(up(next)?).ok_or(EINVAL)?;
                }
                b.mark(&runs);
                b.mark(&runs[..random.below(4) as usize]);
                if span.len() <= most {
                    set.put(span, true);
                    b.mark_span(up(span)?);
                }
            }
            6 if span.len() <= most => {
                set.put(span, true);
                b.mark_whole(up(span)?);
            }
            7 if random.below(16) == 0 && most == u64::MAX => {
                let [low, high] = tracked;
                tracked.iter().for_each(|t| set.put(*t, true));
                b.mark_all([up(low)?, up(high)?]);
            }
            8 if random.below(64) == 0 => {
                set.put(whole, false);
                b.clear(up(whole)?);
                holds(!b.any(up(whole)?) && b.memory() == 0)?;
            }
            9 => {
                // End a report early.
                let mut left = random.below(3);
                let _ = b.tell(up(span)?, |_| {
                    left = left.checked_sub(1).ok_or(EINTR)?;
                    Ok(())
                });
            }
            10 => {
                let any = b.any(up(span)?);
                holds(any || !set.any(span))?;
                holds(!exact || any == set.any(span))?;
            }
            _ => {
                let mut told = Told::new(&set, span, exact);
                b.tell(up(span)?, |run| told.run(down(run)?))?;
                let runs = told.runs;
                told.end()?;
                holds(b.any(up(span)?) == (runs != 0))?;
                if random.below(4) != 0 {
                    set.put(span, false);
                    b.clear(up(span)?);
                }
            }
        }
        holds(b.memory() <= shape.bytes && (step % 16 != 0 || b.is_consistent()))
    })
}

/// Tests a set of intervals.
pub(super) fn intervals(name: &CStr, limit: usize, one_in: u32, seed: u64) -> Result {
    const N: u64 = 64;
    let mut random = Random::new(seed);
    let mut set = Set::new(N)?;
    let mut memory = MemoryLimit::new(usize::MAX, Charge::none());
    memory.fail(one_in, seed);
    let mut c = Coarse::new(limit);
    let exact = one_in == 0 && limit >= N as usize;
    steps(name, |_| {
        let span = random.span(N)?;
        match random.below(8) {
            0..=2 => {
                set.put(span, true);
                c.insert(span, &mut memory);
            }
            3..=5 => {
                set.put(span, false);
                c.remove(span, &mut memory);
            }
            6 if random.below(32) == 0 => {
                let whole = Span::new(0, N).ok_or(EINVAL)?;
                set.put(whole, false);
                c.remove(whole, &mut memory);
                holds(c.is_empty() && memory.used() == 0)?;
            }
            _ => {
                let mut told = Told::new(&set, span, exact);
                let mut rest = Some(span);
                while let Some(run) = rest.and_then(|r| c.first_in(r)) {
                    told.run(run)?;
                    rest = Span::new(run.end(), span.end());
                }
                told.end()?;
            }
        }
        holds(c.is_consistent() && c.intervals() <= limit.saturating_add(1))
    })
}
