// SPDX-License-Identifier: GPL-2.0

//! What others than the holder of the state lock may look at: debugfs, error handlers
//! and the questions that VMMs ask thousands of times a second.

use super::{
    dirty::Logging,
    resume::LoadSession,
    save::SaveSession, //
};
use crate::vfio::state_lock::StateMirror;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        Arc,
        SpinLock, //
    },
};

/// The session that is active, if any; a copy of what is under the state lock.
#[derive(Clone, Default)]
pub(super) struct Current {
    /// In the pre-copy and stop-copy states.
    pub(super) save: Option<Arc<SaveSession>>,
    /// While resuming.
    pub(super) load: Option<Arc<LoadSession>>,
}

/// See the module's page.
#[pin_data]
pub(super) struct Shared {
    /// The function's log.
    pub(super) logging: Arc<Logging>,
    /// State of the state machine.
    pub(super) state: Arc<StateMirror>,
    /// A leaf: nothing is taken under it, and no session is dropped under it.
    #[pin]
    current: SpinLock<Current>,
}

impl Shared {
    /// Without a session.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(logging: Arc<Logging>, state: Arc<StateMirror>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                logging,
                state,
                current <- new_spinlock!(Current::default(), "dlr_vf_current"),
            }),
            GFP_KERNEL,
        )
    }

    /// The active session.
    pub(super) fn current(&self) -> Current {
        self.current.lock().clone()
    }

    /// Called under the state lock when a session begins or ends.
    pub(super) fn set_current(&self, current: Current) {
        let old = core::mem::replace(&mut *self.current.lock(), current);
        // Outside of the lock: this may free a session.
        drop(old);
    }
}
