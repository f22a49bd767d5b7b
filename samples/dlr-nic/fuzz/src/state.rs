// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A source that sends a device's state.

use std::sync::OnceLock;

use arbitrary::{Arbitrary, Unstructured};
use dlr_abi::abi;
use dlr_core::{DataFunction, FnState};
use dlr_net::QueueSize;
use zerocopy::IntoBytes;

use crate::{
    function::{Function, FEATURES},
    guest::Guest,
};

/// Bytes of the flow table: one block.
const FLOW_TABLE: u64 = 4096;
/// Sections of one string.
const SECTIONS: usize = 20;

/// A stream with the right checksums, or bytes.
#[derive(Debug, Arbitrary)]
enum Stream {
    Bytes(Vec<u8>),
    /// Header and trailer are there unless bits of the first number say otherwise.
    Sections(u8, Vec<Part>),
}

#[derive(Debug, Arbitrary)]
enum Part {
    /// Type, version, flags, payload.
    Any(u8, u8, u8, Vec<u8>),
    Geometry(u8),
    Flow(u8, u8, u16),
    /// The image of a function under way, with these bytes changed; in two parts if the second number
    /// divides it.
    Image(Vec<(u16, u8)>, u16),
}

#[derive(Default)]
struct Framing {
    stream: Vec<u8>,
    sections: u32,
}

impl Framing {
    fn section(&mut self, kind: u32, version: u8, flags: u8, payload: &[u8]) {
        let mut head = abi::dlr_section {
            magic: abi::DLR_SECTION_MAGIC,
            type_: kind as u16,
            version: version.into(),
            flags: flags.into(),
            seq: self.sections,
            length: payload.len() as u32,
            reserved: 0,
            payload_crc: crc32c::crc32c(payload),
            header_crc: 0,
        };
        let bytes = head.as_bytes();
        let covered = bytes.get(..bytes.len() - 4).unwrap_or_default();
        head.header_crc = crc32c::crc32c(covered);
        self.stream.extend_from_slice(head.as_bytes());
        self.stream.extend_from_slice(payload);
        self.sections += 1;
    }

    fn header(&mut self) {
        let header = abi::dlr_stream_header {
            compat: QueueSize::default().compat(),
            state_version: 2,
            contract: abi::DLR_CONTRACT_VERSION,
            reserved: 0,
        };
        self.section(abi::DLR_SECTION_HEADER, 1, 0, header.as_bytes());
    }

    fn trailer(&mut self) {
        let trailer = abi::dlr_stream_trailer {
            sections: self.sections,
            stream_crc: crc32c::crc32c(&self.stream),
            stream_bytes: self.stream.len() as u64,
        };
        self.section(abi::DLR_SECTION_TRAILER, 1, 0, trailer.as_bytes());
    }

    fn part(&mut self, part: &Part) {
        let own = abi::DLR_SECTION_DEVICE_FIRST;
        let words = |numbers: [u32; 2]| numbers.map(u32::to_le_bytes).as_flattened().to_vec();
        match part {
            Part::Any(kind, version, flags, payload) if !payload.is_empty() => {
                let kind = if kind & 0x80 == 0 {
                    own + u32::from(kind % 4)
                } else {
                    (*kind).into()
                };
                self.section(kind, *version, *flags, payload);
            }
            Part::Any(..) => (),
            Part::Geometry(blocks) => self.section(own, 1, 0, &words([u32::from(*blocks % 3), 0])),
            Part::Flow(first, count, bytes) => {
                let mut payload = words([u32::from(*first % 3), u32::from(*count % 3)]);
                payload.resize(8 + usize::from(*bytes % 0x1100), 0x77);
                self.section(own + 1, 1, 0, &payload);
            }
            Part::Image(changes, cut) => {
                let image = image(changes);
                let cut = usize::from(*cut) % (image.len() + 1);
                let total = image.len() as u32;
                let (a, b) = image.split_at(cut);
                for (offset, piece) in [(0, a), (cut as u32, b)] {
                    if !piece.is_empty() {
                        let payload = [words([offset, total]).as_slice(), piece].concat();
                        self.section(own + 2, 1, 0, &payload);
                    }
                }
            }
        }
    }
}

/// The image of a function with a driver, with changes and the checksum of that.
fn image(changes: &[(u16, u8)]) -> Vec<u8> {
    static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
    let mut image = WHOLE
        .get_or_init(|| {
            let function = Function::new();
            function.start(FEATURES);
            function.net.suspend(FnState::Stopped);
            function.net.save()
        })
        .clone();
    let body = image.len() - 4;
    for (at, value) in changes {
        let at = usize::from(*at) % body;
        image[at] ^= value;
    }
    let crc = crc32c::crc32c(&image[..body]);
    image[body..].copy_from_slice(&crc.to_le_bytes());
    image
}

/// What a source sends as a device's state.
pub fn state(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let (Ok(piece), Ok(stream)) = (u16::arbitrary(&mut input), Stream::arbitrary(&mut input))
    else {
        return;
    };
    let bytes = match stream {
        Stream::Bytes(bytes) => bytes,
        Stream::Sections(without, parts) => {
            let mut framing = Framing::default();
            if without & 1 == 0 {
                framing.header();
            }
            if without & 4 == 0 {
                framing.part(&Part::Geometry(1));
            }
            for part in parts.iter().take(SECTIONS) {
                framing.part(part);
            }
            if without & 2 == 0 {
                framing.trailer();
            }
            framing.stream
        }
    };
    let function = Function::new();
    function.net.suspend(FnState::Stopped);
    let before = function.net.save();
    let pieces = bytes.chunks(usize::from(piece).max(1));
    let streams = dlr_mgmt::Streams::new(QueueSize::default().compat(), FLOW_TABLE);
    if streams.load(pieces, &*function.net).is_err() {
        assert_eq!(function.net.save(), before, "nothing may be installed");
    }
    // What was taken may be a guest that breaks rules, and has to do no harm.
    function.net.resume(FnState::Running);
    function.ring(1);
    function.ring(2);
    function.has_to_work();
}
