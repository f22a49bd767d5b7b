// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Frames of the guest.

use dlr_pci::FunctionMemory;

use crate::{
    chain::{length, Broken, BUDGET},
    device::Device,
    offload,
    regs::*,
};

/// Frames taken under one hold of the gate: others get their turn in between.
const BATCH: usize = 32;

impl Device {
    /// Takes frames that the guest has queued. The second part says that there may be more.
    pub(crate) fn transmit(&mut self, memory: &FunctionMemory) -> (Vec<Vec<u8>>, bool) {
        let mut frames = Vec::new();
        if !self.live() {
            return (frames, false);
        }
        match self.drain_tx(memory, &mut frames) {
            Ok(more) => (frames, more),
            Err(why) => {
                self.broken(TX, why);
                (frames, false)
            }
        }
    }

    /// The guest has queued frames or commands.
    pub(crate) fn has_queued(&self, memory: &FunctionMemory) -> bool {
        let queued = |queue: usize| self.queues[queue].available(memory) != 0;
        self.live() && (queued(TX) || queued(CTRL))
    }

    fn drain_tx(
        &mut self,
        memory: &FunctionMemory,
        frames: &mut Vec<Vec<u8>>,
    ) -> Result<bool, Broken> {
        let mut done = Vec::new();
        let mut end = Ok(false);
        let mut more = true;
        let (mut bytes, mut pieces) = (0, 0);
        let most = self.queue_size.max_pieces();
        while done.len() < BATCH && bytes < BUDGET && pieces < most {
            match self.queues[TX].pop(memory) {
                Ok(Some((head, buffer))) => {
                    if !buffer.writable.is_empty() {
                        end = Err(Broken::Direction);
                        break;
                    }
                    let long = length(&buffer.readable) > (HDR_LEN + MAX_FRAME) as u64;
                    let mut data = Vec::new();
                    if !long {
                        if let Err(why) = buffer.read(memory, HDR_LEN + MAX_FRAME, &mut data) {
                            end = Err(why);
                            break;
                        }
                    }
                    done.push((head, 0));
                    pieces += buffer.pieces;
                    bytes += data.len();
                    self.outgoing(data, frames);
                }
                Ok(None) => {
                    more = false;
                    break;
                }
                Err(why) => {
                    end = Err(why);
                    break;
                }
            }
        }
        // What was taken before a bad descriptor was sent: it is returned in any case.
        if !done.is_empty() {
            self.queues[TX].publish(memory, &done)?;
            if self.queues[TX].wants_interrupt(memory)? {
                self.queue_interrupt(TX);
            }
        }
        end?;
        if !more {
            more = self.queues[TX].want_doorbell(memory)?;
        }
        Ok(more)
    }

    /// Sorts out what cannot be sent.
    fn outgoing(&mut self, mut data: Vec<u8>, frames: &mut Vec<Vec<u8>>) {
        let csum = self.has(F_CSUM);
        let good = data
            .split_first_chunk_mut::<HDR_LEN>()
            .is_some_and(|(header, frame)| {
                self.link && frame.len() >= MIN_FRAME && offload::complete(header, frame, csum)
            });
        if good {
            data.drain(..HDR_LEN);
            self.stats.tx_frames += 1;
            self.stats.tx_bytes += data.len() as u64;
            frames.push(data);
        } else {
            self.stats.tx_dropped += 1;
        }
    }
}
