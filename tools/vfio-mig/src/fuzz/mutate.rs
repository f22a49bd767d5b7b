// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Damaged streams, drawn at random: bits, words and lengths changed, records cut, left out,
//! repeated and swapped. Where the framing is known, most get correct checksums afterwards, so that
//! they get beyond the check of those.

use rand::{rngs::SmallRng, seq::IndexedRandom, Rng, RngCore};

use crate::check::stream::layout::{Framing, Layout};

/// Offsets in `struct dlr_section`.
const SEQ: usize = 12;
const LENGTH: usize = 16;
const PAYLOAD_CRC: usize = 24;
const HEADER_CRC: usize = 28;
const PAYLOAD: usize = 32;

/// What is right in a damaged stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// Nothing was put right.
    No,
    /// Checksums are right.
    Checksums,
    /// Checksums, lengths and sequence numbers are right.
    All,
}

/// A damaged stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// What was done to it.
    pub what: Vec<String>,
    /// It.
    pub bytes: Vec<u8>,
    /// What is right in it.
    pub sealed: Sealed,
}

/// Damages a stream.
pub fn mutant(stream: &[u8], layout: &Layout, rng: &mut SmallRng) -> Mutant {
    let records = layout.records.iter();
    let mut records: Vec<Vec<u8>> = records
        .filter_map(|record| stream.get(record.range()))
        .map(<[u8]>::to_vec)
        .collect();
    let inner = records
        .iter()
        .find_map(|record| Some((kind(record)?, inner(record)?)));
    let times = [1, 1, 1, 2, 3].choose(rng).copied().unwrap_or(1);
    let mut what: Vec<String> = (0..times).map(|_| damage(&mut records, rng)).collect();
    let sealed = match (layout.framing, rng.random_range(0..8)) {
        (Framing::Dlr, 0..=2) => Sealed::Checksums,
        (Framing::Dlr, 3..=6) => Sealed::All,
        _ => Sealed::No,
    };
    if sealed != Sealed::No {
        seal(&mut records, sealed == Sealed::All, inner);
        what.push(format!("put right: {sealed:?}"));
    }
    let mut bytes = records.concat();
    match rng.random_range(0..24) {
        0 if !bytes.is_empty() => {
            let at = rng.random_range(0..bytes.len());
            bytes.truncate(at);
            what.push(format!("cut after {at} bytes"));
        }
        1 => {
            let mut tail = vec![0; rng.random_range(1..200)];
            rng.fill_bytes(&mut tail);
            bytes.extend(&tail);
            what.push(format!("{} bytes after the end", tail.len()));
        }
        _ => {}
    }
    Mutant {
        what,
        bytes,
        sealed,
    }
}

/// Damages one thing.
fn damage(records: &mut Vec<Vec<u8>>, rng: &mut SmallRng) -> String {
    let number = rng.random_range(0..records.len().max(1));
    let count = records.len();
    let other = rng.random_range(0..count.max(1));
    let Some(record) = records.get_mut(number) else {
        return "nothing".to_owned();
    };
    if record.is_empty() {
        return format!("record {number} is empty");
    }
    // In headers, and at the start of payloads, are the words that a loader trusts.
    let most = if rng.random() {
        record.len()
    } else {
        record.len().min(PAYLOAD + 48)
    };
    let at = rng.random_range(0..most);
    match rng.random_range(0..12) {
        0..=2 => {
            let bit = rng.random_range(0..8);
            if let Some(byte) = record.get_mut(at) {
                *byte ^= 1 << bit;
            }
            format!("bit {bit} of byte {at} of record {number} flipped")
        }
        3..=6 => {
            let bytes = [1, 2, 4, 8].choose(rng).copied().unwrap_or(4);
            let value = word(rng);
            let at = at / bytes * bytes;
            put(
                record,
                at,
                value.to_le_bytes().get(..bytes).unwrap_or_default(),
            );
            format!("{bytes} bytes at {at} of record {number} are {value:#x}")
        }
        7 => {
            record.truncate(at);
            format!("record {number} cut after {at} bytes")
        }
        8 => {
            let mut more = vec![0; rng.random_range(1..100)];
            rng.fill_bytes(&mut more);
            let text = format!("{} bytes more at {at} of record {number}", more.len());
            record.splice(at..at, more);
            text
        }
        9 => {
            records.remove(number);
            format!("without record {number} of {count}")
        }
        10 => {
            let copy = record.clone();
            records.insert(other, copy);
            format!("record {number} again before record {other}")
        }
        _ => {
            records.swap(number, other);
            format!("records {number} and {other} swapped")
        }
    }
}

/// A number that is likely to hurt.
fn word(rng: &mut SmallRng) -> u64 {
    let special = [
        0,
        1,
        2,
        0x7f,
        0xff,
        0x7fff,
        0xffff,
        0x1_0000,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        u64::MAX,
        u64::MAX / 2,
    ];
    match rng.random_range(0..4) {
        0 => rng.random(),
        1 => rng.random_range(0..300),
        _ => special.choose(rng).copied().unwrap_or_default(),
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

/// Type of a record.
fn kind(record: &[u8]) -> Option<[u8; 2]> {
    record.get(4..6)?.try_into().ok()
}

/// Where a payload begins that ends with its own checksum.
fn inner(record: &[u8]) -> Option<usize> {
    let (body, crc) = record.split_last_chunk::<4>()?;
    let well = |start: &usize| {
        let covered = body.get(*start..);
        covered.is_some_and(|bytes| {
            !bytes.is_empty() && crc32c::crc32c(bytes) == u32::from_le_bytes(*crc)
        })
    };
    [PAYLOAD, PAYLOAD + 8, PAYLOAD + 16].into_iter().find(well)
}

/// Puts the checksum of such a payload right.
fn seal_inner(record: &mut [u8], start: usize) {
    if let Some((body, end)) = record.split_last_chunk_mut::<4>() {
        if let Some(covered) = body.get(start..) {
            *end = crc32c::crc32c(covered).to_le_bytes();
        }
    }
}

/// Puts checksums right, also that within records of one type; with `all` also lengths, sequence numbers and what the trailer counts.
fn seal(records: &mut [Vec<u8>], all: bool, inner: Option<([u8; 2], usize)>) {
    let last = records.len().saturating_sub(1);
    let mut before = Vec::new();
    for (number, record) in records.iter_mut().enumerate() {
        if record.len() < PAYLOAD {
            before.extend_from_slice(record);
            continue;
        }
        match inner {
            Some((of, start)) if kind(record) == Some(of) => seal_inner(record, start),
            _ => {}
        }
        if all {
            put(record, SEQ, &(number as u32).to_le_bytes());
            let length = (record.len() - PAYLOAD) as u32;
            put(record, LENGTH, &length.to_le_bytes());
            if number == last {
                put(record, PAYLOAD, &(number as u32).to_le_bytes());
                put(record, PAYLOAD + 8, &(before.len() as u64).to_le_bytes());
            }
        }
        if number == last {
            put(record, PAYLOAD + 4, &crc32c::crc32c(&before).to_le_bytes());
        }
        let crc = crc32c::crc32c(record.get(PAYLOAD..).unwrap_or_default());
        put(record, PAYLOAD_CRC, &crc.to_le_bytes());
        let crc = crc32c::crc32c(record.get(..HEADER_CRC).unwrap_or_default());
        put(record, HEADER_CRC, &crc.to_le_bytes());
        before.extend_from_slice(record);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::check::stream::layout::tests::dlr as build;

    fn material() -> (Vec<u8>, Layout) {
        let payload: Vec<u8> = (0..=255).collect();
        let stream = build(&[
            (1, &[1; 32]),
            (0x100, &payload),
            (0x101, &[3; 8]),
            (2, &[7; 16]),
        ]);
        let layout = Layout::new(&stream, &[stream.len()]);
        (stream, layout)
    }

    #[test]
    fn the_seed_decides_and_most_differ() {
        let (stream, layout) = material();
        let all = |seed| {
            let mut rng = SmallRng::seed_from_u64(seed);
            let draw = |_| mutant(&stream, &layout, &mut rng);
            (0..500).map(draw).collect::<Vec<_>>()
        };
        let mutants = all(1);
        assert_eq!(mutants, all(1));
        let differ = mutants.iter().filter(|mutant| mutant.bytes != stream);
        assert!(differ.count() > 450);
        for sealed in [Sealed::No, Sealed::Checksums, Sealed::All] {
            assert!(mutants.iter().any(|mutant| mutant.sealed == sealed));
        }
    }

    #[test]
    fn a_checksum_within_a_record_is_found_and_put_right() {
        let mut payload: Vec<u8> = (0..100).collect();
        payload.extend(crc32c::crc32c(&payload[8..]).to_le_bytes());
        let mut stream = build(&[(0x100, &payload)]);
        assert_eq!(inner(&stream), Some(PAYLOAD + 8));
        stream[50] ^= 1;
        assert_eq!(inner(&stream), None);
        seal_inner(&mut stream, PAYLOAD + 8);
        assert_eq!(inner(&stream), Some(PAYLOAD + 8));
    }

    #[test]
    fn what_is_put_right_is_taken_apart_again() {
        let (stream, layout) = material();
        let mut records: Vec<Vec<u8>> = layout
            .records
            .iter()
            .map(|r| stream[r.range()].to_vec())
            .collect();
        records[1].truncate(100);
        records[1][40] ^= 1;
        records.swap(1, 2);
        seal(&mut records, true, None);
        let sealed = records.concat();
        let again = Layout::new(&sealed, &[sealed.len()]);
        assert_eq!(again.framing, Framing::Dlr);
        assert_eq!(again.records.len(), 4);
        for (number, record) in again.records.iter().enumerate() {
            let section = &sealed[record.range()];
            assert_eq!(section[SEQ], number as u8);
            assert_eq!(
                section[28..32],
                crc32c::crc32c(&section[..28]).to_le_bytes()
            );
            assert_eq!(
                section[24..28],
                crc32c::crc32c(&section[32..]).to_le_bytes()
            );
        }
        let trailer = &sealed[again.records[3].range()];
        let before = crc32c::crc32c(&sealed[..again.records[3].start]);
        assert_eq!(trailer[36..40], before.to_le_bytes());
        assert_eq!(trailer[32], 3);
    }
}
