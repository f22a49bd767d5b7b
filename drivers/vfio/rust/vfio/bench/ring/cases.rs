// SPDX-License-Identifier: GPL-2.0

//! Cases that are timed.

use super::{
    device::Stub,
    log::{
        Bed,
        Log, //
    },
    pages::{
        distinct,
        each_words,
        holds,
        page,
        run,
        sample,
        whole,
        FEW,
        GIB, //
    },
};
use crate::vfio::{
    bench::{
        now,
        passes,
        Flat,
        User, //
    },
    dirty::{
        ring::{
            format::Format,
            piece::{
                Flow,
                Piece, //
            },
        },
        session::Told,
    },
    iova_bitmap::{
        DirtySink,
        IovaRange, //
    },
};
use core::hint::black_box;
use kernel::prelude::*;

/// Returns the time that `f` takes, in nanoseconds.
fn time(f: impl FnOnce() -> Result) -> Result<u64> {
    let begin = now();
    f()?;
    Ok(now().saturating_sub(begin))
}

/// Measures a drain from the ring to the layer's bitmap, against `__set_bit()` in a flat bitmap.
fn mark<F: Format>(bed: &Bed, name: &str, stub: &Stub<F>, pages: u64, count: usize) -> Result {
    let mut flat = Flat::new(pages)?;
    let mut bounded = true;
    each_words(stub, |words| bounded &= flat.bound(words));
    for _ in 0..passes() {
        stub.rewind();
        let ours = time(|| {
            let mut log = Log::start(bed, stub, pages)?;
            log.drain()?;
            black_box(log.memory());
            Ok(())
        })?;
        flat.clear();
        let base = time(|| {
            each_words(stub, |words| flat.run(words, bounded));
            Ok(())
        })?;
        sample(name, ours, base, count);
    }
    Ok(())
}

/// Measurement from the ring to the user's bitmap, against one call of the core for each entry of
/// `base`. `ours` has the same pages in its entries. At most `few` entries of the baseline are
/// timed, and its time is scaled.
struct Path<'a, F: Format> {
    bed: &'a Bed,
    name: &'a str,
    ours: &'a Stub<F>,
    base: &'a Stub<F>,
    pages: u64,
    dirty: usize,
    few: usize,
}

impl<F: Format> Path<'_, F> {
    fn run(&self) -> Result {
        let user = User::new(self.pages)?;
        let range = whole(self.pages)?;
        for _ in 0..passes() {
            user.clear()?;
            self.ours.rewind();
            let ours = time(|| {
                let mut log = Log::start(self.bed, self.ours, self.pages)?;
                log.drain()?;
                log.report(range, &user)
            })?;
            holds(&user, self.dirty as u64)?;
            user.clear()?;
            let mut left = self.few;
            let base = time(|| {
                user.with(range, |report| {
                    each_words(self.base, |words| {
                        let words = words.first(left);
                        left = left.saturating_sub(words.len());
                        report.each(words);
                    })
                })
            })?;
            let done = self.few.saturating_sub(left).max(1);
            if done == self.dirty {
                holds(&user, self.dirty as u64)?;
            }
            sample(
                self.name,
                ours,
                base.saturating_mul(self.dirty as u64) / done as u64,
                self.dirty,
            );
        }
        Ok(())
    }
}

/// Measures random pages. `names` are those of the drain and of the whole path.
fn random<F: Format>(bed: &Bed, names: [&str; 2], pages: u64, count: usize) -> Result {
    let list = distinct(pages, count)?;
    let stub = Stub::<F>::new(&bed.dma, count, |i| page(list.get(i).copied().unwrap_or(0)))?;
    drop(list);
    let [of_mark, of_path] = names;
    mark(bed, of_mark, &stub, pages, count)?;
    Path {
        bed,
        name: of_path,
        ours: &stub,
        base: &stub,
        pages,
        dirty: count,
        few: match passes() {
            _ if pages <= 64 * GIB => count,
            9.. if pages > 256 * GIB => FEW,
            _ => FEW / 20,
        },
    }
    .run()
}

/// Measures pages in order: one by one, and as runs of 256 with gaps of 256.
fn ordered<F: Format>(bed: &Bed) -> Result {
    const COUNT: usize = 2 << 20;
    let pages = 16 * GIB;
    let single = Stub::<F>::new(&bed.dma, COUNT, |i| page(i as u64))?;
    mark(bed, "mark.sequential", &single, pages, COUNT)?;
    let path = Path {
        bed,
        name: "path.sequential",
        ours: &single,
        base: &single,
        pages,
        dirty: COUNT,
        few: COUNT,
    };
    path.run()?;
    drop(single);
    let apart = Stub::<F>::new(&bed.dma, COUNT, |i| {
        let i = i as u64;
        page(i / 256 * 512 + i % 256)
    })?;
    let runs = Stub::<F>::new(&bed.dma, COUNT / 256, |i| run(i as u64 * 512, 256))?;
    Path {
        bed,
        name: "path.runs",
        ours: &runs,
        base: &apart,
        pages,
        dirty: COUNT,
        few: COUNT,
    }
    .run()
}

/// Measures the whole path against a comparison of two flat bitmaps, as the pds driver does it.
fn xor<F: Format>(bed: &Bed) -> Result {
    const COUNT: usize = 2 << 20;
    let pages = 64 * GIB;
    let list = distinct(pages, COUNT)?;
    let stub = Stub::<F>::new(&bed.dma, COUNT, |i| page(list.get(i).copied().unwrap_or(0)))?;
    let mut seq = Flat::new(pages)?;
    for page in &list {
        seq.insert(*page);
    }
    drop(list);
    let mut ack = Flat::new(pages)?;
    let user = User::new(pages)?;
    let range = whole(pages)?;
    for _ in 0..passes() {
        user.clear()?;
        stub.rewind();
        let ours = time(|| {
            let mut log = Log::start(bed, &stub, pages)?;
            log.drain()?;
            log.report(range, &user)
        })?;
        holds(&user, COUNT as u64)?;
        user.clear()?;
        ack.clear();
        let base = time(|| user.with(range, |report| report.xor(&seq, &mut ack)))?;
        holds(&user, COUNT as u64)?;
        sample("path.xor", ours, base, COUNT);
    }
    Ok(())
}

/// Measures the ring alone, to checked and decoded entries, against a copy of the bytes.
fn copy<F: Format>(bed: &Bed) -> Result {
    const COUNT: usize = 64 << 10;
    const TIMES: usize = 20;
    let list = distinct(GIB, COUNT)?;
    let stub = Stub::<F>::new(&bed.dma, COUNT, |i| page(list.get(i).copied().unwrap_or(0)))?;
    let mut to = Flat::new(64 * COUNT as u64)?;
    for _ in 0..passes() {
        let ours = time(|| {
            for _ in 0..TIMES {
                stub.rewind();
                let mut sum = 0u64;
                stub.drain_only(0, |piece| {
                    if let Piece::Writes(runs) = black_box(piece) {
                        sum = sum.wrapping_add(runs.len() as u64);
                    }
                    Flow::Continue
                })?;
                black_box(sum);
            }
            Ok(())
        })?;
        let base = time(|| {
            for _ in 0..TIMES {
                each_words(&stub, |words| to.copy(words));
            }
            Ok(())
        })?;
        sample("drain.copy", ours, base, COUNT * TIMES);
    }
    Ok(())
}

/// Measures calls whose time does not depend on the memory: START, and a report of clean memory.
fn idle<F: Format>(bed: &Bed) -> Result {
    const TIMES: usize = 20_000;
    let stub = Stub::<F>::new(&bed.dma, 1, |_| page(0))?;
    let user = User::new(1)?;
    let clean = |pages: u64| -> Result<u64> {
        stub.rewind();
        let mut log = Log::start(bed, &stub, pages)?;
        log.drain()?;
        let first = IovaRange::new(0, 4096)?;
        log.report(first, &user)?;
        let range = whole(pages)?;
        user.with(range, |report| {
            let mut sink = report.sink();
            time(|| {
                for _ in 0..TIMES {
                    log.report_to(range, &mut sink)?;
                }
                Ok(())
            })
        })?
    };
    let start = |pages: u64| {
        time(|| {
            for _ in 0..TIMES {
                black_box(Log::start(bed, &stub, pages)?.memory());
            }
            Ok(())
        })
    };
    for _ in 0..passes() {
        sample("clean.1t_over_1g", clean(1024 * GIB)?, clean(GIB)?, TIMES);
        sample(
            "start.56t_over_1g",
            start(56 * 1024 * GIB)?,
            start(GIB)?,
            TIMES,
        );
    }
    Ok(())
}

/// Runs all cases.
pub(super) fn all<F: Format>(bed: &Bed) -> Result {
    idle::<F>(bed)?;
    copy::<F>(bed)?;
    random::<F>(bed, ["mark.random.1g", "path.random.1g"], GIB, 128 << 10)?;
    random::<F>(
        bed,
        ["mark.random.64g", "path.random.64g"],
        64 * GIB,
        2 << 20,
    )?;
    random::<F>(
        bed,
        ["mark.random.1t", "path.random.1t"],
        1024 * GIB,
        2 << 20,
    )?;
    ordered::<F>(bed)?;
    xor::<F>(bed)?;
    if passes() >= 9 {
        // More points for the plot, with one number of pages as far as it fits.
        random::<F>(bed, ["mark.plot.4g", "path.plot.4g"], 4 * GIB, 512 << 10)?;
        random::<F>(bed, ["mark.plot.16g", "path.plot.16g"], 16 * GIB, 2 << 20)?;
        random::<F>(
            bed,
            ["mark.plot.256g", "path.plot.256g"],
            256 * GIB,
            2 << 20,
        )?;
    }
    Ok(())
}
