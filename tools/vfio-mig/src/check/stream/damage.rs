// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Damaged copies of a stream.

use rand::{rngs::SmallRng, Rng, RngCore};

use super::layout::{Layout, Record};

/// A damaged stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// What was done to it.
    pub what: String,
    /// It.
    pub bytes: Vec<u8>,
}

impl Damaged {
    pub(super) fn new(what: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self {
            what: what.into(),
            bytes,
        }
    }
}

/// At most `most` of `all`, the first and the last among them, in their order.
pub fn sample<T>(mut all: Vec<T>, most: usize, rng: &mut SmallRng) -> Vec<T> {
    while all.len() > most.max(2) {
        let at = rng.random_range(1..all.len() - 1);
        all.remove(at);
    }
    all
}

/// Streams that end too early, at edges of records and around them; without a single byte, too.
pub fn truncated(stream: &[u8], layout: &Layout, most: usize, rng: &mut SmallRng) -> Vec<Damaged> {
    let mut cuts = vec![0];
    cuts.extend(layout.cuts());
    let cut = |at: usize| {
        let what = format!("cut after {at} of {} bytes", stream.len());
        Damaged::new(what, stream.iter().take(at).copied().collect())
    };
    sample(cuts, most, rng).into_iter().map(cut).collect()
}

/// Streams with one bit flipped: in header and payload of the first and the last record, and in
/// `most` others.
pub fn flipped(stream: &[u8], layout: &Layout, most: usize, rng: &mut SmallRng) -> Vec<Damaged> {
    let part = |record: &Record| {
        let header = record.start..record.start + record.header;
        [
            ("header", header.clone()),
            ("payload", header.end..record.end),
        ]
    };
    let numbered: Vec<(usize, &Record)> = layout.records.iter().enumerate().collect();
    let places: Vec<(usize, &Record)> = sample(numbered, most / 2, rng);
    let mut flips = Vec::new();
    for (number, record) in places {
        for (name, bytes) in part(record) {
            if bytes.is_empty() {
                continue;
            }
            let (at, bit) = (rng.random_range(bytes.clone()), rng.random_range(0..8u32));
            let mut copy = stream.to_vec();
            if let Some(byte) = copy.get_mut(at) {
                *byte ^= 1 << bit;
            }
            let what = format!("bit {bit} of byte {at} flipped ({name} of record {number})");
            flips.push(Damaged::new(what, copy));
        }
    }
    // Streams of one record would hardly be looked at otherwise.
    while flips.len() < most && !stream.is_empty() {
        let (at, bit) = (rng.random_range(0..stream.len()), rng.random_range(0..8u32));
        let mut copy = stream.to_vec();
        if let Some(byte) = copy.get_mut(at) {
            *byte ^= 1 << bit;
        }
        flips.push(Damaged::new(
            format!("bit {bit} of byte {at} flipped"),
            copy,
        ));
    }
    flips
}

/// Streams whose records are whole and out of order: one left out, one twice, two swapped.
pub fn disordered(stream: &[u8], layout: &Layout, rng: &mut SmallRng) -> Vec<Damaged> {
    let records: Vec<&[u8]> = layout
        .records
        .iter()
        .filter_map(|record| stream.get(record.range()))
        .collect();
    let count = records.len();
    let mut all = Vec::new();
    let mut push = |what: String, parts: Vec<&[u8]>| {
        let bytes = parts.concat();
        if bytes != stream {
            all.push(Damaged::new(what, bytes));
        }
    };
    let mut places = vec![0, count.saturating_sub(1)];
    if count > 2 {
        places.insert(1, rng.random_range(1..count - 1));
    }
    places.dedup();
    for at in places {
        let mut twice = records.clone();
        if let Some(record) = records.get(at) {
            twice.insert(at, record);
            push(format!("record {at} of {count} twice"), twice);
        }
        if count > 1 {
            let mut without = records.clone();
            without.remove(at);
            push(format!("without record {at} of {count}"), without);
        }
        if at + 1 < count {
            let mut swapped = records.clone();
            swapped.swap(at, at + 1);
            push(format!("records {at} and {} swapped", at + 1), swapped);
        }
    }
    all
}

/// Bytes after the end.
pub fn extended(stream: &[u8]) -> Vec<Damaged> {
    [&[0u8][..], &[0xff; 64], stream]
        .iter()
        .map(|tail| {
            let what = format!("{} bytes after the end", tail.len());
            Damaged::new(what, [stream, tail].concat())
        })
        .collect()
}

/// Streams of no device, or of another one.
pub fn foreign(length: usize, rng: &mut SmallRng) -> Vec<Damaged> {
    let length = length.clamp(64, 64 << 10);
    let mut noise = vec![0; length];
    rng.fill_bytes(&mut noise);
    // A first record as mlx5 has it: a size, no flags, the tag of a hint.
    let mut tagged = vec![0; length];
    for (to, from) in tagged
        .iter_mut()
        .zip([8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    {
        *to = from;
    }
    vec![
        Damaged::new("random bytes", noise),
        Damaged::new("zeros", vec![0; length]),
        Damaged::new("ones", vec![0xff; length]),
        Damaged::new("records of another driver", tagged),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::check::stream::{layout::tests::dlr as build, reframe::reframed};

    pub(in crate::check::stream) fn material() -> (Vec<u8>, Layout, SmallRng) {
        let trailer = [7; 16];
        let stream = build(&[
            (1, &[1; 32]),
            (0x100, &[2; 900]),
            (0x101, &[3; 8]),
            (2, &trailer),
        ]);
        let layout = Layout::new(&stream, &[stream.len()]);
        (stream, layout, SmallRng::seed_from_u64(3))
    }

    #[test]
    fn everything_damaged_differs() {
        let (stream, layout, mut rng) = material();
        let mut all = truncated(&stream, &layout, 12, &mut rng);
        assert_eq!(all.len(), 12);
        assert!(all[0].bytes.is_empty());
        all.extend(flipped(&stream, &layout, 12, &mut rng));
        all.extend(disordered(&stream, &layout, &mut rng));
        all.extend(extended(&stream));
        all.extend(foreign(stream.len(), &mut rng));
        all.extend(reframed(&stream, &layout));
        for damaged in &all {
            assert_ne!(damaged.bytes, stream, "{}", damaged.what);
        }
        assert!(all.len() > 40, "{}", all.len());
    }

    #[test]
    fn flips_reach_headers_payloads_and_the_trailer() {
        let (stream, layout, mut rng) = material();
        let flips = flipped(&stream, &layout, 8, &mut rng);
        let has = |text: &str| flips.iter().any(|flip| flip.what.contains(text));
        assert!(has("header of record 0") && has("payload of record 3"));
        for flip in &flips {
            let differs = flip.bytes.iter().zip(&stream).filter(|(a, b)| a != b);
            assert_eq!(differs.count(), 1);
        }
    }

    #[test]
    fn a_stream_of_one_record_can_only_be_doubled() {
        let stream = [1, 2, 3];
        let layout = Layout::new(&stream, &[3]);
        let mut rng = SmallRng::seed_from_u64(1);
        let all = disordered(&stream, &layout, &mut rng);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].bytes, [1, 2, 3, 1, 2, 3]);
        assert_eq!(flipped(&stream, &layout, 5, &mut rng).len(), 5);
    }
}
