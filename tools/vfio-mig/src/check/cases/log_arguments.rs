// SPDX-License-Identifier: Apache-2.0 OR MIT

//! L1 to L6: arguments of LOGGING_START.

use rustix::io::Errno;

use crate::{
    check::{
        verdict::{accepted, ensure, name, refused, Outcome},
        Case, Ctx, Group, Needs,
    },
    sys::{self, LogStart},
};

const K4: u64 = 4096;
const M1: u64 = 1 << 20;
const G1: u64 = 1 << 30;

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    let case = |id, says, run: fn(&mut Ctx) -> Outcome| {
        Case::new(Group::Logging, id, Needs::LOGGING, says, run)
    };
    vec![
        case(
            "L1.no-ranges",
            "num_ranges 0 is EINVAL (vfio_main.c:1137)",
            |ctx| rejected(ctx, "no ranges", K4, &[], Errno::INVAL),
        ),
        case(
            "L1.too-many-ranges",
            "ranges that fit into a kernel page are guaranteed; more are E2BIG (uapi:1404, \
             vfio_main.c:1140)",
            too_many,
        ),
        case(
            "L1.unreadable-ranges",
            "ranges at no memory are EFAULT (vfio_main.c:1149)",
            unreadable,
        ),
        case(
            "L1.unaligned",
            "IOVA and length have to be aligned to page_size (vfio_main.c:1153)",
            unaligned,
        ),
        case(
            "L1.overflow",
            "a range beyond 64 bits is EOVERFLOW (vfio_main.c:1159)",
            |ctx| {
                rejected(
                    ctx,
                    "a range beyond 64 bits",
                    K4,
                    &[(0u64.wrapping_sub(K4), 2 * K4)],
                    Errno::OVERFLOW,
                )
            },
        ),
        case(
            "L1.overlap",
            "ranges that overlap are EINVAL (vfio_main.c:1169)",
            overlap,
        ),
        case(
            "L1.adjacent",
            "ranges may touch each other (vfio_main.c:1169)",
            adjacent,
        ),
        case(
            "L2.odd-page-size",
            "page_size is a hint; the answer is a page size, or START fails (uapi:1396)",
            odd_page_size,
        ),
        case(
            "L3.empty-range",
            "a range of length 0 has nothing to log: best EINVAL, not specified (vfio_main.c:1159)",
            empty_range,
        ),
        case(
            "L4.all-ranges",
            "as many ranges as fit into a kernel page are supported (uapi:1404)",
            all_ranges,
        ),
        case(
            "L5.answer-unwritable",
            "a START whose answer cannot be written is EFAULT, and has not started (vfio_main.c:1181)",
            answer_unwritable,
        ),
        case(
            "L6.page-size-answered",
            "the device picks a page size by itself if it cannot do the hinted one, and says so \
             (uapi:1396)",
            page_size_answered,
        ),
    ]
}

fn rejected(
    ctx: &mut Ctx,
    what: &str,
    page_size: u64,
    ranges: &[(u64, u64)],
    errno: Errno,
) -> Outcome {
    let start = LogStart {
        argsz: 32,
        page_size,
        ranges: Some(ranges),
    };
    let result = ctx.dut.raw(|fd| sys::log_start_raw(fd, &start));
    refused(format!("START with {what}"), result, &[errno])?;
    // And nothing has begun.
    accepted(
        format!("a right START after one with {what}"),
        ctx.dut.log_start(K4, &[(M1, M1)]),
    )?;
    accepted("STOP", ctx.dut.log_stop())
}

fn spread(count: u64, gap: u64) -> Vec<(u64, u64)> {
    (0..count).map(|n| (M1 + n * gap, K4)).collect()
}

fn page() -> u64 {
    rustix::param::page_size() as u64
}

fn too_many(ctx: &mut Ctx) -> Outcome {
    let ranges = spread(page() / 16 + 1, 16 * K4);
    match ctx.dut.log_start(K4, &ranges) {
        Ok(_) => ctx.note(format!("{} ranges are accepted", ranges.len())),
        Err(e) => {
            let what = format!("START with {} ranges", ranges.len());
            refused::<()>(what, Err(e), &[Errno::TOOBIG])?;
        }
    }
    Ok(())
}

fn unreadable(ctx: &mut Ctx) -> Outcome {
    let start = LogStart {
        argsz: 32,
        page_size: K4,
        ranges: None,
    };
    let result = ctx.dut.raw(|fd| sys::log_start_raw(fd, &start));
    refused("START with ranges at address 0", result, &[Errno::FAULT])
}

fn unaligned(ctx: &mut Ctx) -> Outcome {
    for (what, page_size, range) in [
        ("an unaligned IOVA", K4, (M1 + 1, K4)),
        ("an unaligned length", K4, (M1, K4 + 512)),
        ("an IOVA not aligned to 2 MiB", 2 * M1, (M1, 2 * M1)),
        ("a length not aligned to 64 KiB", 16 * K4, (M1, 17 * K4)),
    ] {
        rejected(ctx, what, page_size, &[range], Errno::INVAL)?;
    }
    Ok(())
}

fn overlap(ctx: &mut Ctx) -> Outcome {
    for (what, ranges) in [
        ("the same range twice", [(M1, M1), (M1, M1)]),
        ("a range in another", [(M1, M1), (M1 + K4, K4)]),
        (
            "ranges that overlap by a page",
            [(M1, M1), (2 * M1 - K4, M1)],
        ),
        (
            "overlapping ranges in falling order",
            [(2 * M1 - K4, M1), (M1, M1)],
        ),
    ] {
        rejected(ctx, what, K4, &ranges, Errno::INVAL)?;
    }
    Ok(())
}

fn adjacent(ctx: &mut Ctx) -> Outcome {
    let ranges = [(2 * M1, M1), (M1, M1), (3 * M1, K4)];
    accepted("START with adjacent ranges", ctx.dut.log_start(K4, &ranges))?;
    let mut bitmap = [0; 9];
    accepted(
        "REPORT across adjacent ranges",
        ctx.dut.log_report((M1, 2 * M1 + K4), K4, &mut bitmap),
    )
}

fn odd_page_size(ctx: &mut Ctx) -> Outcome {
    // 0 with the one range whose IOVA the core takes for aligned: it is never accepted.
    rejected(ctx, "page_size 0", 0, &[(0, K4)], Errno::INVAL)?;
    for hint in [3, K4 + 1, 3 * K4, 1 << 11] {
        // Aligned to anything, as the core tests it.
        let ranges = [(48 * G1, 3 * G1)];
        let answer = ctx.dut.log_start(hint, &ranges);
        match answer {
            Ok(size) => {
                accepted("STOP", ctx.dut.log_stop())?;
                ensure!(
                    size.is_power_of_two(),
                    "START with page_size {hint} chose page size {size}"
                );
                ctx.note(format!("page_size {hint} is taken as {size}"));
            }
            Err(e) => log::debug!("START with page_size {hint}: {}", name(&e)),
        }
    }
    Ok(())
}

fn empty_range(ctx: &mut Ctx) -> Outcome {
    let all: [&[(u64, u64)]; 3] = [&[(M1, 0)], &[(0, 0)], &[(M1, M1), (8 * M1, 0)]];
    for ranges in all {
        if ctx.dut.log_start(K4, ranges).is_ok() {
            accepted("STOP", ctx.dut.log_stop())?;
            ctx.note(format!("START accepts {ranges:x?}"));
        }
        accepted(
            "START after one with an empty range",
            ctx.dut.log_start(K4, &[(M1, M1)]),
        )?;
        accepted("STOP", ctx.dut.log_stop())?;
    }
    Ok(())
}

fn all_ranges(ctx: &mut Ctx) -> Outcome {
    let count = page() / 16;
    for gap in [2 * K4, 64 * M1] {
        let mut ranges = spread(count, gap);
        ranges.reverse();
        let call = format!("START with {count} ranges, one each {gap:#x} bytes");
        accepted(&call, ctx.dut.log_start(K4, &ranges))?;
        for range in ranges {
            let mut bitmap = [0];
            let call = format!("REPORT of range {:#x} of {count}", range.0);
            accepted(call, ctx.dut.log_report(range, K4, &mut bitmap))?;
            ensure!(
                bitmap[0] <= 1,
                "REPORT of one page set bits {:#x}",
                bitmap[0]
            );
        }
        accepted("STOP", ctx.dut.log_stop())?;
    }
    Ok(())
}

fn page_size_answered(ctx: &mut Ctx) -> Outcome {
    for hint in [K4, 16 * K4, 2 * M1, G1] {
        let call = format!("START with page_size {hint:#x}");
        let size = accepted(&call, ctx.dut.log_start(hint, &[(0, 4 * G1)]))?;
        ensure!(
            size.is_power_of_two(),
            "{call} chose page size {size:#x}, which is no power of two"
        );
        if size != hint {
            ctx.note(format!("page_size {hint:#x} becomes {size:#x}"));
        }
        accepted("STOP", ctx.dut.log_stop())?;
    }
    Ok(())
}

fn answer_unwritable(ctx: &mut Ctx) -> Outcome {
    let result = ctx
        .dut
        .raw(|fd| sys::log_start_unwritable(fd, K4, (M1, M1)));
    refused(
        "START with an answer that cannot be written",
        result,
        &[Errno::FAULT],
    )?;
    accepted("START afterwards", ctx.dut.log_start(K4, &[(M1, M1)]))?;
    accepted("STOP", ctx.dut.log_stop())
}
