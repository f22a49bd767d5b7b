// SPDX-License-Identifier: GPL-2.0

//! State and session of a device without the state lock, for debugfs, for error handlers, and for
//! queries that VMMs make thousands of times a second.

use super::{
    engine::Engine,
    load_session::LoadSession,
    save_session::SaveSession,
    state::State, //
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

/// The active session, if there is one: a copy of what the state lock protects.
pub(crate) struct Current<E: Engine> {
    /// The save session, in the pre-copy and stop-copy states.
    pub(crate) save: Option<Arc<SaveSession<E::Save>>>,
    /// The load session, in RESUMING.
    pub(crate) load: Option<Arc<LoadSession<E::Load>>>,
}

impl<E: Engine> Current<E> {
    /// Returns the value without a session.
    pub(super) const fn none() -> Self {
        Self {
            save: None,
            load: None,
        }
    }
}

impl<E: Engine> Clone for Current<E> {
    fn clone(&self) -> Self {
        Self {
            save: self.save.clone(),
            load: self.load.clone(),
        }
    }
}

/// State and session of a device. It may outlive the device.
#[pin_data]
pub(crate) struct View<E: Engine> {
    state: Arc<StateMirror>,
    /// An innermost lock: its holder takes no other lock but those of wait queues, which
    /// [`Self::poison`] wakes, and drops no session.
    #[pin]
    current: SpinLock<Current<E>>,
}

impl<E: Engine> View<E> {
    /// Makes a view without a session.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(state: Arc<StateMirror>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                state,
                current <- new_spinlock!(Current::none(), "vfio_current"),
            }),
            GFP_KERNEL,
        )
    }

    /// Returns the state after the last finished arc.
    pub(crate) fn state(&self) -> State {
        self.state.get()
    }

    /// Returns the active session.
    pub(crate) fn current(&self) -> Current<E> {
        self.current.lock().clone()
    }

    /// Makes the active session fail, if there is one. Does not sleep.
    pub(super) fn poison(&self) {
        // The lock is held meanwhile: a reference of our own might be the last one, and `Drop` of
        // the driver's types may sleep.
        let current = self.current.lock();
        if let Some(save) = &current.save {
            save.poison();
        }
        if let Some(load) = &current.load {
            load.poison();
        }
    }

    /// Returns whether there is no session.
    pub(crate) fn is_idle(&self) -> bool {
        let current = self.current.lock();
        current.save.is_none() && current.load.is_none()
    }

    /// Sets the active session. Called with the state lock held.
    pub(super) fn set_current(&self, current: Current<E>) {
        let old = core::mem::replace(&mut *self.current.lock(), current);
        // This may free a session, so it is outside of the lock.
        drop(old);
    }
}
