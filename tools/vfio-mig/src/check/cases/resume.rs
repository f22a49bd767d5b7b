// SPDX-License-Identifier: Apache-2.0 OR MIT

//! R and S11: the stream into the device, made from its own image.

use std::{fs::File, io::Write};

use rand::Rng;

use crate::{
    check::{
        verdict::{accepted, deviation, ensure, name, Outcome},
        Case, Ctx, Group, Needs,
    },
    state::State,
};

const SAYS_INCOMPLETE: &str = "incomplete or invalid data must fail the SET that leaves RESUMING \
                               (uapi:1120)";

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    let case = |id, says, run: fn(&mut Ctx) -> Outcome| {
        Case::new(
            Group::Resume,
            id,
            Needs::MIGRATION | Needs::RESET,
            says,
            run,
        )
    };
    vec![
        case("S11.nothing-written", SAYS_INCOMPLETE, |ctx| truncated(ctx, |_| 0)),
        case("S11.one-byte", SAYS_INCOMPLETE, |ctx| truncated(ctx, |_| 1)),
        case("S11.half", SAYS_INCOMPLETE, |ctx| truncated(ctx, |n| n / 2)),
        case("S11.last-byte-missing", SAYS_INCOMPLETE, |ctx| truncated(ctx, |n| n - 1)),
        case("S11.abort-by-reset",
            "to abort a RESUMING session the device must be reset (uapi:1127)", abort),
        case("R2.any-pieces",
            "segmentation need not be preserved (uapi:1066)", any_pieces),
        case("R2.empty-writes",
            "segmentation need not be preserved: a write of 0 bytes changes nothing (uapi:1066)",
            empty_writes),
        case("R5.refused-stays-refused",
            "invalid data must fail the SET that leaves RESUMING, also when write() has told \
             before (uapi:1120)",
            refused_stays_refused),
        case("R5.excess",
            "data after the end of the image: best refused, not specified (uapi:1120)", excess),
        case("R12.again-and-again",
            "RESUMING can be entered any number of times, each with a stream of its own (uapi:1181)",
            again),
    ]
}

fn begin(ctx: &Ctx) -> Outcome<File> {
    ctx.dut.session(State::Resuming)
}

/// The device has to refuse the first part of an image, and to work after a reset.
fn truncated(ctx: &mut Ctx, cut: fn(usize) -> usize) -> Outcome {
    let image = ctx.dut.own_image()?;
    let part = cut(image.len());
    let file = begin(ctx)?;
    let begun = image.get(..part).unwrap_or_default();
    accepted(
        format!("write() of {part} of {} bytes", image.len()),
        ctx.dut.write(&file, begun, 1 << 20),
    )?;
    let result = ctx.dut.set(State::Stop);
    ensure!(
        result.is_err(),
        "SET RESUMING -> STOP succeeded with {part} of {} bytes",
        image.len()
    );
    recover(ctx, file, &image)
}

/// After a failed resume: what GET says is allowed, a reset leads to RUNNING, and all works again.
fn recover(ctx: &mut Ctx, file: File, image: &[u8]) -> Outcome {
    let state = accepted("GET of the state after a failed SET", ctx.dut.get())?;
    ensure!(
        matches!(state, State::Resuming | State::Error),
        "the device is in {state} after RESUMING could not be left"
    );
    accepted(format!("VFIO_DEVICE_RESET in {state}"), ctx.dut.reset())?;
    ctx.dut
        .expect_state(State::Running, "after VFIO_DEVICE_RESET")?;
    drop(file);
    resume(ctx, image)
}

/// Resumes with a good image.
fn resume(ctx: &mut Ctx, image: &[u8]) -> Outcome {
    let _file = ctx.dut.enter(State::Resuming, image)?;
    accepted("SET RESUMING -> RUNNING", ctx.dut.set(State::Running))?;
    ctx.dut.expect_state(State::Running, "after resuming")
}

fn abort(ctx: &mut Ctx) -> Outcome {
    let image = ctx.dut.own_image()?;
    for part in [0, image.len() / 3, image.len()] {
        let file = begin(ctx)?;
        let begun = image.get(..part).unwrap_or_default();
        accepted("write()", ctx.dut.write(&file, begun, 1 << 20))?;
        accepted("VFIO_DEVICE_RESET in RESUMING", ctx.dut.reset())?;
        ctx.dut
            .expect_state(State::Running, "after VFIO_DEVICE_RESET")?;
    }
    resume(ctx, &image)
}

fn any_pieces(ctx: &mut Ctx) -> Outcome {
    let image = ctx.dut.own_image()?;
    for round in 0..3 {
        let mut file = begin(ctx)?;
        let mut at = 0;
        while at < image.len() {
            // Single bytes where headers are likely, then anything.
            let most = if at < 256 || round == 0 && at < 8192 {
                1
            } else {
                5000 << (4 * round)
            };
            let piece = ctx.rng.random_range(1..=most).min(image.len() - at);
            let part = image.get(at..at + piece).unwrap_or_default();
            match file.write(part) {
                Ok(n) => {
                    ensure!(n > 0 && n <= piece, "write() of {piece} bytes returned {n}");
                    at += n;
                }
                Err(e) => deviation!("write() of {piece} bytes at {at} failed with {}", name(&e)),
            }
        }
        accepted("SET RESUMING -> RUNNING", ctx.dut.set(State::Running))?;
    }
    Ok(())
}

fn empty_writes(ctx: &mut Ctx) -> Outcome {
    let image = ctx.dut.own_image()?;
    let mut file = begin(ctx)?;
    for part in [0..0, 0..1, 1..image.len() / 2, image.len() / 2..image.len()] {
        let none = accepted("write() of 0 bytes", file.write(&[]))?;
        ensure!(none == 0, "write() of 0 bytes returned {none}");
        let part = image.get(part).unwrap_or_default();
        accepted("write()", ctx.dut.write(&file, part, 1 << 20))?;
    }
    accepted("SET RESUMING -> RUNNING", ctx.dut.set(State::Running))?;
    Ok(())
}

fn refused_stays_refused(ctx: &mut Ctx) -> Outcome {
    let image = ctx.dut.own_image()?;
    let mut bad = image.clone();
    // What a stream begins with says what it is.
    bad.iter_mut().take(8).for_each(|byte| *byte = !*byte);
    let file = begin(ctx)?;
    let mut told = None;
    for part in bad.chunks(512) {
        let mut at = &file;
        if let (Err(e), None) = (at.write(part), &told) {
            told = Some(name(&e));
        }
    }
    let result = ctx.dut.set(State::Stop);
    match (told, result) {
        (Some(errno), Ok(_)) => deviation!(
            "write() said {errno} to an image whose first 8 bytes are inverted, and SET RESUMING -> \
             STOP succeeded all the same"
        ),
        (None, Ok(_)) => {
            ctx.note("an image whose first 8 bytes are inverted is accepted");
            Ok(())
        }
        (told, Err(_)) => {
            if told.is_none() {
                ctx.note("a bad image is refused only by SET, which is too late for QEMU");
            }
            recover(ctx, file, &image)
        }
    }
}

fn excess(ctx: &mut Ctx) -> Outcome {
    let image = ctx.dut.own_image()?;
    let file = begin(ctx)?;
    accepted(
        "write() of the image",
        ctx.dut.write(&file, &image, 1 << 20),
    )?;
    let more = ctx.dut.write(&file, &[0x55; 100], 100);
    if let (Ok(()), Ok(_)) = (more, ctx.dut.set(State::Stop)) {
        ctx.note("100 bytes after the end of the image are accepted");
        return Ok(());
    }
    if ctx.dut.get()? == State::Stop {
        return ctx.dut.go(State::Running).map(drop);
    }
    recover(ctx, file, &image)
}

fn again(ctx: &mut Ctx) -> Outcome {
    let image = ctx.dut.own_image()?;
    for _ in 0..5 {
        resume(ctx, &image)?;
    }
    Ok(())
}
