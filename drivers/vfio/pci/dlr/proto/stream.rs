// SPDX-License-Identifier: GPL-2.0

//! Framing of a device state stream: a sequence of sections with checksums.
//!
//! [`SectionHeader`], [`StreamHeader`] and [`Trailer`] are single parts; [`Checker`] follows a whole
//! stream in pieces of any size.

use crate::{
    bindings::dlr,
    kext::crc32c::crc32c, //
};
use core::mem::offset_of;
use kernel::prelude::*;

mod checker;
pub(crate) use checker::{
    Checker,
    Limits, //
};

/// Bytes of a section's header.
pub(crate) const SECTION_SIZE: usize = size_of::<dlr::dlr_section>();
/// Payload bytes of the header section.
pub(crate) const HEADER_SIZE: usize = size_of::<dlr::dlr_stream_header>();
/// Payload bytes of the trailer section.
pub(crate) const TRAILER_SIZE: usize = size_of::<dlr::dlr_stream_trailer>();
/// Layout of the payloads of the header and the trailer section that this driver knows.
const PAYLOAD_VERSION: u16 = 1;

static_assert!(SECTION_SIZE == 32);
static_assert!(HEADER_SIZE == 32);
static_assert!(TRAILER_SIZE == 16);
static_assert!(offset_of!(dlr::dlr_section, header_crc) == 28);

/// Why a stream is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Wrong magic, order, bound or checksum.
    Corrupt,
    /// From another model or version.
    Incompatible,
    /// Longer than the function can take.
    TooBig,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Corrupt => EINVAL,
            Fault::Incompatible => EOPNOTSUPP,
            Fault::TooBig => ENOMEM,
        }
    }
}

/// Kinds of sections that the driver tells apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// First section of a stream.
    Header,
    /// Last section of a stream.
    Trailer,
    /// The device's own.
    State,
}

/// A section's header, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SectionHeader {
    /// What the payload is.
    pub(crate) kind: Kind,
    /// Number of the section in the stream.
    pub(crate) seq: u32,
    /// Payload bytes, 1 to 65536.
    pub(crate) length: u32,
    /// Checksum of the payload.
    pub(crate) payload_crc: u32,
}

impl SectionHeader {
    /// Checks everything that can be checked without knowing the rest of the stream.
    pub(crate) fn parse(bytes: &[u8; SECTION_SIZE]) -> Result<Self, Fault> {
        let raw: dlr::dlr_section = zerocopy::transmute!(*bytes);
        let summed = bytes
            .get(..offset_of!(dlr::dlr_section, header_crc))
            .map(crc32c);
        if raw.magic != dlr::DLR_SECTION_MAGIC || summed != Some(raw.header_crc) {
            return Err(Fault::Corrupt);
        }
        if raw.reserved != 0
            || raw.flags & !dlr::DLR_SECTION_F_OPTIONAL != 0
            || raw.version == 0
            || !(1..=dlr::DLR_SECTION_MAX).contains(&raw.length)
        {
            return Err(Fault::Corrupt);
        }
        let fixed = |kind, size: usize| {
            if raw.version != PAYLOAD_VERSION {
                Err(Fault::Incompatible)
            } else if raw.length as usize != size || raw.flags != 0 {
                Err(Fault::Corrupt)
            } else {
                Ok(kind)
            }
        };
        let kind = match u32::from(raw.type_) {
            dlr::DLR_SECTION_HEADER => fixed(Kind::Header, HEADER_SIZE)?,
            dlr::DLR_SECTION_TRAILER => fixed(Kind::Trailer, TRAILER_SIZE)?,
            dlr::DLR_SECTION_DEVICE_FIRST..=dlr::DLR_SECTION_DEVICE_LAST => Kind::State,
            // Of the contract, but of a later minor.
            _ if raw.flags & dlr::DLR_SECTION_F_OPTIONAL != 0 => Kind::State,
            _ => return Err(Fault::Incompatible),
        };
        Ok(Self {
            kind,
            seq: raw.seq,
            length: raw.length,
            payload_crc: raw.payload_crc,
        })
    }
}

/// Payload of the header section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StreamHeader {
    /// Compatibility id of the source.
    pub(crate) compat: [u8; 16],
    /// Version of the state that the source wrote.
    pub(crate) state_version: u32,
    /// Contract version of the source.
    pub(crate) contract: u32,
}

impl StreamHeader {
    /// Decodes a payload whose checksum was right.
    pub(crate) fn decode(bytes: [u8; HEADER_SIZE]) -> Self {
        let raw: dlr::dlr_stream_header = zerocopy::transmute!(bytes);
        Self {
            compat: raw.compat,
            state_version: raw.state_version,
            contract: raw.contract,
        }
    }

    /// Whether a function with these limits can take the stream.
    pub(crate) fn check(&self, limits: &Limits) -> Result<(), Fault> {
        let versions = limits.state_version_min..=limits.state_version;
        if self.compat != limits.compat
            || !versions.contains(&self.state_version)
            || !super::regs::is_known_version(self.contract)
        {
            return Err(Fault::Incompatible);
        }
        Ok(())
    }
}

/// Payload of the trailer section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Trailer {
    /// Sections before the trailer.
    pub(crate) sections: u32,
    /// Checksum of all bytes before the trailer section.
    pub(crate) stream_crc: u32,
    /// Number of those bytes.
    pub(crate) stream_bytes: u64,
}

impl Trailer {
    /// Decodes a payload whose checksum was right.
    pub(crate) fn decode(bytes: [u8; TRAILER_SIZE]) -> Self {
        let raw: dlr::dlr_stream_trailer = zerocopy::transmute!(bytes);
        Self {
            sections: raw.sections,
            stream_crc: raw.stream_crc,
            stream_bytes: raw.stream_bytes,
        }
    }
}

/// Makes streams for tests.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod build {
    use super::*;

    /// Appends a section with right checksums.
    pub(crate) fn section(
        out: &mut KVec<u8>,
        kind: u32,
        seq: u32,
        flags: u32,
        payload: &[u8],
    ) -> Result {
        let mut raw = dlr::dlr_section {
            magic: dlr::DLR_SECTION_MAGIC,
            type_: kind as u16,
            version: 1,
            flags,
            seq,
            length: payload.len() as u32,
            reserved: 0,
            payload_crc: crc32c(payload),
            header_crc: 0,
        };
        let bytes: [u8; SECTION_SIZE] = zerocopy::transmute!(raw);
        raw.header_crc = bytes
            .get(..offset_of!(dlr::dlr_section, header_crc))
            .map_or(0, crc32c);
        let bytes: [u8; SECTION_SIZE] = zerocopy::transmute!(raw);
        out.extend_from_slice(&bytes, GFP_KERNEL)?;
        out.extend_from_slice(payload, GFP_KERNEL)?;
        Ok(())
    }

    /// A whole stream of a source with `compat` and `version`, with `states` state sections.
    pub(crate) fn stream(compat: [u8; 16], version: u32, states: u32) -> Result<KVec<u8>> {
        let mut out = KVec::new();
        let header: [u8; HEADER_SIZE] = zerocopy::transmute!(dlr::dlr_stream_header {
            compat,
            state_version: version,
            contract: dlr::DLR_CONTRACT_VERSION,
            reserved: 0,
        });
        section(&mut out, dlr::DLR_SECTION_HEADER, 0, 0, &header)?;
        for seq in 1..=states {
            let fill = [seq as u8; 77];
            section(&mut out, dlr::DLR_SECTION_DEVICE_FIRST, seq, 0, &fill)?;
        }
        let trailer: [u8; TRAILER_SIZE] = zerocopy::transmute!(dlr::dlr_stream_trailer {
            sections: states + 1,
            stream_crc: crc32c(&out),
            stream_bytes: out.len() as u64,
        });
        section(&mut out, dlr::DLR_SECTION_TRAILER, states + 1, 0, &trailer)?;
        Ok(out)
    }
}

#[kunit_tests(dlr_proto_stream)]
mod tests {
    use super::*;

    #[test]
    fn section_header() -> Result {
        let mut bytes = KVec::new();
        build::section(&mut bytes, 0x0100, 5, 0, &[1, 2, 3])?;
        let head: [u8; SECTION_SIZE] = bytes[..SECTION_SIZE].try_into().map_err(|_| EINVAL)?;
        let got = SectionHeader::parse(&head)?;
        assert_eq!(got.kind, Kind::State);
        assert_eq!((got.seq, got.length), (5, 3));
        // Every single bit is under the checksum.
        for bit in 0..8 * SECTION_SIZE {
            let mut bad = head;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SectionHeader::parse(&bad), Err(Fault::Corrupt));
        }
        Ok(())
    }

    #[test]
    fn unknown_kinds() -> Result {
        for (kind, flags, want) in [
            (0x0003, 0, Err(Fault::Incompatible)),
            (0x0003, dlr::DLR_SECTION_F_OPTIONAL, Ok(Kind::State)),
            (0x8000, 0, Err(Fault::Incompatible)),
            (0x7fff, 0, Ok(Kind::State)),
            // A header or trailer of a wrong size.
            (0x0001, 0, Err(Fault::Corrupt)),
            (0x0002, 0, Err(Fault::Corrupt)),
            (0x0100, 2, Err(Fault::Corrupt)),
        ] {
            let mut bytes = KVec::new();
            build::section(&mut bytes, kind, 0, flags, &[0; 5])?;
            let head = bytes[..SECTION_SIZE].try_into().map_err(|_| EINVAL)?;
            assert_eq!(SectionHeader::parse(&head).map(|h| h.kind), want);
        }
        Ok(())
    }

    #[test]
    fn compatibility() {
        let limits = Limits {
            compat: [7; 16],
            state_version_min: 2,
            state_version: 4,
            max_bytes: u64::MAX,
        };
        let header = StreamHeader {
            compat: [7; 16],
            state_version: 3,
            contract: dlr::DLR_CONTRACT_VERSION,
        };
        assert!(header.check(&limits).is_ok());
        for bad in [
            StreamHeader {
                compat: [8; 16],
                ..header
            },
            StreamHeader {
                state_version: 1,
                ..header
            },
            StreamHeader {
                state_version: 5,
                ..header
            },
            StreamHeader {
                contract: 0x0002_0000,
                ..header
            },
        ] {
            assert_eq!(bad.check(&limits), Err(Fault::Incompatible));
        }
    }
}
