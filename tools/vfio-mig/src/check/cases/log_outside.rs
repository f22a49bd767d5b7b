// SPDX-License-Identifier: Apache-2.0 OR MIT

//! L15: what the log says of memory that it does not track, in other pages than its own.

use crate::check::{
    verdict::{accepted, deviation, ensure, name, Outcome},
    Case, Ctx, Group, Needs,
};

const K4: u64 = 4096;
const M1: u64 = 1 << 20;
/// What is tracked.
const TRACKED: (u64, u64) = (16 * M1, 16 * M1);
/// Begin of what is not; each REPORT has a part of its own, since a driver may track it from then on.
const UNTRACKED: u64 = 64 * M1;
const STEP: u64 = 16 * M1;
/// Words behind the bitmap, which REPORT must leave alone.
const GUARD: usize = 64;

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    vec![Case::new(
        Group::Logging,
        "L15.all-or-nothing",
        Needs::LOGGING,
        "a bit stands for each page_size unit of the range (uapi:1438), whatever the page size of \
         START (uapi:1442): of memory that is not tracked no page is known to be clean beside dirty \
         ones",
        all_or_nothing,
    )]
}

/// Bits set among the first `pages`, and behind them.
fn count(bitmap: &[u64], pages: u64) -> (u64, u64) {
    let set = |page: &u64| bitmap[(page / 64) as usize] >> (page % 64) & 1 == 1;
    let within = (0..pages).filter(set).count() as u64;
    let all: u64 = bitmap.iter().map(|w| u64::from(w.count_ones())).sum();
    (within, all - within)
}

fn all_or_nothing(ctx: &mut Ctx) -> Outcome {
    let mut reported = 0;
    for hint in [K4, 64 << 10, 2 * M1] {
        let granule = accepted(
            format!("START with page_size {hint:#x}"),
            ctx.dut.log_start(hint, &[TRACKED]),
        )?;
        let granule = granule.clamp(2 * K4, 4 * M1);
        // Begin and end in the middle of a granule, at its first and last small page, and at edges.
        let cuts = [
            (granule / 2, granule / 2),
            (K4, granule - K4),
            (granule - K4, K4),
            (0, 0),
        ];
        let mut said = Vec::new();
        for (part, (head, tail)) in (0..).zip(cuts) {
            let iova = UNTRACKED + part * STEP + head;
            let length = 3 * granule + tail - head;
            let pages = length / K4;
            let mut bitmap = vec![0; pages.div_ceil(64) as usize + GUARD];
            let what = format!(
                "REPORT of {iova:#x}+{length:#x}, which START with page_size {hint:#x} did not \
                 name, in pages of 4 KiB"
            );
            if let Err(e) = ctx.dut.log_report((iova, length), K4, &mut bitmap) {
                ctx.note(format!("{what}: {}", name(&e)));
                break;
            }
            let (within, behind) = count(&bitmap, pages);
            ensure!(
                behind == 0,
                "{what} set {behind} bits behind its {pages} pages"
            );
            ensure!(
                within == 0 || within == pages,
                "{what} set {within} of {pages} bits"
            );
            reported += within;
            said.push((within != 0, what));
        }
        // A run that begins below the range must not be dropped whole.
        let dirty = said.iter().find(|(dirty, _)| *dirty);
        let clean = said.iter().find(|(dirty, _)| !dirty);
        if let (Some((_, dirty)), Some((_, clean))) = (dirty, clean) {
            deviation!("{clean} set no bit, and {dirty} set all");
        }
        accepted("STOP", ctx.dut.log_stop())?;
    }
    if reported == 0 {
        ctx.note("memory that is not tracked is never reported");
    }
    Ok(())
}
