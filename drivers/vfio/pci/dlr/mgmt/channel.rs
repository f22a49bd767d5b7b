// SPDX-License-Identifier: GPL-2.0

//! The state that the driver of the management function keeps for each data function.

use super::log::Log;
use crate::ext::cmdq::channel;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
};

/// State of one data function.
pub(super) type Channel = channel::Channel<FunctionData>;

/// Exclusive ownership of a channel by the driver of a data function.
pub(crate) type Claim = channel::Claim<FunctionData>;

/// Status page and log of a data function.
#[pin_data]
pub(crate) struct FunctionData {
    /// DMA address of the status page, or 0. A recovery submits it again after a reset.
    pub(super) page: Atomic<u64>,
    /// The device updates the status page: the last STATUS_PAGE has succeeded, and no reset came
    /// after it. Set and cleared under `Queue::state`.
    page_live: Atomic<bool>,
    #[pin]
    pub(super) log: Mutex<Log>,
}

impl FunctionData {
    /// Creates the channel of function `number`, without a log.
    pub(super) fn channel(number: u16) -> Result<Arc<Channel>> {
        Channel::new(
            number,
            pin_init!(Self {
                page: Atomic::new(0),
                page_live: Atomic::new(false),
                log <- new_mutex!(Log::new(), "dlr_mgmt::Channel::log"),
            }),
        )
    }

    /// Returns whether the status page is current. Without that it must not be read.
    pub(super) fn is_page_live(&self) -> bool {
        self.page_live.load(Relaxed)
    }

    /// Notes whether the device updates the status page. The caller holds `Queue::state`.
    pub(super) fn set_page_live(&self, live: bool) {
        self.page_live.store(live, Relaxed);
    }
}
