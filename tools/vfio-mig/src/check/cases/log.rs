// SPDX-License-Identifier: Apache-2.0 OR MIT

//! L7 to L21: a running log.

use rustix::io::Errno;

use crate::{
    check::{
        verdict::{accepted, ensure, fails, name, refused, Outcome},
        Case, Ctx, Group, Needs,
    },
    state::State,
    sys,
};

const K4: u64 = 4096;
const M1: u64 = 1 << 20;
const RANGE: (u64, u64) = (16 * M1, 16 * M1);

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    let case = |id, needs, says, run: fn(&mut Ctx) -> Outcome| {
        Case::new(Group::Logging, id, needs | Needs::LOGGING, says, run)
    };
    let (none, mig) = (Needs::empty(), Needs::MIGRATION);
    vec![
        case("L7.start-twice", none, "another start is not allowed in the meantime (uapi:1408)",
            start_twice),
        case("L7.report-when-off", none, "if logging is not enabled, an error will be returned (uapi:1454)",
            report_when_off),
        case("L7.report-after-stop", none,
            "if logging is not enabled, an error will be returned (uapi:1454)", report_after_stop),
        case("L7.stop-when-off", none,
            "a stop matches a start (uapi:1408); without one, drivers succeed", stop_when_off),
        case("L7.start-and-stop-often", none, "a stop should follow a start (uapi:1408)", often),
        case("L9.report-page-sizes", none,
            "page_size can be any power of two and need not match that of START (uapi:1442)",
            page_sizes),
        case("L9.wrong-page-size", none,
            "a page_size that is no power of two is EINVAL (vfio_main.c:1243)", wrong_page_size),
        case("L9.overflow", none, "a range beyond 64 bits is EOVERFLOW (vfio_main.c:1246)", overflow),
        case("L10.empty-report", none, "a REPORT of no bytes sets no bit (uapi:1438)", empty_report),
        case("L10.unaligned-report", none,
            "a bit reports a page_size unit from iova on (uapi:1438): none beyond the range",
            unaligned),
        case("L11.bits-are-never-cleared", none,
            "REPORT only sets bits and never clears the user's bitmap (uapi:1447)", never_cleared),
        case("L14.no-bit-beyond-the-range", none,
            "a bit reports a page_size unit of the range, so there is none beyond its end (uapi:1438)",
            beyond),
        case("L15.report-outside", none,
            "a REPORT outside of the ranges of START is not specified; bits beyond it are wrong \
             (uapi:1438)",
            outside),
        case("L19.log-in-every-state", mig,
            "logging is not connected to the migration state (uapi:1388)", every_state),
        case("L19.log-over-all-states", mig,
            "logging is not connected to the migration state (uapi:1388): no SET ends it", over_all),
        case("L20.reset-with-log", Needs::RESET,
            "a log lasts until STOP (uapi:1408): after a reset it goes on or reports fail, and STOP \
             and START work",
            reset),
        case("L21.close-ends-log", none,
            "a process that opens the device has started no log, so it may START (uapi:1408)", close),
    ]
}

/// REPORT into a bitmap with words of zeros behind it.
fn report(ctx: &Ctx, range: (u64, u64), page_size: u64) -> std::io::Result<Vec<u64>> {
    let pages = range.1.div_ceil(page_size);
    let mut bitmap = vec![0; pages.div_ceil(64) as usize + 64];
    ctx.dut.log_report(range, page_size, &mut bitmap)?;
    Ok(bitmap)
}

/// Bits beyond the pages of a range.
fn stray(bitmap: &[u64], pages: u64) -> u32 {
    let all: u32 = bitmap.iter().map(|word| word.count_ones()).sum();
    let right = (0..pages).filter(|page| bitmap[(page / 64) as usize] >> (page % 64) & 1 == 1);
    all - right.count() as u32
}

fn start(ctx: &Ctx) -> Outcome {
    accepted("START", ctx.dut.log_start(K4, &[RANGE])).map(drop)
}

fn good_report(ctx: &Ctx, when: &str) -> Outcome {
    accepted(format!("REPORT {when}"), report(ctx, RANGE, K4)).map(drop)
}

fn start_twice(ctx: &mut Ctx) -> Outcome {
    start(ctx)?;
    fails("a second START", ctx.dut.log_start(K4, &[RANGE]))?;
    fails(
        "a second START, elsewhere",
        ctx.dut.log_start(K4, &[(M1, M1)]),
    )?;
    good_report(ctx, "after a second START was refused")?;
    accepted("STOP", ctx.dut.log_stop())
}

fn report_when_off(ctx: &mut Ctx) -> Outcome {
    ctx.dut.reopen()?;
    fails("REPORT without START", report(ctx, RANGE, K4))
}

fn report_after_stop(ctx: &mut Ctx) -> Outcome {
    start(ctx)?;
    good_report(ctx, "after START")?;
    accepted("STOP", ctx.dut.log_stop())?;
    fails("REPORT after STOP", report(ctx, RANGE, K4))
}

fn stop_when_off(ctx: &mut Ctx) -> Outcome {
    for when in ["without START", "again"] {
        if let Err(e) = ctx.dut.log_stop() {
            ctx.note(format!("STOP {when}: {}", name(&e)));
        }
    }
    start(ctx)?;
    accepted("STOP", ctx.dut.log_stop())
}

fn often(ctx: &mut Ctx) -> Outcome {
    for _ in 0..10 {
        start(ctx)?;
        good_report(ctx, "after START")?;
        accepted("STOP", ctx.dut.log_stop())?;
    }
    Ok(())
}

fn page_sizes(ctx: &mut Ctx) -> Outcome {
    start(ctx)?;
    for shift in 12..=24 {
        let result = report(ctx, RANGE, 1 << shift);
        accepted(format!("REPORT with page_size {:#x}", 1 << shift), result)?;
    }
    Ok(())
}

fn wrong_page_size(ctx: &mut Ctx) -> Outcome {
    start(ctx)?;
    for page_size in [0, 3, K4 + 1, 3 * K4, u64::MAX] {
        let result = ctx
            .dut
            .raw(|fd| sys::log_report_nowhere(fd, 40, RANGE, page_size));
        refused(
            format!("REPORT with page_size {page_size}"),
            result,
            &[Errno::INVAL],
        )?;
    }
    good_report(ctx, "after wrong ones")
}

fn overflow(ctx: &mut Ctx) -> Outcome {
    start(ctx)?;
    for range in [(0u64.wrapping_sub(K4), 2 * K4), (M1, u64::MAX)] {
        let result = ctx.dut.raw(|fd| sys::log_report_nowhere(fd, 40, range, K4));
        refused(format!("REPORT of {range:x?}"), result, &[Errno::OVERFLOW])?;
    }
    good_report(ctx, "after wrong ones")
}

fn empty_report(ctx: &mut Ctx) -> Outcome {
    start(ctx)?;
    let mut bitmap = [0; 8];
    if ctx.dut.log_report((RANGE.0, 0), K4, &mut bitmap).is_ok() {
        ctx.note("a REPORT of no bytes is accepted");
    }
    ensure!(
        bitmap == [0; 8],
        "a REPORT of no bytes set bits: {bitmap:x?}"
    );
    // Some drivers take every error for a broken log.
    accepted("STOP", ctx.dut.log_stop())?;
    start(ctx)?;
    good_report(ctx, "after a new START")
}

fn unaligned(ctx: &mut Ctx) -> Outcome {
    start(ctx)?;
    for (offset, length) in [(512, K4), (K4 - 1, 2), (1, 10 * K4), (K4, 1), (2048, 2048)] {
        let mut bitmap = vec![0; 66];
        let range = (RANGE.0 + offset, length);
        if let Err(e) = ctx.dut.log_report(range, K4, &mut bitmap) {
            ctx.note(format!("REPORT of {range:x?}: {}", name(&e)));
            accepted("STOP", ctx.dut.log_stop())?;
            start(ctx)?;
            continue;
        }
        let pages = length.div_ceil(K4);
        ensure!(
            stray(&bitmap, pages) == 0,
            "REPORT of {range:x?} set {} bits beyond {pages} pages",
            stray(&bitmap, pages)
        );
    }
    Ok(())
}

fn never_cleared(ctx: &mut Ctx) -> Outcome {
    start(ctx)?;
    for pattern in [u64::MAX, 0x5555_5555_5555_5555, 1 << 63] {
        let mut bitmap = vec![pattern; (RANGE.1 / K4 / 64) as usize];
        accepted("REPORT", ctx.dut.log_report(RANGE, K4, &mut bitmap))?;
        ensure!(
            bitmap.iter().all(|word| word & pattern == pattern),
            "REPORT cleared bits that were {pattern:#x} in the user's bitmap"
        );
    }
    Ok(())
}

fn beyond(ctx: &mut Ctx) -> Outcome {
    start(ctx)?;
    for pages in [1, 5, 63, 64, 65, 500] {
        for offset in [0, 1, 7, 63, 64] {
            let range = (RANGE.0 + offset * K4, pages * K4);
            let bitmap = accepted(format!("REPORT of {range:x?}"), report(ctx, range, K4))?;
            ensure!(
                stray(&bitmap, pages) == 0,
                "REPORT of {pages} pages at {:#x} set {} bits beyond them",
                range.0,
                stray(&bitmap, pages)
            );
        }
    }
    Ok(())
}

fn outside(ctx: &mut Ctx) -> Outcome {
    for (what, range) in [
        ("before", (M1, 37 * K4)),
        ("behind", (RANGE.0 + RANGE.1, 37 * K4)),
        ("partly before", (RANGE.0 - K4, 3 * K4)),
        ("partly behind", (RANGE.0 + RANGE.1 - K4, 3 * K4)),
        ("around", (RANGE.0 - M1, RANGE.1 + 2 * M1)),
    ] {
        start(ctx)?;
        let pages = range.1 / K4;
        match report(ctx, range, K4) {
            Ok(bitmap) => ensure!(
                stray(&bitmap, pages) == 0,
                "REPORT {what} the range set {} bits beyond its {pages} pages",
                stray(&bitmap, pages)
            ),
            Err(e) => ctx.note(format!("REPORT {what} the range: {}", name(&e))),
        }
        accepted("STOP", ctx.dut.log_stop())?;
    }
    start(ctx)?;
    good_report(ctx, "after a new START")
}

fn every_state(ctx: &mut Ctx) -> Outcome {
    let image = ctx.dut.own_image()?;
    for state in ctx.dut.states() {
        let _session = ctx.dut.enter(state, &image)?;
        accepted(format!("START in {state}"), ctx.dut.log_start(K4, &[RANGE]))?;
        good_report(ctx, &format!("in {state}"))?;
        accepted(format!("STOP in {state}"), ctx.dut.log_stop())?;
        ctx.dut.expect_state(state, "after logging")?;
        ctx.dut.go(State::Running)?;
    }
    Ok(())
}

fn over_all(ctx: &mut Ctx) -> Outcome {
    let image = ctx.dut.own_image()?;
    start(ctx)?;
    for state in ctx.dut.states() {
        let _session = ctx.dut.enter(state, &image)?;
        good_report(ctx, &format!("in {state}, started in RUNNING"))?;
        ctx.dut.go(State::Running)?;
        good_report(ctx, &format!("in RUNNING after {state}"))?;
    }
    accepted("STOP", ctx.dut.log_stop())
}

fn reset(ctx: &mut Ctx) -> Outcome {
    start(ctx)?;
    accepted("VFIO_DEVICE_RESET while logging", ctx.dut.reset())?;
    if let Err(e) = report(ctx, RANGE, K4) {
        ctx.note(format!("REPORT after a reset: {}", name(&e)));
    }
    accepted("STOP after a reset", ctx.dut.log_stop())?;
    start(ctx)?;
    good_report(ctx, "after reset, STOP and START")
}

fn close(ctx: &mut Ctx) -> Outcome {
    start(ctx)?;
    ctx.dut.reopen()?;
    fails(
        "REPORT after the device was closed and opened",
        report(ctx, RANGE, K4),
    )?;
    start(ctx)?;
    good_report(ctx, "after a new START")
}
