// SPDX-License-Identifier: Apache-2.0 OR MIT

//! From submission entries to commands in their rows.

use dlr_abi::abi;
use dlr_core::DmaFault;
use zerocopy::{FromZeros, IntoBytes};

use super::{live::Live, AdminQueue, Inner, SQE};
use crate::rows::Command;

impl AdminQueue {
    /// Copies new submissions and hands them to their workers.
    pub(super) fn fetch(&self, inner: &mut Inner) {
        loop {
            if inner.fatal {
                return;
            }
            let Some(live) = inner.live.as_mut() else {
                return;
            };
            let waiting = live.sq_tail.wrapping_sub(live.sq_head);
            if waiting > 1 << live.sq_order {
                return inner.die("SQ_TAIL is more than a ring ahead");
            }
            // Without room only submissions that are dropped anyway are passed over.
            if waiting == 0 || !live.has_room() && !live.cuts() {
                return;
            }
            let sqe = match live.peeked.take() {
                Some(sqe) => sqe,
                None => match self.read_entry(live) {
                    Ok(sqe) => sqe,
                    Err(fault) => return inner.die(&format!("submission: {fault}")),
                },
            };
            let owner = inner.rows.owner(&sqe);
            if live.is_cut(owner) {
                live.advance();
                continue;
            }
            if !live.has_room() {
                live.peeked = Some(sqe);
                return;
            }
            live.advance();
            inner.stats.submitted += 1;
            if let Some(epoch) = live.take_up(owner) {
                inner.rows.submit(Command { sqe, epoch, owner });
            }
        }
    }

    /// The submission entry at the head.
    fn read_entry(&self, live: &Live) -> Result<abi::dlr_sqe, DmaFault> {
        let slot = live.sq_head & ((1 << live.sq_order) - 1);
        let at = live.regs.sq_base + u64::from(slot) * SQE;
        let mut sqe = abi::dlr_sqe::new_zeroed();
        self.memory.read(at, sqe.as_mut_bytes())?;
        Ok(sqe)
    }
}
