// SPDX-License-Identifier: GPL-2.0

//! The VMM of the model: it copies what a report names.

use super::{
    model::{
        Model,
        HALVES, //
    },
    model_setup::BASE, //
};
use crate::vfio::iova_bitmap::{
    DirtySink,
    IovaRange, //
};
use kernel::prelude::*;

/// What the VMM does with a report: copies. Not more than it asked.
pub(super) struct Vmm<'a> {
    pub(super) model: &'a Model,
    pub(super) copy: [u32; HALVES],
    /// What the current report is about.
    pub(super) asked: IovaRange,
    /// Runs that the user's memory takes until it fails.
    pub(super) room: u32,
}

impl DirtySink for Vmm<'_> {
    fn set_run(&mut self, iova: u64, length: u64) -> Result {
        self.room = self.room.checked_sub(1).ok_or(EINTR)?;
        let memory = self.model.state.borrow().memory;
        let half = self.model.setup.shift - 1;
        let from = iova.max(self.asked.iova()) >> half;
        let end = iova.saturating_add(length).min(self.asked.end());
        let to = (end >> half).min(2 * BASE + HALVES as u64);
        for at in from.saturating_sub(2 * BASE)..to.saturating_sub(2 * BASE) {
            if let Some(copy) = self.copy.get_mut(at as usize) {
                *copy = memory[at as usize];
            }
        }
        Ok(())
    }
}
