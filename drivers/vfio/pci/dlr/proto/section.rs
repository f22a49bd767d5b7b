// SPDX-License-Identifier: GPL-2.0

//! The header of a section of a device state stream (`struct dlr_section`). Only this file decodes
//! it. The callers check the values of the fields.

use super::dlr;
use kernel::prelude::*;

/// Length of a header in bytes.
pub(crate) const HEADER_BYTES: usize = size_of::<dlr::dlr_section>();

static_assert!(HEADER_BYTES == 32);

/// A header in the byte order of the CPU. Only its magic was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// Type of the section.
    pub(crate) kind: u16,
    /// Version of the layout of the payload.
    pub(crate) version: u16,
    /// `DLR_SECTION_F_*`.
    pub(crate) flags: u32,
    /// Number of the section.
    pub(crate) seq: u32,
    /// Number of bytes of the payload.
    pub(crate) length: u32,
    /// Reserved by the contract.
    pub(crate) reserved: u32,
    /// Checksum of the payload.
    pub(crate) payload_crc: u32,
    /// Checksum of the bytes of the header before this field.
    pub(crate) header_crc: u32,
}

impl Header {
    /// Decodes a header. Returns `None` if it does not begin with the magic, as most foreign data
    /// does not.
    pub(crate) fn decode(raw: &dlr::dlr_section) -> Option<Self> {
        if u32::from_le(raw.magic) != dlr::DLR_SECTION_MAGIC {
            return None;
        }
        Some(Self {
            kind: u16::from_le(raw.type_),
            version: u16::from_le(raw.version),
            flags: u32::from_le(raw.flags),
            seq: u32::from_le(raw.seq),
            length: u32::from_le(raw.length),
            reserved: u32::from_le(raw.reserved),
            payload_crc: u32::from_le(raw.payload_crc),
            header_crc: u32::from_le(raw.header_crc),
        })
    }
}

#[kunit_tests(dlr_proto_section)]
mod tests {
    use super::*;

    /// The bytes are those of the contract, not what the struct of the driver makes of them.
    #[test]
    fn each_field_has_its_place() {
        let mut bytes: [u8; HEADER_BYTES] = core::array::from_fn(|at| at as u8);
        bytes[..4].copy_from_slice(b"DLRS");
        let want = Header {
            kind: 0x0504,
            version: 0x0706,
            flags: 0x0b0a_0908,
            seq: 0x0f0e_0d0c,
            length: 0x1312_1110,
            reserved: 0x1716_1514,
            payload_crc: 0x1b1a_1918,
            header_crc: 0x1f1e_1d1c,
        };
        assert_eq!(Header::decode(&zerocopy::transmute!(bytes)), Some(want));
    }

    #[test]
    fn each_bit_of_the_magic_counts() {
        for bit in 0..u32::BITS {
            let mut raw: dlr::dlr_section = zerocopy::FromZeros::new_zeroed();
            raw.magic = (dlr::DLR_SECTION_MAGIC ^ (1 << bit)).to_le();
            assert_eq!(Header::decode(&raw), None);
        }
    }
}
