// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The register block of BAR 0.

use std::sync::atomic::Ordering;

use dlr_abi::abi;

use super::shared::Shared;
use crate::{
    fault::RegisterBit,
    pending::{Next, Pending},
    port::Port,
    rows::rows_of,
};

impl Shared {
    /// Reads a register; 0 where there is none.
    pub(super) fn read32(&self, offset: u32) -> u32 {
        if self.is_gone() {
            return u32::MAX;
        }
        let resetting = u32::from(self.poll_reset()) * abi::DLR_CONTROL_RESET;
        match offset {
            abi::DLR_REG_MAGIC => abi::DLR_MAGIC,
            abi::DLR_REG_VERSION => abi::DLR_CONTRACT_VERSION,
            abi::DLR_REG_NUM_FUNCTIONS => self.ports.len() as u32,
            abi::DLR_REG_CMD_TIMEOUT => self.config.cmd_timeout.as_millis() as u32,
            abi::DLR_REG_SERIAL_LO => self.config.serial as u32,
            abi::DLR_REG_SERIAL_HI => (self.config.serial >> 32) as u32,
            abi::DLR_REG_AQ_MAX_ORDER => abi::DLR_AQ_MAX_ORDER | abi::DLR_AQ_MAX_ORDER << 8,
            abi::DLR_REG_CONTROL => self.queue.read(offset) | resetting,
            abi::DLR_REG_FN_BASE.. => {
                let Some((k, port, register)) = self.port_register(offset) else {
                    return 0;
                };
                match register {
                    abi::DLR_REG_LOG_POSTED => port.log.posted(port.function().as_deref()),
                    abi::DLR_REG_LOG_STATE => port.log.state(),
                    abi::DLR_REG_FN_STATE => port.state(),
                    abi::DLR_REG_FN_ABORT => u32::from(self.poll_abort(k)) * abi::DLR_FN_ABORT,
                    _ => 0,
                }
            }
            _ => self.queue.read(offset),
        }
    }

    /// Writes a register; nothing happens where there is none.
    pub(super) fn write32(&self, offset: u32, value: u32) {
        if self.is_gone() || self.poll_reset() {
            return;
        }
        if offset == abi::DLR_REG_CONTROL && value & abi::DLR_CONTROL_RESET != 0 {
            self.reset.begin(self.faults.take_bit(RegisterBit::Reset));
            self.poll_reset();
            return;
        }
        if offset < abi::DLR_REG_FN_BASE {
            self.queue.write(offset, value);
            if !self.queue.is_ready() {
                self.end_aborts();
            }
            return;
        }
        match self.port_register(offset) {
            Some((_, port, abi::DLR_REG_LOG_HEAD)) => {
                if port.log.set_head(value) {
                    port.room();
                }
            }
            Some((k, _, abi::DLR_REG_FN_ABORT)) => self.write_abort(k, value),
            _ => ::log::warn!("write of read-only register {offset:#x} ignored"),
        }
    }

    /// Everything as at power-on, but for the data functions. Faults that hold the queue or a
    /// register up go with it; those that wait for their commands stay.
    pub(super) fn reset_now(&self) {
        ::log::info!("management function reset");
        self.queue.reset();
        self.end_aborts();
        for port in &self.ports {
            port.management_reset();
        }
    }

    /// Does what RESET asks for; whether it reads as one.
    fn poll_reset(&self) -> bool {
        poll(
            &self.reset,
            || {
                self.resets.fetch_add(1, Ordering::Relaxed);
                self.reset_now();
            },
            || !self.current.iter().any(|row| row.is_dropped()),
        )
    }

    fn write_abort(&self, k: usize, value: u32) {
        let Some(abort) = self.aborts.get(k) else {
            return;
        };
        if value & abi::DLR_FN_ABORT == 0 || !self.queue.is_ready() {
            return;
        }
        abort.begin(self.faults.take_bit(RegisterBit::Abort));
        self.poll_abort(k);
    }

    /// Does what FN_ABORT of function `k` asks for; whether it reads as one.
    fn poll_abort(&self, k: usize) -> bool {
        let Some(abort) = self.aborts.get(k) else {
            return false;
        };
        let mut rows = rows_of(k).into_iter();
        poll(
            abort,
            || {
                self.queue.abort(k);
                if let Some(port) = self.ports.get(k) {
                    port.log.wake();
                    port.count_abort();
                }
            },
            || !rows.any(|row| self.current.get(row).is_some_and(|row| row.is_dropped())),
        )
    }

    fn end_aborts(&self) {
        self.aborts.iter().for_each(Pending::end);
    }

    fn port_register(&self, offset: u32) -> Option<(usize, &Port, u32)> {
        let offset = offset.checked_sub(abi::DLR_REG_FN_BASE)?;
        let k = (offset / abi::DLR_REG_FN_STRIDE) as usize;
        Some((k, self.ports.get(k)?, offset % abi::DLR_REG_FN_STRIDE))
    }
}

/// One look at a bit; whether it reads as one after it.
fn poll(bit: &Pending, carry_out: impl FnOnce(), settled: impl FnOnce() -> bool) -> bool {
    match bit.next() {
        Next::Nothing => return false,
        Next::Wait => return true,
        Next::CarryOut => {
            carry_out();
            bit.carried_out();
        }
        Next::Settle => {}
    }
    if settled() {
        bit.end();
        return false;
    }
    true
}
