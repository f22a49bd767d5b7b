// SPDX-License-Identifier: GPL-2.0

//! Parser of the stream that a user writes to a load session: it checks section by section.
//!
//! The user may write anything (`Documentation/contract.rst`, R1). Every byte is copied into the
//! kernel first, and the device gets the copy that was checked. The parser keeps headers, and what
//! it reads itself; payloads go to the [`Room`] of the caller, whose size does not depend on the
//! length that a section declares (R6). All errors are final.
//!
//! The parser has no side effects: the room copies from user space and passes sections to the
//! device.

use crate::{
    ext::crc32c::{
        crc32c,
        Crc32c, //
    },
    proto::{
        dlr,
        section::{
            Header,
            HEADER_BYTES, //
        },
    },
};
use core::mem::size_of;
use kernel::prelude::*;

#[cfg(CONFIG_KUNIT = "y")]
mod kept;
mod room;
#[cfg(CONFIG_KUNIT = "y")]
mod tests_of_streams;

pub(crate) use room::Room;

/// Number of bytes of the section header that `header_crc` covers.
const HEADER_CRC_BYTES: usize = HEADER_BYTES - size_of::<u32>();
/// Length of the longest section that the parser reads itself: the first one or the trailer.
const OWN_BYTES: usize = HEADER_BYTES + size_of::<dlr::dlr_stream_header>();

static_assert!(size_of::<dlr::dlr_stream_trailer>() <= size_of::<dlr::dlr_stream_header>());

/// Properties that a stream must have to be loaded into this function, from
/// `struct dlr_identify_fn`.
#[derive(Clone, Copy)]
pub(crate) struct Accepts {
    /// Compatibility id: streams are exchangeable between functions with equal ids.
    pub(crate) compat: [u8; 16],
    /// Oldest version of the state that the function loads.
    pub(crate) version_min: u32,
    /// Newest version of the state that the function loads.
    pub(crate) version_max: u32,
    /// Length in bytes of the longest stream.
    pub(crate) max_bytes: u64,
}

/// Part of the stream that a call to [`Parser::take`] has completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Complete {
    /// A section. More sections must follow.
    Section,
    /// The trailer. The stream is complete.
    Trailer,
}

/// The position of the parser in the stream.
#[derive(Clone, Copy)]
enum Phase {
    /// The parser collects a section header.
    Header,
    /// The parser collects the payload of this section.
    Payload(Section),
    /// The trailer was completed.
    End,
    /// An error was reported, or [`Parser::fail`] was called.
    Failed,
}

/// The fields of a section header that the parser needs.
#[derive(Clone, Copy)]
struct Section {
    kind: u16,
    length: usize,
    payload_crc: u32,
}

impl Section {
    /// Returns whether the parser reads the payload itself. Its length is fixed then.
    fn is_own(&self) -> bool {
        matches!(
            u32::from(self.kind),
            dlr::DLR_SECTION_HEADER | dlr::DLR_SECTION_TRAILER
        )
    }
}

/// Incremental parser of a stream, which may be split anywhere.
pub(crate) struct Parser {
    accepts: Accepts,
    phase: Phase,
    /// Header of the current section, and payload if [`Section::is_own`].
    own: [u8; OWN_BYTES],
    /// Number of bytes of the current section, or of the one that was just completed, that have
    /// come.
    have: usize,
    /// Checksum of the payload of that section.
    payload: Crc32c,
    /// Number of the current section.
    seq: u32,
    /// Number of bytes, and checksum below, of the complete sections.
    bytes: u64,
    crc: Crc32c,
}

impl Parser {
    /// Creates a parser at the start of a stream.
    pub(crate) fn new(accepts: Accepts) -> Self {
        Self {
            accepts,
            phase: Phase::Header,
            own: [0; OWN_BYTES],
            have: 0,
            payload: Crc32c::new(),
            seq: 0,
            bytes: 0,
            crc: Crc32c::new(),
        }
    }

    /// Takes some of the `available` bytes of `room`. Returns their number, at least one, and what
    /// they have completed.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the stream is corrupt, out of order or continues behind its trailer.
    /// `EOPNOTSUPP` if it is of another model or version. `ENOMEM` if it is too long. `ENODEV`
    /// after an earlier error. Otherwise the error of `room`.
    pub(crate) fn take(
        &mut self,
        available: usize,
        room: &mut impl Room,
    ) -> Result<(usize, Option<Complete>)> {
        let result = self.try_take(available, room);
        if result.is_err() {
            self.fail();
        }
        result
    }

    /// Returns the number of bytes of the section that the last call of [`Self::take`] has
    /// completed.
    pub(crate) fn section_bytes(&self) -> usize {
        self.have
    }

    /// Returns whether the stream is complete, without an error.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self.phase, Phase::End)
    }

    /// Returns the number of bytes of all complete sections.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the parser refuse everything from now on.
    pub(crate) fn fail(&mut self) {
        self.phase = Phase::Failed;
    }

    /// Does the work of [`Self::take`], which makes an error final.
    fn try_take(
        &mut self,
        available: usize,
        room: &mut impl Room,
    ) -> Result<(usize, Option<Complete>)> {
        let goal = match self.phase {
            Phase::Failed => return Err(ENODEV),
            Phase::End => return Err(EINVAL),
            Phase::Header => HEADER_BYTES,
            Phase::Payload(section) => section.length + HEADER_BYTES,
        };
        if matches!(self.phase, Phase::Header) && self.have >= HEADER_BYTES {
            // The previous call completed this section.
            self.have = 0;
        }
        let have = self.have;
        let most = goal.saturating_sub(have).min(available);
        let n = match self.phase {
            Phase::Payload(section) if !section.is_own() => {
                room.fill(have, most, &mut self.payload)?.min(most)
            }
            _ => {
                room.read(self.own.get_mut(have..have + most).ok_or(EINVAL)?)?;
                most
            }
        };
        self.have = have + n;
        if self.have < goal {
            return Ok((n, None));
        }
        let complete = match self.phase {
            Phase::Payload(section) => Some(self.end_of_payload(section, room)?),
            _ => {
                let section = self.end_of_header()?;
                room.begin(section.length + HEADER_BYTES)?;
                room.put(0, self.header())?;
                self.payload = Crc32c::new();
                self.phase = Phase::Payload(section);
                None
            }
        };
        Ok((n, complete))
    }

    /// Returns the header of the current section.
    fn header(&self) -> &[u8] {
        self.own.get(..HEADER_BYTES).unwrap_or_default()
    }

    /// Checks a complete section header.
    fn end_of_header(&self) -> Result<Section> {
        // The magic comes first in the order of checks: most foreign data fails there.
        let header = Header::decode(&read(&self.own)?).ok_or(EINVAL)?;
        let covered = self.own.get(..HEADER_CRC_BYTES).ok_or(EINVAL)?;
        if header.header_crc != crc32c(covered) || header.seq != self.seq || header.reserved != 0 {
            return Err(EINVAL);
        }
        let kind = header.kind;
        // The first section must be the header section, and no other section may be.
        if (self.seq == 0) != (u32::from(kind) == dlr::DLR_SECTION_HEADER) {
            return Err(EINVAL);
        }
        // An optional section of an unknown type is passed to the device like all others: the
        // device counts it, too, and skips it.
        let optional = header.flags == dlr::DLR_SECTION_F_OPTIONAL;
        if !optional && (header.flags != 0 || !known(kind, header.version)) {
            return Err(EOPNOTSUPP);
        }
        let length = header.length;
        let fixed = match u32::from(kind) {
            dlr::DLR_SECTION_HEADER => Some(size_of::<dlr::dlr_stream_header>() as u32),
            dlr::DLR_SECTION_TRAILER => Some(size_of::<dlr::dlr_stream_trailer>() as u32),
            _ => None,
        };
        if length == 0 || fixed.is_some_and(|f| f != length) {
            return Err(EINVAL);
        }
        if length > dlr::DLR_SECTION_MAX {
            return Err(ENOMEM);
        }
        let end = self.bytes.checked_add(HEADER_BYTES as u64).ok_or(EINVAL)?;
        if end.checked_add(u64::from(length)).ok_or(EINVAL)? > self.accepts.max_bytes {
            return Err(ENOMEM);
        }
        Ok(Section {
            kind,
            length: length as usize,
            payload_crc: header.payload_crc,
        })
    }

    /// Checks a complete section.
    fn end_of_payload(&mut self, section: Section, room: &mut impl Room) -> Result<Complete> {
        let own = if section.is_own() {
            self.own.get(HEADER_BYTES..self.have).ok_or(EINVAL)?
        } else {
            &[]
        };
        self.payload.update(own);
        let payload_crc = self.payload.value();
        if payload_crc != section.payload_crc {
            return Err(EINVAL);
        }
        let complete = match u32::from(section.kind) {
            dlr::DLR_SECTION_HEADER => {
                self.check_header(&read(own)?)?;
                Complete::Section
            }
            dlr::DLR_SECTION_TRAILER => {
                self.check_trailer(&read(own)?)?;
                Complete::Trailer
            }
            _ => Complete::Section,
        };
        if section.is_own() {
            room.put(HEADER_BYTES, own)?;
        }
        self.crc.update(self.own.get(..HEADER_BYTES).ok_or(EINVAL)?);
        // The payload was read for its own checksum. It is long, so it is not read once more.
        self.crc.append(payload_crc, u32::try_from(section.length)?);
        self.bytes = self.bytes.checked_add(self.have as u64).ok_or(EINVAL)?;
        self.seq = self.seq.checked_add(1).ok_or(EINVAL)?;
        self.phase = match complete {
            Complete::Trailer => Phase::End,
            Complete::Section => Phase::Header,
        };
        Ok(complete)
    }

    /// Checks that the function can load the stream.
    fn check_header(&self, header: &dlr::dlr_stream_header) -> Result {
        let version = u32::from_le(header.state_version);
        let versions = self.accepts.version_min..=self.accepts.version_max;
        let major = |v: u32| v >> 16;
        if header.compat != self.accepts.compat
            || !versions.contains(&version)
            || major(u32::from_le(header.contract)) != major(dlr::DLR_CONTRACT_VERSION)
        {
            return Err(EOPNOTSUPP);
        }
        Ok(())
    }

    /// Checks the sums over the whole stream.
    fn check_trailer(&self, trailer: &dlr::dlr_stream_trailer) -> Result {
        if u32::from_le(trailer.sections) != self.seq
            || u32::from_le(trailer.stream_crc) != self.crc.value()
            || u64::from_le(trailer.stream_bytes) != self.bytes
        {
            return Err(EINVAL);
        }
        Ok(())
    }
}

/// Returns whether the driver or the device should know the section. Only the device knows the
/// meaning of its own types and their versions.
fn known(kind: u16, version: u16) -> bool {
    match u32::from(kind) {
        dlr::DLR_SECTION_HEADER | dlr::DLR_SECTION_TRAILER => version == 1,
        dlr::DLR_SECTION_DEVICE_FIRST..=dlr::DLR_SECTION_DEVICE_LAST => version != 0,
        _ => false,
    }
}

/// Reads the struct at the start of `bytes`.
fn read<T: FromBytes>(bytes: &[u8]) -> Result<T> {
    T::read_from_prefix(bytes)
        .map(|(value, _)| value)
        .map_err(|_| EINVAL)
}
