// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Framing of a state stream: writing sections, with their checksums and the running totals.

use dlr_abi::abi;
use zerocopy::IntoBytes;

use super::STATE_VERSION;

/// Bytes of a section's header.
pub(crate) const SECTION: usize = size_of::<abi::dlr_section>();
/// Bytes of the trailer section.
pub(crate) const TRAILER: usize = SECTION + size_of::<abi::dlr_stream_trailer>();
/// Bytes of the header section.
pub(crate) const HEADER: usize = SECTION + size_of::<abi::dlr_stream_header>();

/// Writes the sections of one stream.
#[derive(Clone, Debug)]
pub(crate) struct StreamWriter {
    compat: [u8; 16],
    sections: u32,
    bytes: u64,
    crc: u32,
}

impl StreamWriter {
    /// A stream of a function with this id.
    pub(crate) fn new(compat: [u8; 16]) -> Self {
        Self {
            compat,
            sections: 0,
            bytes: 0,
            crc: 0,
        }
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The header section.
    pub(crate) fn header(&mut self) -> Vec<u8> {
        let header = abi::dlr_stream_header {
            compat: self.compat,
            state_version: STATE_VERSION,
            contract: abi::DLR_CONTRACT_VERSION,
            reserved: 0,
        };
        self.section(abi::DLR_SECTION_HEADER as u16, &[header.as_bytes()])
    }

    /// One section; `parts` make up its payload of 1..=`DLR_SECTION_MAX` bytes.
    pub(crate) fn section(&mut self, kind: u16, parts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0; SECTION];
        for part in parts {
            bytes.extend_from_slice(part);
        }
        let payload = bytes.get(SECTION..).unwrap_or_default();
        let mut head = abi::dlr_section {
            magic: abi::DLR_SECTION_MAGIC,
            type_: kind,
            version: 1,
            flags: 0,
            seq: self.sections,
            length: payload.len() as u32,
            reserved: 0,
            payload_crc: crc32c::crc32c(payload),
            header_crc: 0,
        };
        head.header_crc = header_crc(&head);
        bytes.splice(..SECTION, head.as_bytes().iter().copied());
        self.sections += 1;
        self.bytes += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        bytes
    }

    /// The trailer section.
    pub(crate) fn trailer(&mut self) -> Vec<u8> {
        let trailer = abi::dlr_stream_trailer {
            sections: self.sections,
            stream_crc: self.crc,
            stream_bytes: self.bytes,
        };
        self.section(abi::DLR_SECTION_TRAILER as u16, &[trailer.as_bytes()])
    }
}

/// Checksum of a section header.
pub(crate) fn header_crc(head: &abi::dlr_section) -> u32 {
    let bytes = head.as_bytes();
    crc32c::crc32c(bytes.get(..SECTION - 4).unwrap_or_default())
}
