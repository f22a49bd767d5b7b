// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Streams as lists of sections, and their checksums.

use crc32c::{crc32c, crc32c_append};
use dlr_abi::abi;

/// Bytes of a section's header.
pub(crate) const HEADER: usize = size_of::<abi::dlr_section>();
/// The section with the state of the data function: of the device's own types the third.
pub(crate) const PERSONALITY: u32 = abi::DLR_SECTION_DEVICE_FIRST + 2;
/// Bytes of a PERSONALITY section before its part of the image: offset and total.
pub(crate) const PERSONALITY_HEAD: usize = 8;

/// Offsets in a section's header.
const SEQ: usize = 12;
const LENGTH: usize = 16;
const PAYLOAD_CRC: usize = 24;
const HEADER_CRC: usize = 28;

/// A section, its header included. It may be damaged, and shorter than a header.
pub(crate) type Section = Vec<u8>;

/// What is put right.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seal {
    /// The checksums of sections and stream.
    Checksums,
    /// Lengths and numbers of sections, and what the trailer counts, as well.
    Numbers,
    /// The checksum of an image that is in one section, as well.
    Image,
}

/// Creates a section. It has neither number nor checksums.
pub(crate) fn section(kind: u32, flags: u32, payload: &[u8]) -> Section {
    let mut section = vec![0; HEADER];
    put(&mut section, 0, &abi::DLR_SECTION_MAGIC.to_le_bytes());
    put(&mut section, 4, &[kind as u8, (kind >> 8) as u8, 1, 0]);
    put(&mut section, 8, &flags.to_le_bytes());
    section.extend_from_slice(payload);
    section
}

/// The sections of a stream that is not damaged.
pub(crate) fn split(mut stream: &[u8]) -> Vec<Section> {
    let mut sections = Vec::new();
    while !stream.is_empty() {
        let (section, rest) = stream.split_at(HEADER + u32_at(stream, LENGTH) as usize);
        sections.push(section.to_vec());
        stream = rest;
    }
    sections
}

/// Puts right what the damage of `sections` has made wrong.
pub(crate) fn seal(sections: &mut [Section], how: Seal) {
    let (mut before, mut bytes) = (0, 0);
    let last = sections.len().saturating_sub(1);
    for (number, section) in sections.iter_mut().enumerate() {
        if section.len() >= HEADER {
            if how >= Seal::Image && u16_at(section, 4) == PERSONALITY {
                seal_image(section);
            }
            if how >= Seal::Numbers {
                let length = (section.len() - HEADER) as u32;
                put(section, SEQ, &(number as u32).to_le_bytes());
                put(section, LENGTH, &length.to_le_bytes());
                if number == last {
                    put(section, HEADER, &(number as u32).to_le_bytes());
                    put(section, HEADER + 8, &(bytes as u64).to_le_bytes());
                }
            }
            if number == last {
                put(section, HEADER + 4, &u32::to_le_bytes(before));
            }
            let payload = crc32c(&section[HEADER..]);
            put(section, PAYLOAD_CRC, &payload.to_le_bytes());
            let header = crc32c(&section[..HEADER_CRC]);
            put(section, HEADER_CRC, &header.to_le_bytes());
        }
        before = crc32c_append(before, section);
        bytes += section.len();
    }
}

/// Puts the checksum at the end of the image right, if the whole image is in this section.
fn seal_image(section: &mut Section) {
    let start = HEADER + PERSONALITY_HEAD;
    let whole = section.len() >= start + 4 && u32_at(section, HEADER) == 0;
    if whole && u32_at(section, HEADER + 4) as usize == section.len() - start {
        let end = section.len() - 4;
        let crc = crc32c(&section[start..end]);
        put(section, end, &crc.to_le_bytes());
    }
}

/// Writes as many of `data` as fit.
pub(crate) fn put(bytes: &mut [u8], at: usize, data: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(data) {
        *to = *from;
    }
}

/// The number at `at`; 0 behind the end.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u32 {
    let two = bytes.get(at..at + 2).and_then(|b| b.try_into().ok());
    two.map_or(0, |b| u16::from_le_bytes(b).into())
}

/// The number at `at`; 0 behind the end.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u16_at(bytes, at) | u16_at(bytes, at + 2) << 16
}
