// SPDX-License-Identifier: GPL-2.0

//! Follows a stream that arrives in pieces of any size, and says what may go on to the device.

use super::{
    Fault,
    Kind,
    SectionHeader,
    StreamHeader,
    Trailer,
    HEADER_SIZE,
    SECTION_SIZE,
    TRAILER_SIZE, //
};
use crate::{
    kext::crc32c::Crc32c,
    proto::FnInfo, //
};
use kernel::prelude::*;

/// What a function can take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    /// Its compatibility id.
    pub(crate) compat: [u8; 16],
    /// Oldest state version.
    pub(crate) state_version_min: u32,
    /// Newest state version.
    pub(crate) state_version: u32,
    /// Longest stream, in bytes.
    pub(crate) max_bytes: u64,
}

impl From<&FnInfo> for Limits {
    fn from(info: &FnInfo) -> Self {
        Self {
            compat: info.compat,
            state_version_min: info.state_version_min,
            state_version: info.state_version,
            max_bytes: info.max_state_bytes,
        }
    }
}

/// The longest part that is kept back until it is whole: the trailer section.
const HOLD: usize = SECTION_SIZE
    + if HEADER_SIZE > TRAILER_SIZE {
        HEADER_SIZE
    } else {
        TRAILER_SIZE
    };

/// State of a stream that has been right so far.
///
/// A section's header, and all of the header and trailer sections, are kept back until they are whole and
/// checked; payload of state sections passes as it comes. Any error is final.
pub(crate) struct Checker {
    limits: Limits,
    /// Bytes kept back.
    hold: [u8; HOLD],
    held: usize,
    /// The section whose payload comes, when its header is whole.
    section: Option<SectionHeader>,
    /// Payload bytes of it that are still to come.
    left: usize,
    payload_crc: Crc32c,
    stream_crc: Crc32c,
    stream_bytes: u64,
    /// Sections begun.
    sections: u32,
    complete: bool,
    failed: Option<Fault>,
}

impl Checker {
    /// Nothing has come yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            hold: [0; HOLD],
            held: 0,
            section: None,
            left: 0,
            payload_crc: Crc32c::new(),
            stream_crc: Crc32c::new(),
            stream_bytes: 0,
            sections: 0,
            complete: false,
            failed: None,
        }
    }

    /// Whether the trailer came and was right.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Bytes that have passed, those kept back not counted.
    pub(crate) fn passed(&self) -> u64 {
        self.stream_bytes
    }

    /// Takes the next bytes and gives `sink` those that may go to the device, in order.
    ///
    /// # Errors
    ///
    /// `EINVAL`, `EOPNOTSUPP` or `ENOMEM` as [`Fault`] says, and what `sink` returned. All are final: every
    /// later call fails as well.
    pub(crate) fn push(&mut self, data: &[u8], mut sink: impl FnMut(&[u8]) -> Result) -> Result {
        if let Some(fault) = self.failed {
            return Err(fault.into());
        }
        // Holds unless this call gets to its end.
        self.failed = Some(Fault::Corrupt);
        let mut rest = data;
        while !rest.is_empty() {
            let taken = match self.step(rest, &mut sink) {
                Ok(taken) => taken,
                Err(Step::Fault(fault)) => {
                    self.failed = Some(fault);
                    return Err(fault.into());
                }
                Err(Step::Sink(error)) => return Err(error),
            };
            rest = rest.get(taken..).unwrap_or(&[]);
        }
        self.failed = None;
        Ok(())
    }

    /// Consumes at least one byte of `data`, which is not empty.
    fn step(&mut self, data: &[u8], sink: &mut impl FnMut(&[u8]) -> Result) -> Result<usize, Step> {
        if self.complete {
            return Err(Fault::Corrupt.into());
        }
        match self.section {
            Some(section) if section.kind == Kind::State => {
                let part = data.get(..self.left).unwrap_or(data);
                self.payload_crc.update(part);
                self.left = self.left.saturating_sub(part.len());
                if self.left == 0 {
                    self.end_of_payload(&section)?;
                }
                self.pass(part, sink)?;
                Ok(part.len())
            }
            Some(section) => {
                let taken = self.keep_back(data, SECTION_SIZE + section.length as usize)?;
                self.left = self.left.saturating_sub(taken);
                if self.left == 0 {
                    self.end_of_fixed(&section, sink)?;
                }
                Ok(taken)
            }
            None => {
                let taken = self.keep_back(data, SECTION_SIZE)?;
                if self.held == SECTION_SIZE {
                    self.begin_section(sink)?;
                }
                Ok(taken)
            }
        }
    }

    /// Appends to the bytes kept back, up to `target` of them.
    fn keep_back(&mut self, data: &[u8], target: usize) -> Result<usize, Fault> {
        let taken = target.saturating_sub(self.held).min(data.len());
        let end = self.held.saturating_add(taken);
        let (Some(to), Some(from)) = (self.hold.get_mut(self.held..end), data.get(..taken)) else {
            return Err(Fault::Corrupt);
        };
        to.copy_from_slice(from);
        self.held = end;
        Ok(taken)
    }

    fn begin_section(&mut self, sink: &mut impl FnMut(&[u8]) -> Result) -> Result<(), Step> {
        let bytes = self.hold.first_chunk().ok_or(Fault::Corrupt)?;
        let section = SectionHeader::parse(bytes)?;
        let first = self.sections == 0;
        if section.seq != self.sections || first != (section.kind == Kind::Header) {
            return Err(Fault::Corrupt.into());
        }
        // The whole section must fit, so that a long one is refused before it is taken.
        let whole = SECTION_SIZE as u64 + u64::from(section.length);
        if self
            .stream_bytes
            .checked_add(whole)
            .is_none_or(|end| end > self.limits.max_bytes)
        {
            return Err(Fault::TooBig.into());
        }
        self.sections = self.sections.checked_add(1).ok_or(Fault::Corrupt)?;
        self.section = Some(section);
        self.left = section.length as usize;
        self.payload_crc = Crc32c::new();
        if section.kind == Kind::State {
            self.release(sink)?;
        }
        Ok(())
    }

    fn end_of_payload(&mut self, section: &SectionHeader) -> Result<(), Fault> {
        if self.payload_crc.value() != section.payload_crc {
            return Err(Fault::Corrupt);
        }
        self.section = None;
        Ok(())
    }

    /// The header or the trailer section is whole.
    fn end_of_fixed(
        &mut self,
        section: &SectionHeader,
        sink: &mut impl FnMut(&[u8]) -> Result,
    ) -> Result<(), Step> {
        let payload = self
            .hold
            .get(SECTION_SIZE..self.held)
            .ok_or(Fault::Corrupt)?;
        self.payload_crc.update(payload);
        if section.kind == Kind::Header {
            let header = payload.try_into().map_err(|_| Fault::Corrupt)?;
            self.end_of_payload(section)?;
            StreamHeader::decode(header).check(&self.limits)?;
        } else {
            let trailer = payload.try_into().map_err(|_| Fault::Corrupt)?;
            self.end_of_payload(section)?;
            let want = Trailer {
                // The trailer itself has been counted already.
                sections: self.sections.saturating_sub(1),
                stream_crc: self.stream_crc.value(),
                stream_bytes: self.stream_bytes,
            };
            if Trailer::decode(trailer) != want {
                return Err(Fault::Corrupt.into());
            }
            self.complete = true;
        }
        self.release(sink)
    }

    /// Lets the bytes kept back go.
    fn release(&mut self, sink: &mut impl FnMut(&[u8]) -> Result) -> Result<(), Step> {
        let hold = self.hold;
        let held = core::mem::take(&mut self.held);
        self.pass(hold.get(..held).ok_or(Fault::Corrupt)?, sink)
    }

    fn pass(&mut self, part: &[u8], sink: &mut impl FnMut(&[u8]) -> Result) -> Result<(), Step> {
        self.stream_crc.update(part);
        self.stream_bytes = self.stream_bytes.saturating_add(part.len() as u64);
        sink(part).map_err(Step::Sink)
    }
}

/// Where an error comes from.
enum Step {
    Fault(Fault),
    Sink(Error),
}

impl From<Fault> for Step {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

#[kunit_tests(dlr_proto_stream_checker)]
mod tests {
    use super::{
        super::build,
        *, //
    };
    use crate::bindings::dlr;

    const LIMITS: Limits = Limits {
        compat: [7; 16],
        state_version_min: 1,
        state_version: 3,
        max_bytes: 1 << 20,
    };

    fn feed(stream: &[u8], piece: usize, limits: Limits) -> Result<(KVec<u8>, bool)> {
        let mut checker = Checker::new(limits);
        let mut out = KVec::new();
        for part in stream.chunks(piece) {
            checker.push(part, |bytes| Ok(out.extend_from_slice(bytes, GFP_KERNEL)?))?;
        }
        Ok((out, checker.is_complete()))
    }

    #[test]
    fn any_split_passes_unchanged() -> Result {
        let stream = build::stream([7; 16], 2, 3)?;
        for piece in 1..stream.len() + 1 {
            let (out, complete) = feed(&stream, piece, LIMITS)?;
            assert!(complete);
            assert!(out[..] == stream[..]);
        }
        Ok(())
    }

    #[test]
    fn every_flipped_bit_is_refused() -> Result {
        let mut stream = build::stream([7; 16], 2, 2)?;
        for bit in 0..8 * stream.len() {
            stream[bit / 8] ^= 1 << (bit % 8);
            assert!(feed(&stream, 4096, LIMITS).is_err());
            stream[bit / 8] ^= 1 << (bit % 8);
        }
        Ok(())
    }

    #[test]
    fn truncation_is_not_complete_and_keeps_the_trailer_back() -> Result {
        let stream = build::stream([7; 16], 2, 2)?;
        let body = stream.len() - SECTION_SIZE - TRAILER_SIZE;
        for end in 0..stream.len() {
            let (out, complete) = feed(&stream[..end], 4096, LIMITS)?;
            assert!(!complete);
            assert!(out.len() <= body);
        }
        Ok(())
    }

    #[test]
    fn order_is_checked() -> Result {
        let whole = build::stream([7; 16], 2, 1)?;
        let header = SECTION_SIZE + HEADER_SIZE;
        // No header section.
        assert_eq!(feed(&whole[header..], 4096, LIMITS).err(), Some(EINVAL));
        // Two header sections.
        let mut twice = KVec::new();
        twice.extend_from_slice(&whole[..header], GFP_KERNEL)?;
        twice.extend_from_slice(&whole[..], GFP_KERNEL)?;
        assert_eq!(feed(&twice, 4096, LIMITS).err(), Some(EINVAL));
        // A number left out.
        let mut gap = KVec::new();
        gap.extend_from_slice(&whole[..header], GFP_KERNEL)?;
        build::section(&mut gap, dlr::DLR_SECTION_DEVICE_FIRST, 2, 0, &[0; 4])?;
        assert_eq!(feed(&gap, 4096, LIMITS).err(), Some(EINVAL));
        // Bytes behind the trailer.
        let mut more = whole;
        more.push(0, GFP_KERNEL)?;
        assert_eq!(feed(&more, 4096, LIMITS).err(), Some(EINVAL));
        Ok(())
    }

    #[test]
    fn limits_are_kept() -> Result {
        let stream = build::stream([7; 16], 2, 4)?;
        let small = Limits {
            max_bytes: stream.len() as u64 - 1,
            ..LIMITS
        };
        assert_eq!(feed(&stream, 4096, small).err(), Some(ENOMEM));
        let exact = Limits {
            max_bytes: stream.len() as u64,
            ..LIMITS
        };
        assert!(feed(&stream, 4096, exact).is_ok());
        for (compat, version) in [([8; 16], 2), ([7; 16], 0), ([7; 16], 4)] {
            let other = build::stream(compat, version, 1)?;
            assert_eq!(feed(&other, 7, LIMITS).err(), Some(EOPNOTSUPP));
        }
        Ok(())
    }

    #[test]
    fn errors_are_final() -> Result {
        let stream = build::stream([7; 16], 2, 1)?;
        let mut checker = Checker::new(LIMITS);
        assert_eq!(checker.push(&stream, |_| Err(EBUSY)), Err(EBUSY));
        assert!(checker.push(&stream, |_| Ok(())).is_err());
        assert!(checker.push(&[1], |_| Ok(())).is_err());
        Ok(())
    }
}
