// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A load session: verifies and stages a stream, installs it as a whole at the commit.

use std::{collections::BTreeMap, sync::Arc};

use dlr_abi::abi;
use dlr_core::DataFunction;
use zerocopy::FromBytes;

use super::{
    flow::{FlowTable, BLOCK},
    parser::{Parser, Section},
    FlowHead, Geometry, PersonalityHead, SECTION_FLOW, SECTION_GEOMETRY, SECTION_PERSONALITY,
};
use crate::status::Status;

/// Most bytes of a personality's image.
const MAX_PERSONALITY: u32 = 1 << 20;

/// What has been verified so far. Grows with the data, never from a length in the stream.
#[derive(Debug)]
struct Staged {
    flow: Arc<FlowTable>,
    blocks: BTreeMap<u32, Box<[u8; BLOCK]>>,
    source_blocks: Option<u32>,
    personality: Vec<u8>,
    personality_total: Option<u32>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct LoadSession {
    parser: Parser,
    staged: Staged,
}

impl LoadSession {
    /// An empty session for a function with this id and this flow table.
    pub(crate) fn new(compat: [u8; 16], flow: Arc<FlowTable>) -> Self {
        Self {
            parser: Parser::new(compat),
            staged: Staged {
                flow,
                blocks: BTreeMap::new(),
                source_blocks: None,
                personality: Vec::new(),
                personality_total: None,
            },
        }
    }

    /// The next bytes of the stream. The first error ends the session.
    pub(crate) fn write(&mut self, data: &[u8]) -> Result<(), Status> {
        let (parser, staged) = (&mut self.parser, &mut self.staged);
        parser.push(data, &mut |section| staged.accept(section))
    }

    /// Installs what was staged in the stopped `function`. On an error nothing was installed.
    pub(crate) fn commit(self, function: &dyn DataFunction) -> Result<(), Status> {
        if !self.parser.complete() {
            return Err(Status::Truncated);
        }
        let staged = self.staged;
        let whole = staged.personality_total == Some(staged.personality.len() as u32);
        if staged.source_blocks.is_none() || !whole {
            return Err(Status::Corrupt);
        }
        function.load(&staged.personality).map_err(|e| {
            log::warn!("load: {e}");
            Status::from(e)
        })?;
        staged.flow.install(&staged.blocks);
        Ok(())
    }
}

impl Staged {
    fn accept(&mut self, section: Section<'_>) -> Result<(), Status> {
        match (section.kind, section.version) {
            (SECTION_GEOMETRY, 1) => self.geometry(section.payload),
            (SECTION_FLOW, 1) => self.flow(section.payload),
            (SECTION_PERSONALITY, 1) => self.personality(section.payload),
            _ if section.optional => Ok(()),
            _ => Err(Status::Incompatible),
        }
    }

    /// The first one, or a later one that says the same: the image starts anew.
    fn geometry(&mut self, payload: &[u8]) -> Result<(), Status> {
        let geometry = Geometry::read_from_bytes(payload).map_err(|_| Status::Corrupt)?;
        if geometry.reserved != 0 || self.source_blocks.is_some_and(|b| b != geometry.blocks) {
            return Err(Status::Corrupt);
        }
        match geometry.blocks.cmp(&self.flow.blocks()) {
            std::cmp::Ordering::Greater => return Err(Status::TooBig),
            // Slots are a function of the size, so a smaller table is another layout.
            std::cmp::Ordering::Less => return Err(Status::Incompatible),
            std::cmp::Ordering::Equal => {}
        }
        self.source_blocks = Some(geometry.blocks);
        self.blocks.clear();
        Ok(())
    }

    fn flow(&mut self, payload: &[u8]) -> Result<(), Status> {
        let blocks = self.source_blocks.ok_or(Status::Corrupt)?;
        let (head, data) = FlowHead::read_from_prefix(payload).map_err(|_| Status::Corrupt)?;
        let end = head.first.checked_add(head.count).ok_or(Status::Corrupt)?;
        if head.count == 0 || end > blocks || data.len() != head.count as usize * BLOCK {
            return Err(Status::Corrupt);
        }
        for (number, block) in (head.first..end).zip(data.chunks_exact(BLOCK)) {
            let block = block.try_into().map_err(|_| Status::Internal)?;
            self.blocks.insert(number, Box::new(block));
        }
        Ok(())
    }

    fn personality(&mut self, payload: &[u8]) -> Result<(), Status> {
        let (head, data) =
            PersonalityHead::read_from_prefix(payload).map_err(|_| Status::Corrupt)?;
        if head.total > MAX_PERSONALITY {
            return Err(Status::TooBig);
        }
        let have = self.personality.len();
        let total = *self.personality_total.get_or_insert(head.total);
        if total != head.total
            || head.offset as usize != have
            || data.is_empty()
            || have + data.len() > total as usize
        {
            return Err(Status::Corrupt);
        }
        self.personality.extend_from_slice(data);
        Ok(())
    }
}

const _: () = assert!(BLOCK < abi::DLR_SECTION_MAX as usize);
