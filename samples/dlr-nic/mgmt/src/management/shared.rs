// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the threads of the management function share.

use std::sync::{
    atomic::{AtomicBool, AtomicU64},
    Arc,
};

use dlr_core::DmaMemory;
use parking_lot::Mutex;

use crate::{
    config::Config, epoch::Epoch, fault::Faults, kick::Kick, pending::Pending, port::Port,
    queue::AdminQueue,
};

/// What a row is at.
#[derive(Debug, Default)]
pub(super) struct Current(pub(super) Mutex<Option<Arc<Epoch>>>);

impl Current {
    /// The row executes a command that was dropped meanwhile.
    pub(super) fn is_dropped(&self) -> bool {
        self.0.lock().as_ref().is_some_and(|epoch| !epoch.alive())
    }
}

/// What the threads of the management function share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) queue: AdminQueue,
    pub(super) ports: Vec<Arc<Port>>,
    pub(super) memory: Arc<dyn DmaMemory>,
    pub(super) faults: Faults,
    /// What each row of commands is at.
    pub(super) current: Vec<Current>,
    /// CONTROL.RESET.
    pub(super) reset: Pending,
    /// FN_ABORT of each function.
    pub(super) aborts: Vec<Pending>,
    /// Resets by CONTROL and function-level resets since the NIC started.
    pub(super) resets: AtomicU64,
    pub(super) flrs: AtomicU64,
    /// Torn out, as far as the host can see.
    pub(super) gone: AtomicBool,
    pub(super) kick: Arc<Kick>,
}
