// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A save session: makes the stream piece by piece.

use std::{collections::VecDeque, sync::Arc};

use dlr_abi::abi;
use dlr_core::{DataFunction, Sabotage, SabotageKind};
use zerocopy::IntoBytes;

use super::{
    flow::{FlowTable, Run, BLOCK},
    section::{StreamWriter, HEADER, SECTION, TRAILER},
    FlowHead, Geometry, PersonalityHead, HEAD, MAX_STATE_BYTES, SECTION_FLOW, SECTION_GEOMETRY,
    SECTION_PERSONALITY,
};
use crate::status::{Done, Status};

/// Blocks in one FLOW section.
const FLOW_BLOCKS: usize = (abi::DLR_SECTION_MAX as usize - HEAD) / BLOCK;
/// Most bytes one read makes: a short read is allowed and bounds memory.
const MAX_READ: usize = 4 << 20;
/// Personality's share of the estimate while it has not been saved.
const PERSONALITY_GUESS: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Initial,
    Dirty,
    Final,
}

/// What is still to come, for the status page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Of the initial image.
    pub(crate) initial: u64,
    /// Of changes that reads without FINAL deliver.
    pub(crate) dirty: u64,
    /// Of everything up to the trailer.
    pub(crate) total: u64,
}

/// Bytes that are made and not delivered.
#[derive(Debug)]
struct Chunk {
    part: Part,
    data: Vec<u8>,
    delivered: usize,
}

impl Chunk {
    fn new(part: Part, data: Vec<u8>) -> Self {
        Self {
            part,
            data,
            delivered: 0,
        }
    }

    fn left(&self) -> &[u8] {
        self.data.get(self.delivered..).unwrap_or_default()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SaveSession {
    writer: StreamWriter,
    out: VecDeque<Chunk>,
    flow: Arc<FlowTable>,
    /// Set by the first FINAL read: the function's count of resumes at that time.
    final_at: Option<u64>,
    reinits: u32,
    /// What the latest read has made, in order.
    latest: Vec<(Part, usize)>,
    /// The writer as it was before the latest read made the final part, if it did.
    before_final: Option<StreamWriter>,
    /// Vector of the event "more to read".
    vector: Option<u16>,
    /// A read has found nothing: the event is owed.
    awaited: bool,
}

impl SaveSession {
    /// Opens a session of a function with this id; the flow table starts to track changes. `vector`
    /// is for the event "more to read".
    pub(crate) fn new(compat: [u8; 16], flow: Arc<FlowTable>, vector: Option<u16>) -> Self {
        flow.begin();
        let mut session = Self {
            writer: StreamWriter::new(compat),
            out: VecDeque::new(),
            flow,
            final_at: None,
            reinits: 0,
            latest: Vec::new(),
            before_final: None,
            vector,
            awaited: false,
        };
        let header = session.writer.header();
        session.out.push_back(Chunk::new(Part::Initial, header));
        session.push_geometry();
        session
    }

    /// The function's personality was reset by the guest: the initial image starts anew.
    /// (The flow table has been cleared already.)
    pub(crate) fn reinit(&mut self) {
        if self.final_at.is_none() {
            self.reinits = self.reinits.wrapping_add(1);
            self.push_geometry();
        }
    }

    /// A read that found nothing has completed.
    pub(crate) fn await_more(&mut self) {
        self.awaited = true;
    }

    /// The vector to raise because there is more to read, once for each time that it is awaited.
    pub(crate) fn take_event(&mut self) -> Option<u16> {
        let pending = self.pending();
        if !self.awaited || pending.initial + pending.dirty == 0 {
            return None;
        }
        self.awaited = false;
        self.vector
    }

    /// How often the initial image started anew.
    pub(crate) fn reinits(&self) -> u32 {
        self.reinits
    }

    /// The next at most `max` bytes of the changes so far.
    pub(crate) fn read(&mut self, max: usize) -> Result<(Vec<u8>, Done), Status> {
        if self.final_at.is_some() {
            return Err(Status::InvalidState);
        }
        let max = max.min(MAX_READ);
        self.begin_read();
        let mut data = Vec::new();
        while self.drain(&mut data, max) && self.make_flow(self.may_send_changes()) {}
        let flags = if data.is_empty() {
            abi::DLR_CQE_F_EMPTY
        } else {
            0
        };
        Ok((data, Done { result: 0, flags }))
    }

    /// The next at most `max` bytes up to the trailer; `function` is STOPPED and has been
    /// resumed `resumes` times.
    pub(crate) fn read_final(
        &mut self,
        max: usize,
        function: &dyn DataFunction,
        resumes: u64,
        sabotage: &Sabotage,
    ) -> Result<(Vec<u8>, Done), Status> {
        if self.final_at.is_some_and(|at| at != resumes) {
            return Err(Status::InvalidState);
        }
        let max = max.min(MAX_READ);
        self.begin_read();
        let mut data = Vec::new();
        while self.drain(&mut data, max) {
            // All memory changes come first: they stand still from here on.
            if self.final_at.is_none() {
                if self.make_flow(true) {
                    continue;
                }
                self.before_final = Some(self.writer.clone());
                self.make_final(function, sabotage);
                self.final_at = Some(resumes);
            } else {
                break;
            }
        }
        let ended = self.final_at.is_some() && self.out.is_empty();
        let flags = if ended { abi::DLR_CQE_F_END } else { 0 };
        Ok((data, Done { result: 0, flags }))
    }

    fn begin_read(&mut self) {
        self.latest.clear();
        self.before_final = None;
    }

    /// Takes back what the latest read has made and could not deliver: the read has changed
    /// nothing, and what is pending is pending as what it was.
    pub(crate) fn unread(&mut self, data: &[u8]) {
        let mut end = data.len();
        for (part, len) in std::mem::take(&mut self.latest).into_iter().rev() {
            let start = end.saturating_sub(len);
            let bytes = data.get(start..end).unwrap_or_default().to_vec();
            self.out.push_front(Chunk::new(part, bytes));
            end = start;
        }
        // The function may run again before the next read: then there is no final part yet.
        if let Some(writer) = self.before_final.take() {
            self.writer = writer;
            self.final_at = None;
            self.out.retain(|chunk| chunk.part != Part::Final);
        }
    }

    /// What is still to come.
    pub(crate) fn pending(&self) -> Pending {
        let (initial_blocks, changed) = self.flow.remaining();
        let queued = |part| -> u64 {
            let of = self.out.iter().filter(|chunk| chunk.part == part);
            of.map(|chunk| chunk.left().len() as u64).sum()
        };
        let initial = queued(Part::Initial) + flow_bytes(initial_blocks);
        let queued_dirty = queued(Part::Dirty);
        let changes = (changed * (SECTION + HEAD + BLOCK)) as u64;
        let last = if self.final_at.is_some() {
            queued(Part::Final)
        } else {
            PERSONALITY_GUESS + TRAILER as u64
        };
        Pending {
            initial,
            dirty: queued_dirty + if self.may_send_changes() { changes } else { 0 },
            total: initial + queued_dirty + changes + last,
        }
    }

    /// What a session begun now would have to send.
    pub(crate) fn pending_without_session(flow: &FlowTable) -> Pending {
        let initial =
            (HEADER + SECTION + size_of::<Geometry>()) as u64 + flow_bytes(flow.blocks() as usize);
        Pending {
            initial,
            dirty: 0,
            total: initial + PERSONALITY_GUESS + TRAILER as u64,
        }
    }

    /// Changes may be sent while the function runs as long as a whole image still fits.
    fn may_send_changes(&self) -> bool {
        let reserve = 2 * flow_bytes(self.flow.blocks() as usize) + (16 << 20);
        self.writer.bytes() + reserve < MAX_STATE_BYTES
    }

    /// Moves made bytes to `data`; true when all are moved and there is room left.
    fn drain(&mut self, data: &mut Vec<u8>, max: usize) -> bool {
        while let Some(chunk) = self.out.front_mut() {
            let left = chunk.left();
            let count = left.len().min(max - data.len());
            data.extend_from_slice(left.get(..count).unwrap_or_default());
            chunk.delivered += count;
            self.latest.push((chunk.part, count));
            if !chunk.left().is_empty() {
                return false;
            }
            self.out.pop_front();
        }
        data.len() < max
    }

    /// Makes one FLOW section if there is anything to send.
    fn make_flow(&mut self, changes: bool) -> bool {
        let (part, run) = match self.flow.take_initial(FLOW_BLOCKS) {
            Some(run) => (Part::Initial, run),
            None if changes => match self.flow.take_changed(FLOW_BLOCKS) {
                Some(run) => (Part::Dirty, run),
                None => return false,
            },
            None => return false,
        };
        let Run { first, data } = run;
        let head = FlowHead {
            first,
            count: (data.len() / BLOCK) as u32,
        };
        let section = self.writer.section(SECTION_FLOW, &[head.as_bytes(), &data]);
        self.out.push_back(Chunk::new(part, section));
        true
    }

    fn make_final(&mut self, function: &dyn DataFunction, sabotage: &Sabotage) {
        let image = function.save();
        let mut offset = 0;
        let mut flip = sabotage.get(SabotageKind::StateBitFlip);
        for part in image.chunks(abi::DLR_SECTION_MAX as usize - HEAD) {
            let head = PersonalityHead {
                offset,
                total: image.len() as u32,
            };
            offset += part.len() as u32;
            let mut section = self
                .writer
                .section(SECTION_PERSONALITY, &[head.as_bytes(), part]);
            if let Some(n) = flip.take() {
                let bit = n % (part.len() as u64 * 8);
                if let Some(byte) = section.get_mut(SECTION + HEAD + (bit / 8) as usize) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            self.out.push_back(Chunk::new(Part::Final, section));
        }
        if sabotage.get(SabotageKind::StateTruncated).is_none() {
            let trailer = self.writer.trailer();
            self.out.push_back(Chunk::new(Part::Final, trailer));
        }
    }

    fn push_geometry(&mut self) {
        let geometry = Geometry {
            blocks: self.flow.blocks(),
            reserved: 0,
        };
        let section = self
            .writer
            .section(SECTION_GEOMETRY, &[geometry.as_bytes()]);
        self.out.push_back(Chunk::new(Part::Initial, section));
    }
}

impl Drop for SaveSession {
    fn drop(&mut self) {
        self.flow.end();
    }
}

/// Bytes of the sections that carry `blocks` blocks.
fn flow_bytes(blocks: usize) -> u64 {
    (blocks * BLOCK + blocks.div_ceil(FLOW_BLOCKS) * (SECTION + HEAD)) as u64
}
