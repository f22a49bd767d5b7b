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
    /// Ends the log by `stop`, which waits until the device has ended it. Called under the log lock
    /// of the caller.
    ///
    /// # Errors
    ///
    /// Those of `stop`. The ring then stays, because the device may still write it.
    pub(super) fn end_log(&self, stop: impl FnOnce() -> Result) -> Result {
        self.log.lock().active = false;
        stop()?;
        // Freed under the lock, because `shut_down` may free it at the same time.
        self.log.lock().ring = None;
        Ok(())
    }
}

#[kunit_tests(dlr_mgmt_channel)]
mod tests {
    use super::{
        super::log::Ring,
        *, //
    };
    use crate::{
        ext::testing::{
            holds,
            DmaDevice, //
        },
        vfio::dirty::ring::CHUNK,
    };

    /// Log2 of the number of entries.
    const ORDER: u32 = 6;

    /// The device may write to the ring until it has said that the log has ended (mutant D31).
    #[test]
    fn a_ring_stays_until_the_device_has_ended_the_log() -> Result {
        let device = DmaDevice::new(c"dlr-kunit-log")?;
        let memory = device.alloc::<[u64; CHUNK]>((1 << ORDER) / CHUNK)?;
        let channel = FunctionData::channel(0)?;
        *channel.log.lock() = Log {
            ring: Some(Ring::new(memory, ORDER)),
            active: true,
        };
        let has_ring = || channel.log.lock().ring.is_some();
        let refused = channel.end_log(|| holds(has_ring()).and(Err(EIO)));
        assert_eq!(refused, Err(EIO));
        assert!(has_ring() && !channel.log.lock().active);
        assert_eq!(channel.end_log(|| holds(has_ring())), Ok(()));
        assert!(!has_ring());
        Ok(())
    }
}
