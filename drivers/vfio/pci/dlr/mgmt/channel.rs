// SPDX-License-Identifier: GPL-2.0

//! Channels: what the service keeps for each data function.

use super::log::Log;
use crate::{
    kext::{
        budget::Budget,
        event::Event, //
    },
    proto::admin::Command, //
};
use kernel::{
    new_mutex, new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc,
        Mutex,
        SpinLock, //
    },
};

/// Callbacks to the driver of a data function.
pub(crate) trait Client: Send + Sync {
    /// The log's vector was raised, so that the ring may have entries. Called in the thread of the
    /// interrupt; may sleep and call the service.
    fn log_ready(&self);

    /// The log has ended because the management function was reset or suspended: the device logs no
    /// more writes. Every report must fail until the log is started again. The implementation must
    /// not take a lock that is held across accesses to user memory or across calls to the service,
    /// and must not call the service, whose locks may be held.
    fn ended(&self) {}

    /// The management function is gone for good; every later call fails with `ENOTCONN`. May sleep,
    /// but the caller may be inside a call of this same client: the implementation must not take a
    /// lock that is held across calls to the service. May be called more than once.
    fn lost(&self);
}

/// Exclusive ownership of a channel by the driver of a data function, until it is dropped.
pub(crate) struct Claim(Arc<Channel>);

impl Claim {
    /// Claims the channel.
    ///
    /// # Errors
    ///
    /// `EBUSY` while another claim of the channel exists.
    pub(super) fn new(channel: Arc<Channel>) -> Result<Self> {
        // ORDERING: Pairs with the release in `drop`, so that this owner sees what the last one did
        // to the channel.
        match channel.claimed.cmpxchg(false, true, Acquire) {
            Ok(_) => Ok(Self(channel)),
            Err(_) => Err(EBUSY),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.claimed.store(false, Release);
    }
}

/// Callbacks to the threads that wait for data of a save session.
pub(crate) trait Reader: Send + Sync {
    /// A command of the session has ended, or the device has more to read. May be called with spin
    /// locks held and interrupts off: the implementation wakes threads and does nothing else.
    fn wake(&self);

    /// The session on the device has ended because the management function was reset. As
    /// [`Self::wake`].
    fn ended(&self);
}

/// State of one data function.
#[pin_data]
pub(super) struct Channel {
    /// Number of the function.
    pub(super) number: u16,
    /// Whether a [`Claim`] exists.
    claimed: Atomic<bool>,
    /// Signalled when log entries may have come and when a SYNC completes.
    #[pin]
    pub(super) event: Event,
    /// Signalled when a command of a session may find room in the queue, or must not wait for it.
    #[pin]
    pub(super) room: Event,
    /// Budget for the clean-up while the last user closes the function.
    #[pin]
    pub(super) closing: SpinLock<Option<Budget>>,
    /// DMA address of the status page, or 0. A recovery submits it again after a reset.
    pub(super) page: Atomic<u64>,
    /// The device updates the status page: the last STATUS_PAGE has succeeded, and no reset came
    /// after it. Set and cleared under `Queue::state`.
    page_live: Atomic<bool>,
    #[pin]
    pub(super) log: Mutex<Log>,
    #[pin]
    client: Mutex<Option<Arc<dyn Client>>>,
    /// Taken inside `Queue::state`.
    #[pin]
    reader: SpinLock<Option<Arc<dyn Reader>>>,
}

impl Channel {
    /// Creates a channel without client, reader and log.
    pub(super) fn new(number: u16) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                number,
                claimed: Atomic::new(false),
                event <- Event::new(),
                room <- Event::new(),
                closing <- new_spinlock!(None, "dlr_mgmt::Channel::closing"),
                page: Atomic::new(0),
                page_live: Atomic::new(false),
                log <- new_mutex!(Log::new(), "dlr_mgmt::Channel::log"),
                client <- new_mutex!(None, "dlr_mgmt::Channel::client"),
                reader <- new_spinlock!(None, "dlr_mgmt::Channel::reader"),
            }),
            GFP_KERNEL,
        )
    }

    /// Replaces the client.
    pub(super) fn set_client(&self, client: Option<Arc<dyn Client>>) {
        let old = core::mem::replace(&mut *self.client.lock(), client);
        // Outside the lock: this may drop the last reference.
        drop(old);
    }

    /// Replaces the reader of the function's save session.
    pub(super) fn set_reader(&self, reader: Option<Arc<dyn Reader>>) {
        let old = core::mem::replace(&mut *self.reader.lock(), reader);
        // Outside the lock: this may drop the last reference, which sleeps.
        drop(old);
    }

    /// Wakes the reader, if there is one. Must not be called in hard interrupt context.
    pub(super) fn wake_reader(&self) {
        // With the lock held, not on a clone: the clone could become the last reference, whose drop
        // sleeps, while the caller must not sleep.
        if let Some(reader) = &*self.reader.lock() {
            reader.wake();
        }
    }

    /// Tells the reader, if there is one, that the device has no session any more.
    pub(super) fn end_reader(&self) {
        if let Some(reader) = &*self.reader.lock() {
            reader.ended();
        }
    }

    /// Tells client and reader that the device has lost the log and the session of the function,
    /// and wakes the threads that wait for them. Sleeps.
    pub(super) fn ended(&self) {
        if let Some(client) = self.client() {
            client.ended();
        }
        self.end_reader();
        self.event.signal();
        self.room.signal();
    }

    /// Returns whether the status page is current. Without that it must not be read.
    pub(super) fn is_page_live(&self) -> bool {
        self.page_live.load(Relaxed)
    }

    /// Notes whether the device updates the status page. The caller holds `Queue::state`.
    pub(super) fn set_page_live(&self, live: bool) {
        self.page_live.store(live, Relaxed);
    }

    /// Wakes the threads that wait for a command of the function to end.
    pub(super) fn command_ended(&self, command: &Command) {
        if command.is_log_sync() {
            self.event.signal();
        } else {
            self.wake_reader();
        }
    }

    /// Returns the client. The caller calls it with no lock of the channel held.
    pub(super) fn client(&self) -> Option<Arc<dyn Client>> {
        self.client.lock().clone()
    }
}

#[kunit_tests(dlr_mgmt_channel)]
mod tests {
    use super::*;
    use kernel::time::Jiffies;

    struct User {
        ended: Atomic<u32>,
        others: Atomic<u32>,
    }

    impl User {
        fn new() -> Result<Arc<Self>> {
            let user = Self {
                ended: Atomic::new(0),
                others: Atomic::new(0),
            };
            Ok(Arc::new(user, GFP_KERNEL)?)
        }

        fn heard(&self) -> (u32, u32) {
            (self.ended.load(Relaxed), self.others.load(Relaxed))
        }
    }

    impl Client for User {
        fn log_ready(&self) {
            self.others.fetch_add(1, Relaxed);
        }

        fn ended(&self) {
            self.ended.fetch_add(1, Relaxed);
        }

        fn lost(&self) {
            self.others.fetch_add(1, Relaxed);
        }
    }

    impl Reader for User {
        fn wake(&self) {
            self.others.fetch_add(1, Relaxed);
        }

        fn ended(&self) {
            self.ended.fetch_add(1, Relaxed);
        }
    }

    /// A poller of a session of which all was read has no command in flight whose end wakes it.
    #[test]
    fn v6_all_hear_that_log_and_session_have_ended() -> Result {
        let channel = Channel::new(0)?;
        let (client, reader) = (User::new()?, User::new()?);
        channel.set_client(Some(client.clone()));
        channel.set_reader(Some(reader.clone()));
        channel.ended();
        assert_eq!(client.heard(), (1, 0));
        assert_eq!(reader.heard(), (1, 0));
        for event in [&channel.event, &channel.room] {
            let wait = event.wait_killable_timeout(Jiffies::MIN);
            assert_eq!(wait, crate::kext::completion::Wait::Done);
        }
        Ok(())
    }
}
