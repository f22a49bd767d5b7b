// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Random streams: good ones, damaged, and mostly with checksums that fit the damage, so that they
//! get beyond the check of those.

use dlr_abi::abi;
use zerocopy::IntoBytes;

use crate::{
    random::Random,
    sections::{put, seal, section, Seal, Section, HEADER, PERSONALITY, PERSONALITY_HEAD},
};

/// Most sections of a damaged stream.
const SECTIONS: usize = 9;
/// Length of the longest stream that the target of a made-up stream takes. The longest of these
/// streams are longer.
const MADE_UP_BYTES: u64 = 320;

/// A stream, and what its target takes.
pub(crate) struct Drawn {
    pub(crate) bytes: Vec<u8>,
    /// Length of the longest stream that the target takes.
    pub(crate) max_bytes: u64,
    /// The stream was not damaged.
    pub(crate) whole: bool,
    /// It is one that the NIC has saved, or was made from one.
    pub(crate) saved: bool,
}

/// What streams are made from.
pub(crate) struct Hostile {
    saved: Vec<Vec<Section>>,
}

impl Hostile {
    /// Makes streams up, and damages the `saved` ones of a NIC.
    pub(crate) fn new(saved: Vec<Vec<Section>>) -> Self {
        Self { saved }
    }

    /// Draws a stream: two of three are made up. One of eight is good, and all others are damaged,
    /// up to three times.
    pub(crate) fn draw(&self, random: &mut Random) -> Drawn {
        let made_up = random.below(3) != 0;
        let mut sections = if made_up {
            good(random)
        } else {
            self.any(random).clone()
        };
        let mut whole = random.below(8) == 0;
        if !whole {
            for _ in 0..=random.below(3) {
                self.damage(&mut sections, random);
            }
            match random.below(8) {
                0 => (),
                1 | 2 => seal(&mut sections, Seal::Checksums),
                3 => seal(&mut sections, Seal::Numbers),
                _ => seal(&mut sections, Seal::Image),
            }
        }
        let mut bytes = sections.concat();
        match random.below(24) {
            0 => {
                bytes.truncate(random.below(bytes.len() + 1));
                whole = false;
            }
            1 => {
                let tail = vec![random.next() as u8; 1 + random.below(40)];
                bytes.extend(tail);
                whole = false;
            }
            _ => (),
        }
        // The limit lies where it may cut off something.
        let max_bytes = match random.below(8) {
            _ if made_up => MADE_UP_BYTES,
            0 => bytes.len() as u64 - random.below(bytes.len().min(100) + 1) as u64,
            1 => bytes.len() as u64,
            _ => dlr_mgmt::MAX_STATE_BYTES,
        };
        Drawn {
            bytes,
            max_bytes,
            whole,
            saved: !made_up,
        }
    }

    fn any(&self, random: &mut Random) -> &Vec<Section> {
        &self.saved[random.below(self.saved.len())]
    }

    /// Damages one thing.
    fn damage(&self, sections: &mut Vec<Section>, random: &mut Random) {
        let count = sections.len();
        if count == 0 {
            return;
        }
        let (number, other) = (random.below(count), random.below(count));
        let section = &mut sections[number];
        // What is trusted stands in headers and at the start of payloads and images.
        let most = match random.below(4) {
            0 | 1 => HEADER,
            2 => section.len().min(HEADER + 180),
            _ => section.len(),
        };
        let at = random.below(most.max(1));
        match random.below(15) {
            0..=2 => {
                if let Some(byte) = section.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            3..=6 => {
                let bytes = 1 << random.below(3);
                put(section, at / bytes * bytes, &word(random)[..bytes]);
            }
            // A whole word of a header, such as a length.
            12 | 13 => put(section, 4 * random.below(HEADER / 4), &word(random)),
            7 => section.truncate(at),
            8 => section.resize(section.len() + 1 + random.below(8), 0),
            9 => drop(sections.remove(number)),
            10 if count < SECTIONS => sections.insert(other, sections[number].clone()),
            11 => {
                // A section of another stream, most likely one of the same type.
                let stream = self.any(random);
                sections[number] = stream[number.min(stream.len() - 1)].clone();
            }
            _ => sections.swap(number, other),
        }
    }
}

/// Makes up header, up to three sections, and trailer.
fn good(random: &mut Random) -> Vec<Section> {
    let (oldest, newest) = (dlr_mgmt::STATE_VERSION_MIN, dlr_mgmt::STATE_VERSION);
    let header = abi::dlr_stream_header {
        compat: crate::driver::COMPAT,
        state_version: oldest + random.below((newest - oldest + 1) as usize) as u32,
        contract: abi::DLR_CONTRACT_VERSION,
        reserved: 0,
    };
    let mut sections = vec![section(abi::DLR_SECTION_HEADER, 0, header.as_bytes())];
    for _ in 0..random.below(4) {
        let payload = vec![random.next() as u8; 1 + random.below(64)];
        let (kind, flags) = match random.below(6) {
            0 => (0x50, abi::DLR_SECTION_F_OPTIONAL),
            1 => (0x101, abi::DLR_SECTION_F_OPTIONAL),
            2 => (abi::DLR_SECTION_DEVICE_LAST, 0),
            _ => (abi::DLR_SECTION_DEVICE_FIRST, 0),
        };
        sections.push(section(kind, flags, &payload));
    }
    sections.push(section(abi::DLR_SECTION_TRAILER, 0, &[0; 16]));
    seal(&mut sections, Seal::Numbers);
    sections
}

/// Another stream with the same state: the image in two parts, the table sent once more, and a
/// section of a type that neither driver nor NIC knows.
pub(crate) fn told_otherwise(stream: &[Section], cut: usize) -> Vec<Section> {
    let mut sections = Vec::new();
    let last = stream.len() - 1;
    for (number, now) in stream.iter().enumerate() {
        let payload = &now[HEADER..];
        let kind = u32::from(u16::from_le_bytes([now[4], now[5]]));
        if kind == PERSONALITY {
            let (head, image) = payload.split_at(PERSONALITY_HEAD);
            let (first, second) = image.split_at(cut);
            sections.push(section(kind, 0, &[head, first].concat()));
            let offset = (cut as u32).to_le_bytes();
            sections.push(section(kind, 0, &[&offset, &head[4..], second].concat()));
        } else {
            sections.push(now.clone());
        }
        if number + 2 == last {
            // Geometry and table once more.
            sections.extend_from_slice(&stream[1..=number]);
            sections.push(section(0x7000, abi::DLR_SECTION_F_OPTIONAL, b"?"));
        }
    }
    seal(&mut sections, Seal::Numbers);
    sections
}

/// Draws a number that is likely to hurt.
fn word(random: &mut Random) -> [u8; 4] {
    let word = match random.below(8) {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => u32::MAX,
        4 => abi::DLR_SECTION_MAX + random.below(3) as u32 - 1,
        5 => 0x8000_0000,
        6 => random.below(300) as u32,
        _ => random.next() as u32,
    };
    word.to_le_bytes()
}
