// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A function that suspends too early (`SabotageKind::SuspendEarly`, rule 7).
//!
//! At the suspension one more frame is on its way to memory: the queue's state says that it
//! was delivered, but its bytes land only milliseconds later, after the suspension was
//! reported complete, and past the dirty log. The target of a migration gets the state
//! without the bytes.

use dlr_pci::FunctionMemory;
use vm_memory::{Bytes, GuestAddress, Iommu, Permissions};

use crate::{
    chain::{length, Segment},
    device::Device,
    regs::*,
};

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

/// Writes that are held back.
pub(crate) struct LateWrites(Vec<(u64, Vec<u8>)>);

impl Device {
    /// Takes one receive buffer as if `frame` had been delivered into it, and returns the
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
        let (head, buffer) = self.queues[RX].pop(memory).ok()??;
        let mut data = vec![0; HDR_LEN];
        data[0] = HDR_F_DATA_VALID;
        data[10] = 1;
        data.extend_from_slice(frame);
        if length(&buffer.writable) < data.len() as u64 {
            self.queues[RX].unpop(1);
            return None;
        }
        let mut writes = Vec::new();
        let mut rest = &data[..];
        for Segment { addr, len } in &buffer.writable {
            let (part, more) = rest.split_at(rest.len().min(*len as usize));
            writes.push((*addr, part.to_vec()));
            rest = more;
        }
        let queue = &mut self.queues[RX];
        let used = queue.claim_used()?;
        let mut element = u32::from(head).to_le_bytes().to_vec();
        element.extend_from_slice(&(data.len() as u32).to_le_bytes());
        let slot = queue.used + 4 + 8 * u64::from(used % queue.size);
        writes.push((slot, element));
        let index = used.wrapping_add(1).to_le_bytes().to_vec();
        writes.push((queue.used + 2, index));
        Some(LateWrites(writes))
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
