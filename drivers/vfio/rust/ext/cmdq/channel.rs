// SPDX-License-Identifier: GPL-2.0

//! Channels: the state that the queue and the driver of the management function keep for each
//! function that it serves.

use crate::ext::{
    budget::Budget,
    event::Event, //
};
use core::ops::Deref;
use kernel::{
    new_mutex, new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Arc,
        Mutex,
        SpinLock, //
    },
};

/// Callbacks to the driver of a function.
///
/// # Examples
///
/// The client of a log. From `drivers/vfio/pci/dlr/vf/tracker.rs`:
///
/// ```ignore
/// impl Client for Events {
///     fn raised(&self) {
///         self.0.ready();
///     }
///
///     fn ended(&self) {
///         self.0.poison();
///     }
///
///     fn lost(&self) {}
/// }
/// ```
pub(crate) trait Client: Send + Sync {
    /// Called in the thread of the interrupt when the vector of the function was raised. May sleep
    /// and submit commands.
    fn raised(&self);

    /// Called when a reset or a suspend of the management function has ended what the device did
    /// for the function. For example, a log has ended, and every report must fail until a log is
    /// started again. The implementation must not take a lock that is held across accesses to user
    /// memory or across commands, and must not submit commands, because locks of the queue may be
    /// held.
    fn ended(&self) {}

    /// Called when the management function is gone for good, so that every later command fails with
    /// `ENOTCONN`. May sleep, but the caller may be inside a call of this same client: the
    /// implementation must not take a lock that is held across commands. May be called more than
    /// once.
    fn lost(&self);
}

/// Exclusive ownership of a channel by the driver of its function, until it is dropped.
pub(crate) struct Claim<T>(Arc<Channel<T>>);

impl<T> Claim<T> {
    /// Claims the channel.
    ///
    /// # Errors
    ///
    /// `EBUSY` while another claim of the channel exists.
    pub(crate) fn new(channel: Arc<Channel<T>>) -> Result<Self> {
        // ORDERING: Pairs with the release in `drop`, so that this owner sees what the last one did
        // to the channel.
        match channel.claimed.cmpxchg(false, true, Acquire) {
            Ok(_) => Ok(Self(channel)),
            Err(_) => Err(EBUSY),
        }
    }
}

impl<T> Drop for Claim<T> {
    fn drop(&mut self) {
        self.0.claimed.store(false, Release);
    }
}

/// Callbacks to the threads that wait for data of a session.
///
/// # Examples
///
/// From `drivers/vfio/pci/dlr/vf/save.rs`:
///
/// ```ignore
/// impl Reader for Sleepers {
///     fn wake(&self) {
///         Sleepers::wake(self);
///     }
///
///     fn ended(&self) {
///         self.poison();
///     }
/// }
/// ```
pub(crate) trait Reader: Send + Sync {
    /// Called when a command of the session has ended or the device has more to read. The caller
    /// may hold spin locks with interrupts off, so the implementation wakes threads and does
    /// nothing else.
    fn wake(&self);

    /// Called when a reset of the management function has ended the session on the device, in the
    /// same contexts as [`Self::wake`].
    fn ended(&self);
}

/// State of one function. It dereferences to the data of the driver.
#[pin_data]
pub(crate) struct Channel<T> {
    /// Number of the function.
    pub(crate) number: u16,
    /// Whether a [`Claim`] exists.
    claimed: Atomic<bool>,
    /// Signalled when the vector was raised and when a command without a reader ends.
    #[pin]
    pub(crate) event: Event,
    /// Signalled when a command of a session may find room in the queue, or must not wait for it.
    #[pin]
    pub(super) room: Event,
    /// Budget for the clean-up while the last user closes the function.
    #[pin]
    closing: SpinLock<Option<Budget>>,
    #[pin]
    client: Mutex<Option<Arc<dyn Client>>>,
    /// Taken inside `Queue::state`.
    #[pin]
    reader: SpinLock<Option<Arc<dyn Reader>>>,
    #[pin]
    data: T,
}

impl<T> Deref for Channel<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> Channel<T> {
    /// Creates a channel without client and reader.
    pub(crate) fn new(number: u16, data: impl PinInit<T>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                number,
                claimed: Atomic::new(false),
                event <- Event::new(),
                room <- Event::new(),
                closing <- new_spinlock!(None, "cmdq::Channel::closing"),
                client <- new_mutex!(None, "cmdq::Channel::client"),
                reader <- new_spinlock!(None, "cmdq::Channel::reader"),
                data <- data,
            }),
            GFP_KERNEL,
        )
    }

    /// Replaces the client.
    pub(crate) fn set_client(&self, client: Option<Arc<dyn Client>>) {
        let old = core::mem::replace(&mut *self.client.lock(), client);
        // Drop the old client outside the lock, because this may be the last reference.
        drop(old);
    }

    /// Replaces the reader of the function's session.
    pub(crate) fn set_reader(&self, reader: Option<Arc<dyn Reader>>) {
        let old = core::mem::replace(&mut *self.reader.lock(), reader);
        // Drop the old reader outside the lock, because dropping the last reference sleeps.
        drop(old);
    }

    /// Wakes the reader, if there is one. Must not be called in hard interrupt context.
    pub(super) fn wake_reader(&self) {
        // Call it with the lock held and not on a clone. The clone could become the last reference,
        // whose drop sleeps, and the caller must not sleep.
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

    /// Tells client and reader that what the device did for the function has ended, and wakes the
    /// threads that wait for it. Sleeps.
    pub(super) fn ended(&self) {
        if let Some(client) = self.client() {
            client.ended();
        }
        self.end_reader();
        self.event.signal();
        self.room.signal();
    }

    /// Wakes the threads that wait for a command of the function to end. `wakes_reader` is the
    /// property of the command.
    pub(super) fn command_ended(&self, wakes_reader: bool) {
        if wakes_reader {
            self.wake_reader();
        } else {
            self.event.signal();
        }
    }

    /// Begins the close by the last user. Until [`Self::end_closing`] all clean-up shares one
    /// [`Budget`], because other tasks wait uninterruptibly for the close.
    pub(crate) fn begin_closing(&self) {
        *self.closing.lock() = Some(Budget::new());
    }

    /// Ends what [`Self::begin_closing`] began.
    pub(crate) fn end_closing(&self) {
        *self.closing.lock() = None;
    }

    /// Returns the budget for a clean-up that begins now.
    pub(crate) fn budget(&self) -> Budget {
        self.closing.lock().unwrap_or_else(Budget::new)
    }

    /// Returns the client. The caller calls it with no lock of the channel held.
    pub(super) fn client(&self) -> Option<Arc<dyn Client>> {
        self.client.lock().clone()
    }
}

#[kunit_tests(ext_cmdq_channel)]
mod tests {
    use super::*;
    use kernel::{
        sync::atomic::Relaxed,
        time::Jiffies, //
    };

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
        fn raised(&self) {
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
        let channel = Channel::new(0, ())?;
        let (client, reader) = (User::new()?, User::new()?);
        channel.set_client(Some(client.clone()));
        channel.set_reader(Some(reader.clone()));
        channel.ended();
        assert_eq!(client.heard(), (1, 0));
        assert_eq!(reader.heard(), (1, 0));
        for event in [&channel.event, &channel.room] {
            let wait = event.wait_killable_timeout(Jiffies::MIN);
            assert_eq!(wait, crate::ext::completion::Wait::Done);
        }
        Ok(())
    }

    #[test]
    fn a_function_is_claimed_once() -> Result {
        let channel = Channel::new(0, ())?;
        let claim = Claim::new(channel.clone())?;
        assert_eq!(Claim::new(channel.clone()).err(), Some(EBUSY));
        drop(claim);
        let _again = Claim::new(channel)?;
        Ok(())
    }
}
