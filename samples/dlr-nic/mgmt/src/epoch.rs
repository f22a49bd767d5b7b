// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the reset handshake takes from commands in flight: their access to host memory.

use std::sync::Arc;

use parking_lot::RwLock;

/// One enabled life of the queue. Commands keep theirs: after the reset handshake they may
/// not touch host memory any more.
#[derive(Debug)]
pub(crate) struct Epoch(RwLock<bool>);

impl Epoch {
    /// A new life.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(RwLock::new(true)))
    }

    /// Runs `f` unless the epoch is over; the epoch does not end while `f` runs.
    pub(crate) fn run<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        let alive = self.0.read_recursive();
        alive.then(f)
    }

    /// The queue has not been reset since the command was submitted.
    pub(crate) fn alive(&self) -> bool {
        *self.0.read_recursive()
    }

    /// The end; returns when no [`Self::run`] is under way.
    pub(crate) fn end(&self) {
        *self.0.write() = false;
    }
}
