// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Damaged streams on a device: what it takes must be what it then is, and what it refuses must not
//! harm it.

use std::io::Write;

use rand::{rngs::SmallRng, Rng};
use rustix::io::Errno;
use serde::Serialize;

use super::{
    mutate::{mutant, Mutant, Sealed},
    same::{differ, Mask},
    target::read_all,
};
use crate::{
    check::{
        dut::Dut,
        stream::{
            layout::{Framing, Layout, Record},
            load::{self, Image, Loaded},
        },
        verdict::{accepted, deviation, ensure, name, Outcome},
    },
    state::State,
};

/// Damaged streams of an episode.
pub const MUTANTS: u64 = 8;

/// What became of damaged streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Refused by a write.
    pub by_write: u64,
    /// Refused when RESUMING was left.
    pub by_arc: u64,
    /// Taken: the damage did not matter.
    pub same: u64,
    /// Taken, checksums right: the device has another state, which it saves and loads as it is.
    pub other: u64,
    /// Of these: the sections of the device are saved as the stream had them, byte for byte. Not those of
    /// streams in which sections are missing, more, or in another order.
    pub exact: u64,
}

/// How the sections of the device in two streams compare.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Same,
    /// Other sections, or other lengths: which state such a stream describes, only the device knows.
    OfAnotherShape,
    Other(String),
}

/// Type and version of each section of the device, and its payload.
fn sections(stream: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let layout = Layout::new(stream, &[stream.len()]);
    let section = |record: &Record| {
        let bytes = stream.get(record.range())?;
        Some((bytes.get(4..8)?, bytes.get(record.header..)?))
    };
    let (_, rest) = layout.records.split_first()?;
    let (_, middle) = rest.split_last()?;
    (layout.framing == Framing::Dlr).then(|| middle.iter().map(section).collect())?
}

/// Compares what was loaded with what was saved.
fn content(loaded: &[u8], saved: &[u8]) -> Content {
    let (Some(loaded), Some(saved)) = (sections(loaded), sections(saved)) else {
        return Content::OfAnotherShape;
    };
    let shape = |(kind, payload): &(&[u8], &[u8])| (kind.to_vec(), payload.len());
    if !loaded.iter().map(shape).eq(saved.iter().map(shape)) {
        return Content::OfAnotherShape;
    }
    let payloads = loaded.iter().zip(&saved).enumerate();
    for (number, ((_, one), (_, other))) in payloads {
        if let Some(how) = differ(one, other, &Mask::default()) {
            return Content::Other(format!("section {}: {how}", number + 1));
        }
    }
    Content::Same
}

/// A stream of the device, and what of it changes by itself.
///
/// # Errors
///
/// A deviation: it does not load what it saves.
pub fn measure(dut: &Dut) -> Outcome<(Image, Mask)> {
    let image = load::save(dut)?;
    let mut streams = vec![image.bytes.clone()];
    for _ in 0..3 {
        let last = streams.last().cloned().unwrap_or_default();
        streams.push(again(dut, &last)?);
    }
    dut.go(State::Running)?;
    Ok((image, Mask::of(&streams)))
}

/// Saves what a stopped device has; ends in STOP_COPY.
///
/// # Errors
///
/// A deviation: it cannot be saved.
pub fn saved(dut: &Dut) -> Outcome<Vec<u8>> {
    let file = dut.session(State::StopCopy)?;
    accepted("read()", read_all(&file).map_err(Into::into))
}

/// Loads a stream and saves what the device then has; ends in STOP_COPY.
fn again(dut: &Dut, stream: &[u8]) -> Outcome<Vec<u8>> {
    let loaded = load::load(dut, [stream])?;
    ensure!(loaded == Loaded::Accepted, "its own stream was {loaded}");
    saved(dut)
}

/// A device that runs loads a good stream, and saves it again.
///
/// # Errors
///
/// A deviation: it does not.
pub fn proof(dut: &Dut, image: &Image, mask: &Mask) -> Outcome {
    let stream = again(dut, &image.bytes)?;
    if let Some(how) = differ(&image.bytes, &stream, mask) {
        deviation!("a good stream is loaded, and another one is saved: {how}");
    }
    dut.go(State::Running)?;
    Ok(())
}

/// Loads damaged streams. Afterwards the device runs and loads a good one.
///
/// # Errors
///
/// A deviation.
pub fn episode(
    dut: &mut Dut,
    (image, mask): (&Image, &Mask),
    rng: &mut SmallRng,
    tally: &mut Tally,
) -> Outcome {
    for _ in 0..MUTANTS {
        let mutant = mutant(&image.bytes, &image.layout, rng);
        if mutant.bytes == image.bytes {
            continue;
        }
        log::debug!("{}", mutant.what.join(", "));
        one(dut, (image, mask), &mutant, rng, tally)
            .map_err(|e| e.within(&mutant.what.join(", ")))?;
    }
    proof(dut, image, mask).map_err(|e| e.within("after damaged streams"))
}

fn one(
    dut: &mut Dut,
    (image, mask): (&Image, &Mask),
    mutant: &Mutant,
    rng: &mut SmallRng,
    tally: &mut Tally,
) -> Outcome {
    let file = dut.session(State::Resuming)?;
    let piece = [1, 33, 4096, 1 << 20][rng.random_range(0..4)];
    let piece = if mutant.bytes.len() / piece > 4096 {
        4096
    } else {
        piece
    };
    let refused = load::write_parts(&file, mutant.bytes.chunks(piece))?.err();
    let written = refused.is_none();
    if let Some(Loaded::ByWrite(_, errno)) = &refused {
        let well = ["EINVAL", "EOPNOTSUPP", "ENOMEM"].contains(&errno.as_str());
        ensure!(well, "write() failed with {errno}");
        let more = (&file)
            .write(&[0; 16])
            .map_err(|e| Errno::from_io_error(&e));
        ensure!(
            more == Err(Some(Errno::NODEV)),
            "write() after a refused one gave {more:?}, not ENODEV"
        );
    }
    let left = dut.set(State::Stop);
    match left {
        Ok(_) if !written => deviation!("RESUMING was left after write() had failed"),
        Ok(_) => taken(dut, (image, mask), mutant, tally)?,
        Err(e) => {
            let state = dut.get()?;
            let well = Errno::from_io_error(&e) == Some(Errno::INVAL) && state == State::Resuming;
            ensure!(well, "SET STOP failed with {} and led to {state}", name(&e));
            *(if written {
                &mut tally.by_arc
            } else {
                &mut tally.by_write
            }) += 1;
            accepted("VFIO_DEVICE_RESET", load::reset(dut))?;
        }
    }
    drop(file);
    dut.go(State::Running)?;
    dut.expect_state(State::Running, "after a damaged stream")
}

/// The device took a damaged stream.
fn taken(
    dut: &mut Dut,
    (image, mask): (&Image, &Mask),
    mutant: &Mutant,
    tally: &mut Tally,
) -> Outcome {
    let saved = saved(dut)?;
    if differ(&image.bytes, &saved, mask).is_none() {
        tally.same += 1;
        return Ok(());
    }
    ensure!(
        mutant.sealed != Sealed::No,
        "the stream was taken, its checksums are wrong, and the device is not what it was"
    );
    // Another state, then: one that the device can be in, and that moves on as it is.
    let again = again(dut, &saved)?;
    if let Some(how) = differ(&saved, &again, mask) {
        deviation!("the stream was taken, and what is saved then does not stay the same: {how}");
    }
    tally.other += 1;
    match content(&mutant.bytes, &saved) {
        Content::Same => tally.exact += 1,
        Content::OfAnotherShape => {}
        Content::Other(how) => {
            deviation!("the stream was taken, and what is saved then is another one: {how}")
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::stream::layout::tests::dlr;

    fn stream(middle: &[(u16, &[u8])]) -> Vec<u8> {
        dlr(&[&[(1, &[1; 32][..])], middle, &[(2, &[7; 16][..])]].concat())
    }

    #[test]
    fn a_payload_that_is_saved_otherwise_is_seen() {
        let one = stream(&[(0x100, &[1; 8]), (0x101, &[2; 40])]);
        assert_eq!(content(&one, &one), Content::Same);
        let mut byte = [2; 40];
        byte[39] = 3;
        let other = stream(&[(0x100, &[1; 8]), (0x101, &byte)]);
        let how = "section 2: byte 39 is 0x02, and then 0x03; 0 others differ";
        assert_eq!(content(&one, &other), Content::Other(how.into()));
        // The device says what it is and counts itself.
        let mut first = one.clone();
        first[40] ^= 1;
        assert_eq!(content(&first, &one), Content::Same);
    }

    #[test]
    fn only_streams_of_one_shape_are_compared() {
        let one = stream(&[(0x100, &[1; 8]), (0x101, &[2; 40])]);
        for other in [
            stream(&[(0x101, &[2; 40]), (0x100, &[1; 8])]),
            stream(&[(0x100, &[1; 8])]),
            stream(&[(0x100, &[1; 8]), (0x101, &[2; 41])]),
            stream(&[(0x100, &[1; 8]), (0x102, &[2; 40])]),
            vec![0; 99],
        ] {
            assert_eq!(content(&one, &other), Content::OfAnotherShape);
        }
    }
}
