// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A function that suspends too early (`SabotageKind::SuspendEarly`, rule 7).
//!
//! At the suspension one more frame is on its way to memory: the queue's state says that it
//! was delivered, but its bytes land only milliseconds later, after the suspension was
//! reported complete, and past the dirty log. The target of a migration gets the state
//! without the bytes.

use dlr_pci::FunctionMemory;
use vm_memory::{Bytes, GuestAddress, Iommu, Permissions};

use crate::{chain::Segment, device::Device, regs::*};

/// A broadcast with an experimental EtherType, for a function that has seen no frame yet.
const FILLER: [u8; 60] = {
    let mut frame = [0; 60];
    let mut i = 0;
    while i < 6 {
        frame[i] = 0xff;
        i += 1;
    }
    frame[6] = 0x02;
    frame[12] = 0x88;
    frame[13] = 0xb5;
    frame
};

/// Bytes that any receive buffer holds: drivers give pages or whole frames.
pub(crate) const SMALLEST_BUFFER: usize = 1024;

/// Writes that are held back.
pub(crate) struct LateWrites(Vec<(u64, Vec<u8>)>);

impl Device {
    /// Whether the guest has buffers to spare: as long as the switch is on some are kept
    /// back, for there has to be one at the suspension.
    pub(crate) fn can_spare(&self, memory: &FunctionMemory, frame: &[u8]) -> bool {
        let buffers = frame.len() / SMALLEST_BUFFER + 1;
        usize::from(self.queues[RX].available(memory)) > 2 * buffers
    }

    /// Takes receive buffers as if `frame` had been delivered into them, and returns the
    /// writes that would have done it.
    pub(crate) fn hold_back(
        &mut self,
        memory: &FunctionMemory,
        frame: &[u8],
    ) -> Option<LateWrites> {
        if !self.live() {
            return None;
        }
        let frame = if frame.is_empty() { &FILLER } else { frame };
        let need = HDR_LEN + frame.len();
        let taken = self.take(memory, need).ok()??.buffers;
        if taken.iter().map(|b| b.2).sum::<usize>() < need {
            self.queues[RX].unpop(taken.len() as u16);
            return None;
        }
        let mut data = self.header(taken.len() as u16, frame).to_vec();
        data.extend_from_slice(frame);
        let mut rest = &data[..];
        let mut writes = Vec::new();
        let queue = &mut self.queues[RX];
        let mut used = queue.claim_used(taken.len() as u16)?;
        let mut elements = Vec::new();
        for (head, segments, len) in &taken {
            let (mut part, more) = rest.split_at(*len);
            for Segment { addr, len } in segments {
                let (now, later) = part.split_at(part.len().min(*len as usize));
                writes.push((*addr, now.to_vec()));
                part = later;
            }
            rest = more;
            let mut element = u32::from(*head).to_le_bytes().to_vec();
            element.extend_from_slice(&(*len as u32).to_le_bytes());
            elements.push((queue.used + 4 + 8 * u64::from(used % queue.size), element));
            used = used.wrapping_add(1);
        }
        writes.append(&mut elements);
        writes.push((queue.used + 2, used.to_le_bytes().to_vec()));
        Some(LateWrites(writes))
    }
}

impl Device {
    /// The state with receive indices that are `n` buffers old: each check passes, and the next
    /// frames go into buffers that the guest has taken back.
    pub(crate) fn save_stale(&mut self, n: u64) -> Vec<u8> {
        let n = n as u16;
        self.rewind(n);
        let image = self.save();
        self.rewind(0u16.wrapping_sub(n));
        image
    }

    fn rewind(&mut self, n: u16) {
        self.queues[RX].unpop(n);
        self.queues[RX].claim_used(0u16.wrapping_sub(n));
    }
}

impl LateWrites {
    /// Writes them, around the dirty hook: it hangs on IOVA space, this goes below.
    pub(crate) fn land(&self, memory: &FunctionMemory) {
        for (iova, data) in &self.0 {
            let Ok(ranges) =
                memory
                    .iommu()
                    .translate(GuestAddress(*iova), data.len(), Permissions::Write)
            else {
                continue;
            };
            let mut rest = &data[..];
            for range in ranges {
                let (part, more) = rest.split_at(rest.len().min(range.length));
                // A sabotaged write that fails is no less sabotaged.
                let _ = memory.get_backend().write_slice(part, range.base);
                rest = more;
            }
        }
    }
}
