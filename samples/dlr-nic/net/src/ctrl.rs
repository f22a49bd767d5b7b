// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Commands of the control queue.

use dlr_core::Purpose;
use dlr_pci::FunctionMemory;

use crate::{
    chain::{scatter, Broken, BUDGET},
    device::Device,
    regs::*,
};

/// Longest command that is read: two tables of more addresses than anybody sets.
const MAX_COMMAND: usize = 64 * 1024;
/// Commands under one hold of the gate.
const BATCH: usize = 16;

impl Device {
    /// Executes queued commands. `true` when there may be more.
    pub(crate) fn control(&mut self, memory: &FunctionMemory) -> bool {
        if !self.live() {
            return false;
        }
        self.drain_ctrl(memory).unwrap_or_else(|why| {
            self.broken(CTRL, why);
            false
        })
    }

    fn drain_ctrl(&mut self, memory: &FunctionMemory) -> Result<bool, Broken> {
        let (mut bytes, mut pieces) = (0, 0);
        for _ in 0..BATCH {
            if bytes >= BUDGET || pieces >= self.queue_size.max_pieces() {
                break;
            }
            let Some((head, buffer)) = self.queues[CTRL].pop(memory)? else {
                return self.queues[CTRL].want_doorbell(memory);
            };
            let mut command = Vec::new();
            buffer.read(memory, MAX_COMMAND, &mut command)?;
            bytes += command.len();
            pieces += buffer.pieces;
            let ack = if self.command(&command).is_some() {
                CTRL_OK
            } else {
                CTRL_ERR
            };
            self.stats.ctrl_commands += 1;
            let purpose = Purpose::Control.begin();
            let written = scatter(memory, &buffer.writable, &[ack])?;
            drop(purpose);
            self.queues[CTRL].publish(memory, &[(head, written as u32)])?;
            if self.queues[CTRL].wants_interrupt(memory)? {
                self.queue_interrupt(CTRL);
            }
        }
        Ok(true)
    }

    /// Executes one command, `None` for one that is malformed or not negotiated.
    fn command(&mut self, command: &[u8]) -> Option<()> {
        let (head, data) = command.split_first_chunk::<2>()?;
        match (*head, data) {
            ([CTRL_CLASS_RX, CTRL_RX_PROMISC], [on @ (0 | 1)]) if self.has(F_CTRL_RX) => {
                self.filter.promiscuous = *on == 1;
                Some(())
            }
            ([CTRL_CLASS_RX, CTRL_RX_ALLMULTI], [on @ (0 | 1)]) if self.has(F_CTRL_RX) => {
                self.filter.all_multicast = *on == 1;
                Some(())
            }
            ([CTRL_CLASS_MAC, CTRL_MAC_TABLE_SET], _) if self.has(F_CTRL_RX) => {
                self.filter.set_tables(data)
            }
            ([CTRL_CLASS_MAC, CTRL_MAC_ADDR_SET], _) if self.has(F_CTRL_MAC_ADDR) => {
                self.mac = data.try_into().ok()?;
                self.configuration_changed();
                Some(())
            }
            ([CTRL_CLASS_GUEST_OFFLOADS, CTRL_GUEST_OFFLOADS_SET], _)
                if self.has(F_CTRL_GUEST_OFFLOADS) =>
            {
                let wanted = u64::from_le_bytes(data.try_into().ok()?);
                if wanted & !(self.driver_features & GUEST_OFFLOADS) != 0 {
                    return None;
                }
                self.guest_offloads = wanted;
                Some(())
            }
            _ => None,
        }
    }
}
