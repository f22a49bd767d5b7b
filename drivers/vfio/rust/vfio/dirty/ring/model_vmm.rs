// SPDX-License-Identifier: GPL-2.0

//! The VMM of the model: it copies the granules that a report names.

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

/// A VMM that copies the granules that a report names, within the range that it asked about.
pub(super) struct Vmm<'a> {
    pub(super) model: &'a Model,
    pub(super) copy: [u32; HALVES],
    /// Range of the current report.
    pub(super) asked: IovaRange,
    /// Number of runs until `set_run` fails.
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
