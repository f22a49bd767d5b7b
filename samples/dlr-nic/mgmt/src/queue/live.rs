// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One enabled life of the queue: counts of its rings, and what each function has in flight.

use std::sync::Arc;

use dlr_abi::abi;

use crate::{epoch::Epoch, rows::Command};

/// Queue registers that are writable while the queue is not ready.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Regs {
    pub(super) sq_base: u64,
    pub(super) cq_base: u64,
    pub(super) attr: u32,
    pub(super) vector: u32,
}

/// What one function, or the NIC, has in flight.
struct Owner {
    /// Its commands' access to host memory.
    epoch: Arc<Epoch>,
    /// Commands that were fetched and neither completed nor dropped.
    fetched: u32,
    /// Submissions before this count were dropped before they were fetched.
    cut: Option<u32>,
}

/// See the module.
pub(super) struct Live {
    pub(super) regs: Regs,
    pub(super) sq_order: u32,
    pub(super) cq_order: u32,
    pub(super) sq_head: u32,
    pub(super) sq_tail: u32,
    pub(super) cq_head: u32,
    pub(super) cq_tail: u32,
    /// Fetched commands plus completions that the driver has not consumed. Never more than
    /// the completion ring has room for, so a completion always finds a slot.
    pub(super) outstanding: u32,
    /// The submission at the head, where it was read before it could be taken up: the device
    /// reads each entry once.
    pub(super) peeked: Option<abi::dlr_sqe>,
    owners: Vec<Owner>,
}

impl Live {
    /// Empty rings for `owners` functions, the NIC itself counted.
    pub(super) fn new(regs: Regs, sq_order: u32, cq_order: u32, owners: usize) -> Self {
        let owner = |_| Owner {
            epoch: Epoch::new(),
            fetched: 0,
            cut: None,
        };
        Self {
            regs,
            sq_order,
            cq_order,
            sq_head: 0,
            sq_tail: 0,
            cq_head: 0,
            cq_tail: 0,
            outstanding: 0,
            peeked: None,
            owners: (0..owners).map(owner).collect(),
        }
    }

    /// The end; returns when no command touches host memory any more.
    pub(super) fn end(&self) {
        for owner in &self.owners {
            owner.epoch.end();
        }
    }

    /// A completion fits.
    pub(super) fn has_room(&self) -> bool {
        self.outstanding < 1 << self.cq_order
    }

    /// Some submissions are to be dropped when they are met.
    pub(super) fn cuts(&self) -> bool {
        self.owners.iter().any(|owner| owner.cut.is_some())
    }

    /// The next submission, of `owner`, was dropped before it was fetched.
    pub(super) fn is_cut(&self, owner: usize) -> bool {
        let cut = self.owners.get(owner).and_then(|owner| owner.cut);
        cut.is_some_and(|cut| (cut.wrapping_sub(self.sq_head) as i32) > 0)
    }

    /// One submission has been met.
    pub(super) fn advance(&mut self) {
        self.sq_head = self.sq_head.wrapping_add(1);
        for owner in &mut self.owners {
            if owner.cut == Some(self.sq_head) {
                owner.cut = None;
            }
        }
    }

    /// A command of `owner` goes to its row.
    pub(super) fn take_up(&mut self, owner: usize) -> Option<Arc<Epoch>> {
        let owner = self.owners.get_mut(owner)?;
        owner.fetched += 1;
        self.outstanding += 1;
        Some(owner.epoch.clone())
    }

    /// `command` was submitted in this life and has not been dropped.
    pub(super) fn owns(&self, command: &Command) -> bool {
        let owner = self.owners.get(command.owner);
        owner.is_some_and(|owner| Arc::ptr_eq(&owner.epoch, &command.epoch))
    }

    /// A command of `owner` is no longer in execution; its completion, if it gets one, still
    /// counts as outstanding.
    pub(super) fn settle(&mut self, owner: usize) {
        if let Some(owner) = self.owners.get_mut(owner) {
            owner.fetched = owner.fetched.saturating_sub(1);
        }
    }

    /// Drops all that `owner` has submitted. The caller ends the epoch that it gets.
    pub(super) fn drop_all(&mut self, owner: usize) -> Option<Arc<Epoch>> {
        let cut = (self.sq_head != self.sq_tail).then_some(self.sq_tail);
        let owner = self.owners.get_mut(owner)?;
        self.outstanding = self.outstanding.saturating_sub(owner.fetched);
        owner.fetched = 0;
        owner.cut = cut;
        Some(std::mem::replace(&mut owner.epoch, Epoch::new()))
    }
}
