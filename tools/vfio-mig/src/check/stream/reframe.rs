// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Damaged copies of a stream whose framing is known.

use super::{
    damage::Damaged,
    layout::{Framing, Layout},
};

/// Streams that only a driver's own framing can express, its checksums right: another version,
/// another device, odd lengths. Empty where the framing is not known.
pub fn reframed(stream: &[u8], layout: &Layout) -> Vec<Damaged> {
    match layout.framing {
        Framing::Dlr => dlr(stream, layout),
        Framing::Tagged => tagged(stream),
        Framing::Reads => Vec::new(),
    }
}

/// Offsets in `struct dlr_section` and its payloads.
mod at {
    pub(super) const TYPE: usize = 4;
    pub(super) const VERSION: usize = 6;
    pub(super) const SEQ: usize = 12;
    pub(super) const LENGTH: usize = 16;
    pub(super) const PAYLOAD_CRC: usize = 24;
    pub(super) const HEADER_CRC: usize = 28;
    pub(super) const PAYLOAD: usize = 32;
    pub(super) const COMPAT: usize = PAYLOAD;
    pub(super) const STATE_VERSION: usize = PAYLOAD + 16;
    pub(super) const CONTRACT: usize = PAYLOAD + 20;
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

fn dlr(stream: &[u8], layout: &Layout) -> Vec<Damaged> {
    let u32s = |value: u32| value.to_le_bytes().to_vec();
    let last = layout.records.len().saturating_sub(1);
    // What, which section, where in it, and what there.
    let edits: Vec<(&str, usize, usize, Vec<u8>)> = vec![
        (
            "another version of the stream header",
            0,
            at::VERSION,
            vec![2, 0],
        ),
        (
            "another device (compatibility id)",
            0,
            at::COMPAT,
            vec![b'X'; 16],
        ),
        (
            "a later version of the state",
            0,
            at::STATE_VERSION,
            u32s(u32::MAX),
        ),
        ("another contract", 0, at::CONTRACT, u32s(0x7fff_0000)),
        ("a section of length 0", 1, at::LENGTH, u32s(0)),
        (
            "a section of 64 KiB and a byte",
            1,
            at::LENGTH,
            u32s((64 << 10) + 1),
        ),
        ("a section of 4 GiB", 1, at::LENGTH, u32s(u32::MAX)),
        ("a sequence number ahead", 1, at::SEQ, u32s(7)),
        (
            "a type that must be known and is not",
            1,
            at::TYPE,
            vec![0xff, 0x7f],
        ),
        ("version 0 of a section", 1, at::VERSION, vec![0, 0]),
        ("a second header", 1, at::TYPE, vec![1, 0]),
        (
            "a trailer that counts more sections",
            last,
            at::PAYLOAD,
            u32s(u32::MAX),
        ),
        (
            "a trailer with another checksum",
            last,
            at::PAYLOAD + 4,
            u32s(0),
        ),
        (
            "a trailer with another length",
            last,
            at::PAYLOAD + 8,
            u32s(1),
        ),
    ];
    let edit = |(what, number, at, value): (&str, usize, usize, Vec<u8>)| {
        let record = layout.records.get(number)?;
        let mut bytes = stream.to_vec();
        let section = bytes.get_mut(record.range())?;
        put(section, at, &value);
        let crc = crc32c::crc32c(section.get(at::PAYLOAD..)?);
        put(section, at::PAYLOAD_CRC, &crc.to_le_bytes());
        let crc = crc32c::crc32c(section.get(..at::HEADER_CRC)?);
        put(section, at::HEADER_CRC, &crc.to_le_bytes());
        (bytes != stream).then(|| Damaged::new(what, bytes))
    };
    edits.into_iter().filter_map(edit).collect()
}

fn tagged(stream: &[u8]) -> Vec<Damaged> {
    let edits: [(&str, usize, Vec<u8>); 4] = [
        ("a record of length 0", 0, vec![0; 8]),
        (
            "a record of almost 4 GiB",
            0,
            vec![0xf8, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        ),
        ("a record of 2^63 bytes", 0, vec![0, 0, 0, 0, 0, 0, 0, 0x80]),
        (
            "an unknown tag that must be known",
            8,
            vec![0, 0, 0, 0, 0xff, 0xff, 0, 0],
        ),
    ];
    let edit = |(what, at, value): (&str, usize, Vec<u8>)| {
        let mut bytes = stream.to_vec();
        put(&mut bytes, at, &value);
        Damaged::new(what, bytes)
    };
    edits.into_iter().map(edit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::stream::damage::tests::material;

    #[test]
    fn reframed_sections_have_right_checksums() {
        let (stream, layout, _) = material();
        for damaged in reframed(&stream, &layout) {
            for record in &layout.records {
                let section = &damaged.bytes[record.range()];
                let crc = crc32c::crc32c(&section[..28]).to_le_bytes();
                assert_eq!(section[28..32], crc, "{}", damaged.what);
                let crc = crc32c::crc32c(&section[32..]).to_le_bytes();
                assert_eq!(section[24..28], crc, "{}", damaged.what);
            }
        }
    }
}
