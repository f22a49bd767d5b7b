// SPDX-License-Identifier: GPL-2.0

//! Random streams for tests: good ones, damaged, and mostly with checksums that fit the damage, so
//! that they get beyond the check of those.

use super::{
    Accepts,
    HEADER_BYTES,
    HEADER_CRC_BYTES, //
};
use crate::{
    ext::crc32c::crc32c,
    proto::dlr,
    vfio::dirty::random::Random, //
};
use kernel::prelude::*;

/// Largest number of sections, and length of the longest one with its header.
const SECTIONS: usize = 6;
const SECTION_BYTES: usize = HEADER_BYTES + 72;
/// Largest number of bytes after the last section.
const TAIL: usize = 40;

/// Offsets in a section header.
const KIND: usize = 4;
const FLAGS: usize = 8;
const SEQ: usize = 12;
const LENGTH: usize = 16;
const PAYLOAD_CRC: usize = 24;

/// What the streams are for. The longest of the good ones are too long.
pub(super) const ACCEPTS: Accepts = Accepts {
    compat: [7; 16],
    version_min: 1,
    version_max: 3,
    max_bytes: 320,
};

#[derive(Clone, Copy)]
struct Section {
    bytes: [u8; SECTION_BYTES],
    len: usize,
}

impl Section {
    const EMPTY: Self = Self {
        bytes: [0; SECTION_BYTES],
        len: 0,
    };

    fn new(kind: u32, flags: u32, payload: &[u8]) -> Self {
        let mut this = Self::EMPTY;
        this.put(0, &dlr::DLR_SECTION_MAGIC.to_le_bytes());
        this.put(KIND, &[kind as u8, (kind >> 8) as u8, 1, 0]);
        this.put(FLAGS, &flags.to_le_bytes());
        this.put(HEADER_BYTES, payload);
        this.len = HEADER_BYTES + payload.len();
        this
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Writes as many of `bytes` as fit.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }
}

/// A stream that may be damaged.
pub(super) struct Hostile {
    sections: [Section; SECTIONS],
    count: usize,
    bytes: [u8; SECTIONS * SECTION_BYTES + TAIL],
    len: usize,
}

impl Hostile {
    /// Creates a place for streams.
    pub(super) fn new() -> Result<KBox<Self>> {
        let empty = Self {
            sections: [Section::EMPTY; SECTIONS],
            count: 0,
            bytes: [0; SECTIONS * SECTION_BYTES + TAIL],
            len: 0,
        };
        Ok(KBox::new(empty, GFP_KERNEL)?)
    }

    /// Returns the stream that was drawn last.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Draws a stream: one of eight is good, and all others are damaged, up to three times.
    pub(super) fn draw(&mut self, random: &mut Random) {
        self.good(random);
        self.seal(true);
        if random.below(8) != 0 {
            for _ in 0..=random.below(3) {
                self.damage(random);
            }
            match random.below(8) {
                0 => (),
                1 | 2 => self.seal(false),
                _ => self.seal(true),
            }
        }
        self.len = 0;
        for number in 0..self.count {
            let section = self.section(number);
            self.append(section.get());
        }
        match random.below(24) {
            0 => self.len = random.below(self.len as u64 + 1) as usize,
            1 => {
                let tail = [random.next() as u8; TAIL];
                let n = 1 + random.below(TAIL as u64) as usize;
                self.append(tail.get(..n).unwrap_or_default());
            }
            _ => (),
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(bytes) {
            *to = *from;
        }
        self.len = self.bytes.len().min(self.len + bytes.len());
    }

    fn section(&self, number: usize) -> Section {
        *self.sections.get(number).unwrap_or(&Section::EMPTY)
    }

    fn insert(&mut self, at: usize, section: Section) {
        if let Some(rest) = self.sections.get_mut(at..) {
            if self.count < SECTIONS {
                rest.rotate_right(1);
                self.count += 1;
            }
            if let Some(place) = rest.first_mut() {
                *place = section;
            }
        }
    }

    /// Draws header, up to three sections, and trailer. Checksums and numbers are missing.
    fn good(&mut self, random: &mut Random) {
        let header = dlr::dlr_stream_header {
            compat: ACCEPTS.compat,
            state_version: (1 + random.below(3) as u32).to_le(),
            contract: dlr::DLR_CONTRACT_VERSION.to_le(),
            reserved: 0,
        };
        self.count = 0;
        let first = Section::new(dlr::DLR_SECTION_HEADER, 0, header.as_bytes());
        self.insert(0, first);
        for at in 1..=random.below(4) as usize {
            let payload: [u8; 64] = [random.next() as u8; 64];
            let payload = payload.get(..1 + random.below(64) as usize);
            let (kind, flags) = match random.below(6) {
                0 => (0x50, dlr::DLR_SECTION_F_OPTIONAL),
                1 => (0x101, dlr::DLR_SECTION_F_OPTIONAL),
                2 => (dlr::DLR_SECTION_DEVICE_LAST, 0),
                _ => (dlr::DLR_SECTION_DEVICE_FIRST, 0),
            };
            self.insert(at, Section::new(kind, flags, payload.unwrap_or_default()));
        }
        let last = Section::new(dlr::DLR_SECTION_TRAILER, 0, &[0; 16]);
        self.insert(self.count, last);
    }

    /// Damages one thing.
    fn damage(&mut self, random: &mut Random) {
        if self.count == 0 {
            return;
        }
        let number = random.below(self.count as u64) as usize;
        let other = random.below(self.count as u64) as usize;
        let mut section = self.section(number);
        // The words that a parser trusts are in headers and at the start of payloads.
        let most = match random.below(2) {
            0 => HEADER_BYTES,
            _ => section.len.max(1),
        };
        let at = random.below(most as u64) as usize;
        match random.below(12) {
            0..=2 => {
                if let Some(byte) = section.bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            3..=6 => {
                let bytes = 1 << random.below(3);
                let value = word(random).to_le_bytes();
                section.put(at / bytes * bytes, value.get(..bytes).unwrap_or_default());
            }
            7 => section.len = at,
            8 => section.len = SECTION_BYTES.min(section.len + 1 + random.below(8) as usize),
            9 => {
                if let Some(rest) = self.sections.get_mut(number..self.count) {
                    rest.rotate_left(1);
                }
                self.count -= 1;
                return;
            }
            10 => return self.insert(other, section),
            _ => {
                self.sections.swap(number, other);
                return;
            }
        }
        if let Some(place) = self.sections.get_mut(number) {
            *place = section;
        }
    }

    /// Puts checksums right, and with `all` lengths, numbers and what the trailer counts.
    fn seal(&mut self, all: bool) {
        self.len = 0;
        for number in 0..self.count {
            let mut section = self.section(number);
            if section.len >= HEADER_BYTES {
                let length = (section.len - HEADER_BYTES) as u32;
                let is_last = number + 1 == self.count;
                if all {
                    section.put(SEQ, &(number as u32).to_le_bytes());
                    section.put(LENGTH, &length.to_le_bytes());
                }
                if all && is_last {
                    section.put(HEADER_BYTES, &(number as u32).to_le_bytes());
                    section.put(HEADER_BYTES + 8, &(self.len as u64).to_le_bytes());
                }
                if is_last {
                    let before = crc32c(self.bytes());
                    section.put(HEADER_BYTES + 4, &before.to_le_bytes());
                }
                let payload = crc32c(section.get().get(HEADER_BYTES..).unwrap_or_default());
                section.put(PAYLOAD_CRC, &payload.to_le_bytes());
                let header = crc32c(section.get().get(..HEADER_CRC_BYTES).unwrap_or_default());
                section.put(HEADER_CRC_BYTES, &header.to_le_bytes());
            }
            self.append(section.get());
            if let Some(place) = self.sections.get_mut(number) {
                *place = section;
            }
        }
    }
}

/// Draws a number that is likely to hurt.
fn word(random: &mut Random) -> u32 {
    match random.below(8) {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => u32::MAX,
        4 => dlr::DLR_SECTION_MAX + random.below(3) as u32 - 1,
        5 => 0x8000_0000,
        6 => random.below(300) as u32,
        _ => random.next() as u32,
    }
}
