// SPDX-License-Identifier: GPL-2.0

//! The trait of a save session, which reads the state of a device.

use super::{
    accounting::Pending,
    pipeline::Delivered, //
};
use kernel::{
    new_condvar,
    new_poll_condvar,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        poll::PollCondVar,
        Arc,
        CondVar, //
    },
    ModuleMetadata, //
};

/// A save session that the device has begun.
pub(crate) struct SaveStart<S: SaveSource> {
    /// The session on the device.
    pub(crate) source: S,
    /// The memory for reads. Their number limits the reads that are in flight or wait for the user.
    /// They are charged to the caller. Besides them a session only needs what
    /// [`SaveSource::prepare`] allocates for a read.
    pub(crate) buffers: KVec<Arc<S::Buffer>>,
    /// Size of one buffer in bytes.
    pub(crate) capacity: usize,
    /// Bytes of state that have not been read.
    pub(crate) pending: Pending,
}

/// A save session on a device. Several reads can be in flight while the user reads earlier data.
///
/// A read has two steps. [`Self::prepare`] may wait for memory. [`Self::submit`] gives the read to
/// the device with a lock held that a reset takes, so that a read of a session that has ended never
/// reaches the device, where the next session may have begun.
///
/// # Examples
///
/// A source that reads by commands of a management function. [`Framing`](super::framing::Framing)
/// checks that the user has read the whole stream. From `drivers/vfio/pci/dlr/vf/save.rs`:
///
/// ```ignore
/// impl SaveSource for Source {
///     type OwnerModule = crate::LocalModule;
///     type Buffer = Buffer;
///     type Prepared = Prepared;
///     type Read = Ticket;
///     type Check = Framing;
///
///     fn check(&self) -> Framing {
///         Framing::new(self.function.info().max_state_bytes)
///     }
///
///     fn prepare(&self, buffer: &Arc<Buffer>, fin: bool) -> Result<Prepared> {
///         self.function.prepare_read(buffer, fin)
///     }
///
///     fn submit(&self, prepared: Prepared) -> Result<Arc<Ticket>> {
///         prepared.submit()
///     }
///
///     // …
///     fn wait(read: &Ticket) -> Result<Delivered> {
///         read.wait().map(delivered)
///     }
///
///     // …
///     fn copy_out(&self, buffer: &Buffer, from: usize, to: &mut [u8]) -> Result {
///         buffer.copy_out(from, to)
///     }
///
///     fn try_pending(&self) -> Result<Option<Pending>> {
///         Ok(self.function.try_status()?.as_ref().map(pending))
///     }
///
///     // …
///     fn end(&self) -> Result {
///         self.function.save_end()
///     }
/// }
/// ```
pub(crate) trait SaveSource: Send + Sync + 'static {
    /// The module that has the code of the methods. The open file of the session pins it.
    type OwnerModule: ModuleMetadata;

    /// Memory that the device fills.
    type Buffer: Send + Sync + 'static;

    /// A read whose memory is allocated.
    type Prepared;

    /// A read that was given to the device.
    type Read: Send + Sync + 'static;

    /// The check of the stream on its way to the user.
    type Check: StreamCheck + Send + Unpin;

    /// Makes the check for the beginning of the stream.
    fn check(&self) -> Self::Check;

    /// Prepares the next read. With `fin` the device is stopped, and reads return the final data up
    /// to the end of the stream.
    ///
    /// # Errors
    ///
    /// `EBUSY`: another thread is about to start a read into `buffer`; the layer tries again a
    /// moment later. Any other, such as `ENOMEM`, ends the stream, also when the guest is stopped:
    /// the migration then fails.
    fn prepare(&self, buffer: &Arc<Self::Buffer>, fin: bool) -> Result<Self::Prepared>;

    /// Gives the read to the device. Does not sleep. Reads complete in the order of submission.
    ///
    /// # Errors
    ///
    /// `EBUSY`: there is no room for the command now; see [`Self::wait_for_room`]. Any other ends
    /// the stream.
    fn submit(&self, prepared: Self::Prepared) -> Result<Arc<Self::Read>>;

    /// Returns whether `read` has ended, so that [`Self::wait`] does not sleep.
    fn is_done(read: &Self::Read) -> bool;

    /// Waits for the end of a read and returns its result. It may be called several times and by
    /// several threads.
    ///
    /// # Errors
    ///
    /// `EINTR`: a fatal signal is pending; the read goes on. Any other: the read has failed.
    fn wait(read: &Self::Read) -> Result<Delivered>;

    /// Like [`Self::wait`], but any signal ends the wait.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS`: a signal is pending; the read goes on. Any other: the read has failed.
    fn wait_interruptible(read: &Self::Read) -> Result<Delivered>;

    /// Sleeps until [`Self::submit`] may succeed, after it has returned `EBUSY`. The default is for
    /// a source whose [`Self::submit`] never returns `EBUSY`.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS`: a signal is pending. Any other error fails this read().
    fn wait_for_room(&self) -> Result {
        Err(EIO)
    }

    /// Copies bytes that a read has delivered, from byte `from` of the buffer on.
    ///
    /// # Errors
    ///
    /// Any error is returned to the user.
    fn copy_out(&self, buffer: &Self::Buffer, from: usize, to: &mut [u8]) -> Result;

    /// Returns the bytes of state that have not been read, or `None` while the device updates them.
    /// Does not sleep and sends no command to the device: VMMs call this thousands of times a
    /// second.
    ///
    /// # Errors
    ///
    /// Any error is returned to the user.
    fn try_pending(&self) -> Result<Option<Pending>>;

    /// Calls `look`, which calls [`Self::try_pending`], until it returns an answer, and sleeps in
    /// between. The default is for a source whose [`Self::try_pending`] always has an answer.
    ///
    /// # Errors
    ///
    /// Those of `look`. `EIO`: there was no answer for too long.
    fn look<R>(&self, mut look: impl FnMut() -> Result<Option<R>>) -> Result<R> {
        look()?.ok_or(EIO)
    }

    /// Replaces the sleepers to wake when a read ends, and when the device has data again after it
    /// had none. The default is for a source whose reads end at once.
    fn set_sleepers(&self, sleepers: Option<Arc<Sleepers>>) {
        let _ = sleepers;
    }

    /// Ends the session on the device. It must ignore signals and return within seconds.
    ///
    /// # Errors
    ///
    /// Any error means that the device may still have the session.
    fn end(&self) -> Result;
}

/// Checks a stream on its way to the user, to tell whether it is complete.
///
/// If a stream ends early, the target fails the arc that leaves RESUMING, and QEMU nevertheless
/// reports that the migration has completed. So the last read() of such a stream fails on the
/// source, and the guest continues there.
pub(crate) trait StreamCheck {
    /// Checks the next bytes of the stream.
    fn push(&mut self, bytes: &[u8]);

    /// Returns whether the stream is complete.
    fn is_whole(&self) -> bool;

    /// Returns whether the stream cannot become complete any more, so that reads fail before its
    /// end.
    fn is_hopeless(&self) -> bool {
        false
    }
}

/// The check of streams that are complete when the device has no more data.
impl StreamCheck for () {
    fn push(&mut self, _bytes: &[u8]) {}

    fn is_whole(&self) -> bool {
        true
    }
}

/// The threads that sleep until a save session has data. The source may keep a reference longer
/// than the session exists.
#[pin_data]
pub(crate) struct Sleepers {
    /// Readers that wait for the end of a state change.
    #[pin]
    pub(super) readers: CondVar,
    /// Threads in `poll()`.
    #[pin]
    pub(super) pollers: PollCondVar,
    /// Set when the rest of the stream is lost: the PCI channel failed, or the device has lost the
    /// session.
    poisoned: Atomic<bool>,
}

impl Sleepers {
    /// Creates an object without sleepers.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            readers <- new_condvar!("vfio_save_readers"),
            pollers <- new_poll_condvar!("vfio_save_pollers"),
            poisoned: Atomic::new(false),
        })
    }

    /// Wakes pollers, because a read has ended or the device has more data. Readers wait for the
    /// read itself. Can be called from any context.
    pub(crate) fn wake(&self) {
        self.pollers.notify_all();
    }

    /// Makes reads fail from now on, because the device has lost the session. Can be called from
    /// any context.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Release);
        self.wake_all();
    }

    /// Returns whether the rest of the stream is lost.
    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Acquire)
    }

    /// Wakes all readers and pollers.
    pub(super) fn wake_all(&self) {
        self.readers.notify_all();
        self.pollers.notify_all();
    }
}
