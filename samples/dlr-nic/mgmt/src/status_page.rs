// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The block of host memory that the device keeps current for each data function.

use std::sync::Arc;

use dlr_abi::abi;
use dlr_core::DmaMemory;
use zerocopy::IntoBytes;

use crate::state::save::Pending;

/// What the page shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// `DLR_HEALTH_*`.
    pub(crate) health: u32,
    /// Bytes to come.
    pub(crate) pending: Pending,
    /// Times that an initial image started anew.
    pub(crate) reinit_count: u32,
    /// LOST entries ever.
    pub(crate) log_lost_count: u32,
}

/// Writer of one function's page.
pub(crate) struct StatusPage {
    memory: Arc<dyn DmaMemory>,
    addr: Option<u64>,
    seq: u32,
    /// An injected fault: no update ever ends.
    torn: bool,
}

impl StatusPage {
    /// No page yet. `memory` is the MF's.
    pub(crate) fn new(memory: Arc<dyn DmaMemory>) -> Self {
        Self {
            memory,
            addr: None,
            seq: 0,
            torn: false,
        }
    }

    /// Where the page is from now on; `None` for nowhere.
    pub(crate) fn set(&mut self, addr: Option<u64>) {
        self.addr = addr;
    }

    /// An injected fault, or its end: see [`StatusPage::update`].
    pub(crate) fn tear(&mut self, torn: bool) {
        self.torn = torn;
    }

    /// There is a page.
    pub(crate) fn wanted(&self) -> bool {
        self.addr.is_some()
    }

    /// Writes the page. False when it cannot be reached; it is given up then.
    pub(crate) fn update(&mut self, shown: &Snapshot) -> bool {
        let Some(addr) = self.addr else {
            return true;
        };
        let odd = self.seq.wrapping_add(1) | 1;
        let page = abi::dlr_status_page {
            seq: odd,
            health: shown.health,
            initial_bytes: shown.pending.initial,
            dirty_bytes: shown.pending.dirty,
            total_bytes: shown.pending.total,
            reinit_count: shown.reinit_count,
            log_lost_count: shown.log_lost_count,
            reserved: [0; 3],
        };
        let even = odd.wrapping_add(u32::from(!self.torn));
        let first = u64::from(even) | u64::from(shown.health) << 32;
        // Ordered writes: seq odd, all of it, seq even.
        let result = self
            .memory
            .write_u64(addr, u64::from(odd) | u64::from(shown.health) << 32)
            .and_then(|()| self.memory.write(addr, page.as_bytes()))
            .and_then(|()| self.memory.write_u64(addr, first));
        self.seq = even;
        if let Err(fault) = result {
            log::error!("status page: {fault}; given up");
            self.addr = None;
            return false;
        }
        true
    }
}
