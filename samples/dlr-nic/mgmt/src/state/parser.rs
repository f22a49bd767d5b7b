// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Takes a stream apart, in whatever pieces it comes, and checks all that the framing can tell.

use dlr_abi::abi;
use zerocopy::FromBytes;

use super::{
    section::{header_crc, SECTION},
    MAX_STATE_BYTES, STATE_VERSION, STATE_VERSION_MIN,
};
use crate::status::Status;

/// A verified section for the session to look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'a> {
    /// Type, one of the device's own.
    pub(crate) kind: u16,
    /// Version of the payload.
    pub(crate) version: u16,
    /// The loader may skip it.
    pub(crate) optional: bool,
    /// 1..=`DLR_SECTION_MAX` bytes.
    pub(crate) payload: &'a [u8],
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Parser {
    compat: [u8; 16],
    partial: Vec<u8>,
    sections: u32,
    bytes: u64,
    crc: u32,
    complete: bool,
}

impl Parser {
    /// For streams of functions with this id.
    pub(crate) fn new(compat: [u8; 16]) -> Self {
        Self {
            compat,
            partial: Vec::new(),
            sections: 0,
            bytes: 0,
            crc: 0,
            complete: false,
        }
    }

    /// The trailer has been seen and agrees with what came before.
    pub(crate) fn complete(&self) -> bool {
        self.complete
    }

    /// Takes the next bytes; calls `accept` for each of the device's own sections.
    ///
    /// # Errors
    ///
    /// What is wrong with the stream; it cannot be continued.
    pub(crate) fn push(
        &mut self,
        mut data: &[u8],
        accept: &mut dyn FnMut(Section<'_>) -> Result<(), Status>,
    ) -> Result<(), Status> {
        while !data.is_empty() {
            if self.complete {
                return Err(Status::Corrupt);
            }
            let want = self.wanted()?;
            let take = (want - self.partial.len()).min(data.len());
            let (now, later) = data.split_at(take);
            self.partial.extend_from_slice(now);
            data = later;
            // A complete header may only now tell that a payload belongs to it.
            if self.partial.len() == self.wanted()? {
                let whole = std::mem::take(&mut self.partial);
                self.section(&whole, accept)?;
                self.partial = whole;
                self.partial.clear();
            }
        }
        Ok(())
    }

    /// Bytes that `partial` has to have for the next step.
    fn wanted(&self) -> Result<usize, Status> {
        if self.partial.len() < SECTION {
            return Ok(SECTION);
        }
        let (head, _) =
            abi::dlr_section::read_from_prefix(&self.partial).map_err(|_| Status::Internal)?;
        if head.magic != abi::DLR_SECTION_MAGIC
            || head.header_crc != header_crc(&head)
            || head.seq != self.sections
            || head.reserved != 0
            || head.version == 0
            || !(1..=abi::DLR_SECTION_MAX).contains(&head.length)
        {
            return Err(Status::Corrupt);
        }
        let whole = SECTION + head.length as usize;
        if self.bytes + whole as u64 > MAX_STATE_BYTES {
            return Err(Status::TooBig);
        }
        Ok(whole)
    }

    fn section(
        &mut self,
        whole: &[u8],
        accept: &mut dyn FnMut(Section<'_>) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let (head, payload) =
            abi::dlr_section::read_from_prefix(whole).map_err(|_| Status::Internal)?;
        if crc32c::crc32c(payload) != head.payload_crc {
            return Err(Status::Corrupt);
        }
        // Before the section is skipped or read: what a flag of a later contract means for it is
        // not known.
        if head.flags & !abi::DLR_SECTION_F_OPTIONAL != 0 {
            return Err(Status::Incompatible);
        }
        let kind = u32::from(head.type_);
        let optional = head.flags != 0;
        match (self.sections, kind) {
            (0, abi::DLR_SECTION_HEADER) => header(self.compat, head.version, payload)?,
            (0, _) | (_, abi::DLR_SECTION_HEADER) => return Err(Status::Corrupt),
            (_, abi::DLR_SECTION_TRAILER) => self.trailer(head.version, payload)?,
            (_, abi::DLR_SECTION_DEVICE_FIRST..=abi::DLR_SECTION_DEVICE_LAST) => {
                accept(Section {
                    kind: head.type_,
                    version: head.version,
                    optional,
                    payload,
                })?;
            }
            _ if optional => {}
            _ => return Err(Status::Incompatible),
        }
        self.sections += 1;
        self.bytes += whole.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, whole);
        Ok(())
    }

    fn trailer(&mut self, version: u16, payload: &[u8]) -> Result<(), Status> {
        if version != 1 {
            return Err(Status::Incompatible);
        }
        let trailer =
            abi::dlr_stream_trailer::read_from_bytes(payload).map_err(|_| Status::Corrupt)?;
        if trailer.sections != self.sections
            || trailer.stream_bytes != self.bytes
            || trailer.stream_crc != self.crc
        {
            return Err(Status::Corrupt);
        }
        self.complete = true;
        Ok(())
    }
}

fn header(compat: [u8; 16], version: u16, payload: &[u8]) -> Result<(), Status> {
    if version != 1 {
        return Err(Status::Incompatible);
    }
    let header = abi::dlr_stream_header::read_from_bytes(payload).map_err(|_| Status::Corrupt)?;
    if header.compat != compat
        || !(STATE_VERSION_MIN..=STATE_VERSION).contains(&header.state_version)
        || header.contract >> 16 != abi::DLR_CONTRACT_VERSION >> 16
    {
        return Err(Status::Incompatible);
    }
    if header.reserved != 0 {
        return Err(Status::Corrupt);
    }
    Ok(())
}
