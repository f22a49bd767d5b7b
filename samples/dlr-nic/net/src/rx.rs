// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Frames for the guest.

use dlr_core::Delivery;
use dlr_pci::FunctionMemory;

use crate::{
    chain::{length, scatter, Broken, Segment},
    device::Device,
    filter::Mac,
    offload,
    regs::*,
};

/// Receive buffers that one frame goes into.
pub(crate) struct Taken {
    /// Id, pieces, bytes of the frame that go into it.
    pub(crate) buffers: Vec<(u16, Vec<Segment>, usize)>,
}

impl Device {
    /// Puts `frame` where the guest's receive descriptors say.
    pub(crate) fn receive(&mut self, memory: &FunctionMemory, frame: &[u8]) -> Delivery {
        if !self.live() {
            // Without a driver there will be no buffer: the wire need not wait for one.
            self.stats.rx_no_driver += 1;
            return Delivery::Dropped;
        }
        if !self.link || !self.wants(frame) {
            self.stats.rx_filtered += 1;
            return Delivery::Dropped;
        }
        match self.place(memory, frame) {
            Ok(delivery) => delivery,
            Err(why) => {
                self.broken(RX, why);
                Delivery::Dropped
            }
        }
    }

    /// Buffers are looked for when a frame is there; the guest need not announce them.
    pub(crate) fn quiet_rx(&mut self, memory: &FunctionMemory) {
        if self.live() {
            if let Err(why) = self.queues[RX].refuse_doorbells(memory) {
                self.broken(RX, why);
            }
        }
    }

    /// The frame is for this guest.
    pub(crate) fn wants(&self, frame: &[u8]) -> bool {
        let destination: Option<&Mac> = frame.first_chunk();
        (MIN_FRAME..=MAX_FRAME).contains(&frame.len())
            && destination.is_some_and(|to| self.filter.accepts(&self.mac, to))
    }

    fn place(&mut self, memory: &FunctionMemory, frame: &[u8]) -> Result<Delivery, Broken> {
        let need = HDR_LEN + frame.len();
        let Some(taken) = self.take(memory, need)? else {
            self.stats.rx_no_buffer += 1;
            return Ok(Delivery::NoBuffer);
        };
        if taken.buffers.iter().map(|b| b.2).sum::<usize>() < need {
            // One buffer, too small, and frames may not be split; or buffers in far too many
            // pieces. They go back unused.
            self.queues[RX].unpop(taken.buffers.len() as u16);
            self.stats.rx_too_long += 1;
            return Ok(Delivery::Dropped);
        }
        let mut data = std::mem::take(&mut self.scratch);
        data.clear();
        data.extend_from_slice(&self.header(taken.buffers.len() as u16, frame));
        data.extend_from_slice(frame);
        let result = self.fill(memory, &taken, &data);
        self.scratch = data;
        result?;
        self.stats.rx_frames += 1;
        self.stats.rx_bytes += frame.len() as u64;
        if self.queues[RX].wants_interrupt(memory)? {
            self.queue_interrupt(RX);
        }
        Ok(Delivery::Accepted)
    }

    /// `struct virtio_net_hdr_v1`: where the checksum is right the guest need not look at the payload.
    pub(crate) fn header(&self, buffers: u16, frame: &[u8]) -> [u8; HDR_LEN] {
        let mut header = [0; HDR_LEN];
        if self.guest_offloads & F_GUEST_CSUM != 0 && offload::verified(frame) {
            header[0] = HDR_F_DATA_VALID;
        }
        header[10..].copy_from_slice(&buffers.to_le_bytes());
        header
    }

    /// As many buffers as `need` bytes take, or one where frames may not be split, or as many as
    /// [`QueueSize::max_pieces`](crate::QueueSize) allows. `None` when the guest has not given
    /// enough; all of them are its own again then.
    pub(crate) fn take(
        &mut self,
        memory: &FunctionMemory,
        need: usize,
    ) -> Result<Option<Taken>, Broken> {
        let mergeable = self.has(F_MRG_RXBUF);
        let mut buffers: Vec<(u16, Vec<Segment>, usize)> = Vec::new();
        let mut left = need;
        let mut pieces = 0;
        while left != 0 {
            let Some((head, buffer)) = self.queues[RX].pop(memory)? else {
                self.queues[RX].unpop(buffers.len() as u16);
                return Ok(None);
            };
            let room = length(&buffer.writable);
            // An empty buffer would make this loop the guest's.
            if !buffer.readable.is_empty() || room == 0 {
                return Err(Broken::Direction);
            }
            pieces += buffer.pieces;
            let fill = usize::try_from(room).unwrap_or(usize::MAX).min(left);
            buffers.push((head, buffer.writable, fill));
            left -= fill;
            if !mergeable || pieces > self.queue_size.max_pieces() {
                break;
            }
        }
        Ok(Some(Taken { buffers }))
    }

    /// Writes `data` and returns the buffers: all data first, then all of them at once.
    fn fill(&mut self, memory: &FunctionMemory, taken: &Taken, data: &[u8]) -> Result<(), Broken> {
        let mut rest = data;
        let mut done = Vec::with_capacity(taken.buffers.len());
        for (head, segments, len) in &taken.buffers {
            let (part, more) = rest.split_at_checked(*len).unwrap_or((rest, &[]));
            scatter(memory, segments, part)?;
            done.push((*head, part.len() as u32));
            rest = more;
        }
        self.queues[RX].publish(memory, &done)
    }
}
