// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The admin queue: rings, phases, aborts and the reset handshake. What commands do is elsewhere.

mod fetch;
mod live;

use std::sync::Arc;

use dlr_abi::abi;
use dlr_core::{DmaMemory, Interrupt};
use parking_lot::Mutex;
use serde::Serialize;

use self::live::{Live, Regs};
use crate::{
    rows::{Command, Rows},
    status::Done,
};

const SQE: u64 = size_of::<abi::dlr_sqe>() as u64;
const CQE: u64 = size_of::<abi::dlr_cqe>() as u64;

/// Counters for the control socket.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct QueueStats {
    ready: bool,
    fatal: bool,
    submitted: u64,
    completed: u64,
    resets: u64,
    aborts: u64,
    outstanding: u32,
}

struct Inner {
    regs: Regs,
    live: Option<Live>,
    fatal: bool,
    /// An injected fault: nothing happens any more.
    stuck: bool,
    rows: Rows,
    stats: QueueStats,
}

/// See the module.
pub(crate) struct AdminQueue {
    inner: Mutex<Inner>,
    memory: Arc<dyn DmaMemory>,
    interrupt: Arc<dyn Interrupt>,
    vectors: u16,
}

impl AdminQueue {
    /// A disabled queue. `memory` and `interrupt` are the MF's, which has so many `vectors`.
    pub(crate) fn new(
        memory: Arc<dyn DmaMemory>,
        interrupt: Arc<dyn Interrupt>,
        vectors: u16,
        rows: Rows,
    ) -> Self {
        Self {
            inner: Mutex::new(Inner {
                regs: Regs::default(),
                live: None,
                fatal: false,
                stuck: false,
                rows,
                stats: QueueStats::default(),
            }),
            memory,
            interrupt,
            vectors,
        }
    }

    /// Lets the workers end.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.disable();
        inner.rows.close();
    }

    /// Reset of the MF: registers too are as at power-on.
    pub(crate) fn reset(&self) {
        let mut inner = self.inner.lock();
        inner.disable();
        inner.stuck = false;
        inner.regs = Regs::default();
    }

    /// READY: commands are taken.
    pub(crate) fn is_ready(&self) -> bool {
        let inner = self.inner.lock();
        inner.live.is_some() && !inner.fatal && !inner.stuck
    }

    /// Drops what `owner` has submitted, fetched or not. When this returns no completion of any
    /// of it is posted any more and no buffer touched; a worker may still be at a command.
    pub(crate) fn abort(&self, owner: usize) {
        let mut inner = self.inner.lock();
        if inner.fatal || inner.stuck {
            return;
        }
        let dropped = inner.live.as_mut().and_then(|live| live.drop_all(owner));
        let Some(epoch) = dropped else { return };
        inner.stats.aborts += 1;
        self.fetch(&mut inner);
        drop(inner);
        // Without the lock: the other functions' commands complete meanwhile.
        epoch.end();
    }

    /// Reads one of the queue's registers.
    pub(crate) fn read(&self, offset: u32) -> u32 {
        let inner = self.inner.lock();
        let ready = inner.live.is_some() && !inner.fatal;
        match offset {
            abi::DLR_REG_CONTROL => u32::from(inner.live.is_some()) * abi::DLR_CONTROL_ENABLE,
            abi::DLR_REG_STATUS => {
                (u32::from(ready) * abi::DLR_MF_STATUS_READY)
                    | (u32::from(inner.fatal) * abi::DLR_MF_STATUS_FATAL)
            }
            abi::DLR_REG_SQ_BASE_LO => inner.regs.sq_base as u32,
            abi::DLR_REG_SQ_BASE_HI => (inner.regs.sq_base >> 32) as u32,
            abi::DLR_REG_CQ_BASE_LO => inner.regs.cq_base as u32,
            abi::DLR_REG_CQ_BASE_HI => (inner.regs.cq_base >> 32) as u32,
            abi::DLR_REG_AQ_ATTR => inner.regs.attr,
            abi::DLR_REG_AQ_VECTOR => inner.regs.vector,
            _ => 0,
        }
    }

    /// Writes one of the queue's registers.
    pub(crate) fn write(&self, offset: u32, value: u32) {
        let mut inner = self.inner.lock();
        if inner.stuck {
            return;
        }
        match offset {
            abi::DLR_REG_CONTROL if value & abi::DLR_CONTROL_ENABLE == 0 => inner.disable(),
            abi::DLR_REG_CONTROL => self.enable(&mut inner),
            abi::DLR_REG_SQ_TAIL => {
                if let Some(live) = inner.live.as_mut() {
                    live.sq_tail = value;
                    self.fetch(&mut inner);
                }
            }
            abi::DLR_REG_CQ_HEAD => self.consumed(&mut inner, value),
            _ if inner.live.is_some() => {
                log::warn!("write of queue register {offset:#x} while READY ignored");
            }
            abi::DLR_REG_SQ_BASE_LO => set_low(&mut inner.regs.sq_base, value),
            abi::DLR_REG_SQ_BASE_HI => set_high(&mut inner.regs.sq_base, value),
            abi::DLR_REG_CQ_BASE_LO => set_low(&mut inner.regs.cq_base, value),
            abi::DLR_REG_CQ_BASE_HI => set_high(&mut inner.regs.cq_base, value),
            abi::DLR_REG_AQ_ATTR => inner.regs.attr = value,
            abi::DLR_REG_AQ_VECTOR => inner.regs.vector = value,
            _ => log::warn!("write of unknown register {offset:#x} ignored"),
        }
    }

    /// Posts the completion of `command`, unless its epoch is over; false when it did not. `id`
    /// is the command's, but for an injected fault.
    pub(crate) fn complete(&self, command: &Command, id: u16, status: u16, done: Done) -> bool {
        let mut inner = self.inner.lock();
        let Some(live) = inner.live_of(command) else {
            return false;
        };
        live.settle(command.owner);
        let slot = live.cq_tail & ((1 << live.cq_order) - 1);
        let phase = u16::from((live.cq_tail >> live.cq_order) & 1 == 0) * abi::DLR_CQE_PHASE as u16;
        let addr = live.regs.cq_base + u64::from(slot) * CQE;
        let first = u64::from(done.result) | u64::from(done.flags) << 32;
        let second = (live.sq_head as u16 as u64)
            | u64::from(id) << 16
            | u64::from(status) << 32
            | u64::from(phase) << 48;
        live.cq_tail = live.cq_tail.wrapping_add(1);
        let vector = live.regs.vector as u16;
        let written = self
            .memory
            .write_u64(addr, first)
            .and_then(|()| self.memory.write_u64(addr + 8, second));
        match written {
            Ok(()) => {
                inner.stats.completed += 1;
                self.interrupt.trigger(vector);
                true
            }
            Err(fault) => {
                inner.die(&format!("completion: {fault}"));
                false
            }
        }
    }

    /// An injected fault: from here on nothing happens until [`Self::reset`].
    pub(crate) fn stick(&self) {
        self.inner.lock().stuck = true;
    }

    /// An injected fault: `command` will never complete.
    pub(crate) fn forget(&self, command: &Command) {
        let mut inner = self.inner.lock();
        if let Some(live) = inner.live_of(command) {
            live.settle(command.owner);
            live.outstanding = live.outstanding.saturating_sub(1);
            self.fetch(&mut inner);
        }
    }

    /// Counters.
    pub(crate) fn stats(&self) -> QueueStats {
        let inner = self.inner.lock();
        QueueStats {
            ready: inner.live.is_some() && !inner.fatal,
            fatal: inner.fatal,
            outstanding: inner.live.as_ref().map_or(0, |l| l.outstanding),
            ..inner.stats
        }
    }

    fn enable(&self, inner: &mut Inner) {
        if inner.live.is_some() || inner.fatal {
            return;
        }
        let regs = inner.regs;
        let (sq_order, cq_order) = (regs.attr & 0xff, regs.attr >> 8 & 0xff);
        let orders = abi::DLR_AQ_MIN_ORDER..=abi::DLR_AQ_MAX_ORDER;
        if !orders.contains(&sq_order)
            || !orders.contains(&cq_order)
            || regs.attr >> 16 != 0
            || regs.sq_base % SQE != 0
            || regs.cq_base % CQE != 0
            || regs.vector >= u32::from(self.vectors)
        {
            return inner.die(&format!("unusable queue registers {regs:x?}"));
        }
        for (base, len) in [
            (regs.sq_base, SQE << sq_order),
            (regs.cq_base, CQE << cq_order),
        ] {
            let mut whole = vec![0; len as usize];
            if let Err(fault) = self.memory.read(base, &mut whole) {
                return inner.die(&format!("queue memory: {fault}"));
            }
        }
        let owners = inner.rows.owners();
        inner.live = Some(Live::new(regs, sq_order, cq_order, owners));
    }

    fn consumed(&self, inner: &mut Inner, head: u32) {
        let Some(live) = inner.live.as_mut() else {
            return;
        };
        let count = head.wrapping_sub(live.cq_head);
        if count > live.cq_tail.wrapping_sub(live.cq_head) {
            return inner.die("CQ_HEAD is ahead of the completions");
        }
        live.cq_head = head;
        live.outstanding = live.outstanding.saturating_sub(count);
        self.fetch(inner);
    }
}

impl Inner {
    fn disable(&mut self) {
        if let Some(live) = self.live.take() {
            live.end();
            self.stats.resets += 1;
        }
        self.fatal = false;
    }

    /// FATAL: nothing of the queue is touched until ENABLE = 0.
    fn die(&mut self, why: &str) {
        log::error!("admin queue: {why}");
        if let Some(live) = &self.live {
            live.end();
        }
        self.fatal = true;
    }

    fn live_of(&mut self, command: &Command) -> Option<&mut Live> {
        let live = self.live.as_mut().filter(|_| !self.fatal && !self.stuck)?;
        live.owns(command).then_some(live)
    }
}

fn set_low(reg: &mut u64, value: u32) {
    *reg = *reg & !0xffff_ffff | u64::from(value);
}

fn set_high(reg: &mut u64, value: u32) {
    *reg = *reg & 0xffff_ffff | u64::from(value) << 32;
}
