// SPDX-License-Identifier: GPL-2.0

//! What the service keeps for each data function.

use super::log::Log;
use crate::kext::completion::Event;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

/// What a data function's driver wants to be told.
pub(crate) trait Client: Send + Sync {
    /// The log's interrupt fired: entries wait, perhaps. In the interrupt's thread; may sleep and call the
    /// service.
    fn log_ready(&self);

    /// The management function is gone for good; every later call says `ENOTCONN`. Sleeping is fine, but
    /// the caller may be inside of a call of this same client: take no lock that is held across calls of
    /// the service. Called at most twice.
    fn lost(&self);
}

/// One data function.
#[pin_data]
pub(super) struct Channel {
    /// Its number.
    pub(super) number: u16,
    /// Signalled when log entries may have come and when a SYNC completes.
    #[pin]
    pub(super) event: Event,
    #[pin]
    pub(super) log: Mutex<Log>,
    #[pin]
    client: Mutex<Option<Arc<dyn Client>>>,
}

impl Channel {
    /// No client, no log.
    pub(super) fn new(number: u16) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                number,
                event <- Event::new(),
                log <- new_mutex!(Log::new(), "dlr_mgmt::Channel::log"),
                client <- new_mutex!(None, "dlr_mgmt::Channel::client"),
            }),
            GFP_KERNEL,
        )
    }

    /// Replaces the client.
    pub(super) fn set_client(&self, client: Option<Arc<dyn Client>>) {
        let old = core::mem::replace(&mut *self.client.lock(), client);
        // Outside of the lock: may be the last reference.
        drop(old);
    }

    /// The client. Calls go to a reference of their own, so that no lock of ours is held meanwhile.
    pub(super) fn client(&self) -> Option<Arc<dyn Client>> {
        self.client.lock().clone()
    }
}
