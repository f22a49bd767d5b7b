// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The data function, as the log engine sees it.

use dlr_core::{DataFunction, FnState, LoadError};

use super::state::World;

/// The function and its DMA gate: a write that has begun ends before the gate is closed.
pub(super) struct Gate<'a>(pub(super) &'a World);

impl DataFunction for Gate<'_> {
    fn state(&self) -> FnState {
        FnState::Running
    }

    fn suspend(&self, _: FnState) {
        self.0.end_write();
    }

    fn resume(&self, _: FnState) {}

    fn quiesced(&self, f: &mut dyn FnMut()) {
        self.0.end_write();
        f();
    }

    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    fn load(&self, _: &[u8]) -> Result<(), LoadError> {
        Ok(())
    }

    fn reset(&self) {}

    fn stats_json(&self) -> String {
        "{}".into()
    }
}
