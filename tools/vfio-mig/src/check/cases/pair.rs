// SPDX-License-Identifier: Apache-2.0 OR MIT

//! R and S11: a stream of one device in another, whole in any pieces, or damaged.

use rand::Rng;

use crate::check::{
    stream::{
        damage::{self, Damaged},
        load::{self, Image, Loaded},
        reframe::reframed,
    },
    verdict::{ensure, skip, Outcome},
    Case, Ctx, Group, Needs,
};

/// Bytes that all loads of one case may write together: emulated devices are slow.
const BUDGET: usize = 64 << 20;
/// Most loads of one case, and the least that is worth it.
const LOADS: (usize, usize) = (24, 6);
/// Bytes that are written one by one.
const SINGLE: usize = 16 << 10;
/// Names of this many streams are given in a deviation.
const NAMED: usize = 3;

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    let case = |id, more, says, run: fn(&mut Ctx) -> Outcome| {
        Case::new(
            Group::Pair,
            id,
            Needs::MIGRATION | Needs::PAIR | more,
            says,
            run,
        )
    };
    let none = Needs::empty();
    vec![
        case(
            "S11.good-stream",
            none,
            "a stream is loaded into a compatible device, which then runs, and back (uapi:1173)",
            good,
        ),
        case(
            "S7.good-pre-copied-stream",
            Needs::PRE_COPY,
            "PRE_COPY and STOP_COPY share one stream, which the target takes (uapi:1148)",
            good_pre_copied,
        ),
        case(
            "R2.every-split",
            none,
            "the user need not preserve the segmentation of the stream (uapi:1066)",
            splits,
        ),
        case(
            "R2.pieces",
            none,
            "the user need not preserve the segmentation of the stream (uapi:1066)",
            pieces,
        ),
        case(
            "R2.single-bytes",
            none,
            "the user need not preserve the segmentation of the stream (uapi:1066)",
            single_bytes,
        ),
        case(
            "R11.truncated",
            none,
            "incomplete data must fail the SET that leaves RESUMING (uapi:1120)",
            |ctx| {
                refused(ctx, |ctx, image, most| {
                    damage::truncated(&image.bytes, &image.layout, most, &mut ctx.rng)
                })
            },
        ),
        case(
            "R1.flipped-bits",
            none,
            "inconsistent or invalid data must fail the SET that leaves RESUMING (uapi:1120)",
            |ctx| {
                refused(ctx, |ctx, image, most| {
                    damage::flipped(&image.bytes, &image.layout, most, &mut ctx.rng)
                })
            },
        ),
        case(
            "R1.disordered-records",
            none,
            "the order of the stream counts; inconsistent data must fail (uapi:1065, 1120)",
            |ctx| {
                refused(ctx, |ctx, image, _| {
                    damage::disordered(&image.bytes, &image.layout, &mut ctx.rng)
                })
            },
        ),
        case(
            "R10.foreign-stream",
            none,
            "a stream must come from a compatible device; invalid data must fail (uapi:1120, 1182)",
            |ctx| {
                refused(ctx, |ctx, image, _| {
                    damage::foreign(image.bytes.len(), &mut ctx.rng)
                })
            },
        ),
        case(
            "R4.bytes-after-the-end",
            none,
            "data that is not that of one session is invalid and must fail (uapi:1120, 1182)",
            |ctx| refused(ctx, |_, image, _| damage::extended(&image.bytes)),
        ),
        case(
            "R3.reframed",
            none,
            "another version, device or length with right checksums is invalid and must fail \
             (uapi:1120)",
            |ctx| refused(ctx, |_, image, _| reframed(&image.bytes, &image.layout)),
        ),
    ]
}

/// How many streams of `length` bytes a case may load.
fn loads(length: usize) -> usize {
    (BUDGET / length.max(1)).clamp(LOADS.1, LOADS.0)
}

fn pair(ctx: &mut Ctx) -> Outcome<&mut crate::check::dut::Dut> {
    ctx.pair()
}

fn image(ctx: &Ctx) -> Outcome<Image> {
    let image = load::save(&ctx.dut)?;
    ensure!(!image.bytes.is_empty(), "the stream of a session is empty");
    Ok(image)
}

fn good(ctx: &mut Ctx) -> Outcome {
    let there = image(ctx)?;
    let (length, records) = (there.bytes.len(), there.layout.records.len());
    ctx.note(format!(
        "the stream has {length} bytes in {records} records ({:?})",
        there.layout.framing
    ));
    load::expect_good(pair(ctx)?, [&there.bytes[..]], "the stream")?;
    let back = load::save(pair(ctx)?)?;
    load::expect_good(&mut ctx.dut, [&back.bytes[..]], "the stream back")?;
    let again = load::save(&ctx.dut)?;
    if again.bytes != there.bytes {
        ctx.note("there and back again, the stream differs from the first");
    }
    Ok(())
}

fn good_pre_copied(ctx: &mut Ctx) -> Outcome {
    let image = load::save_with_pre_copy(&ctx.dut)?;
    load::expect_good(pair(ctx)?, [&image.bytes[..]], "a pre-copied stream")
}

fn splits(ctx: &mut Ctx) -> Outcome {
    let image = image(ctx)?;
    let length = image.bytes.len();
    let most = loads(length);
    let mut cuts = damage::sample(image.layout.cuts(), most * 3 / 4, &mut ctx.rng);
    while cuts.len() < most && length > 1 {
        cuts.push(ctx.rng.random_range(1..length));
    }
    for cut in cuts {
        let (first, second) = image.bytes.split_at(cut.min(length));
        let what = format!("the stream split at byte {cut} of {length}");
        load::expect_good(pair(ctx)?, [first, second], &what)?;
    }
    Ok(())
}

fn pieces(ctx: &mut Ctx) -> Outcome {
    let image = image(ctx)?;
    let length = image.bytes.len();
    for piece in [7, 4095, 4096, 65537, length] {
        if length / piece > SINGLE {
            continue;
        }
        let what = format!("the stream in pieces of {piece} bytes");
        load::expect_good(pair(ctx)?, image.bytes.chunks(piece), &what)?;
    }
    // By records, and each record's header by itself.
    let parts = image.layout.records.iter().flat_map(|record| {
        let header = record.start + record.header;
        [record.start..header, header..record.end]
    });
    let parts: Vec<&[u8]> = parts.filter_map(|part| image.bytes.get(part)).collect();
    load::expect_good(pair(ctx)?, parts, "the stream in headers and payloads")
}

fn single_bytes(ctx: &mut Ctx) -> Outcome {
    let image = image(ctx)?;
    let length = image.bytes.len();
    let (first, rest) = image.bytes.split_at(SINGLE.min(length));
    // The end, too: that is where a session is judged.
    let (rest, last) = rest.split_at(rest.len().saturating_sub(SINGLE / 16));
    let parts = first
        .chunks(1)
        .chain(rest.chunks(1 << 20))
        .chain(last.chunks(1));
    if first.len() < length {
        ctx.note(format!(
            "only {} bytes by themselves",
            first.len() + last.len()
        ));
    }
    load::expect_good(pair(ctx)?, parts, "the stream byte by byte")
}

/// None of the damaged streams may be taken; each leaves the device fit for a reset and for the
/// good stream.
fn refused(ctx: &mut Ctx, damage: impl Fn(&mut Ctx, &Image, usize) -> Vec<Damaged>) -> Outcome {
    let image = image(ctx)?;
    let streams = damage(ctx, &image, loads(image.bytes.len()));
    if streams.is_empty() {
        skip!("it cannot be expressed: the stream's framing is not known");
    }
    let mut taken = Vec::new();
    for stream in &streams {
        let loaded =
            load::load(pair(ctx)?, [&stream.bytes[..]]).map_err(|e| e.within(&stream.what))?;
        log::debug!("{}: {loaded}", stream.what);
        if loaded == Loaded::Accepted {
            taken.push(stream.what.as_str());
        }
        load::run_again(pair(ctx)?, &loaded).map_err(|e| e.within(&stream.what))?;
    }
    load::expect_good(
        pair(ctx)?,
        [&image.bytes[..]],
        "the good stream after damaged ones",
    )?;
    ensure!(
        taken.is_empty(),
        "{} of {} damaged streams were taken: {}{}",
        taken.len(),
        streams.len(),
        taken
            .iter()
            .take(NAMED)
            .copied()
            .collect::<Vec<_>>()
            .join("; "),
        if taken.len() > NAMED { "; …" } else { "" }
    );
    Ok(())
}
