// SPDX-License-Identifier: GPL-2.0

//! The trait of a load session, which writes state to a device.

use super::generation::SessionEpoch;
use kernel::{
    iov::IovIterSource,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Mutex, //
    },
    ModuleMetadata, //
};

/// A load session that the device has begun.
pub(crate) struct LoadStart<L: LoadSink> {
    /// The session on the device.
    pub(crate) sink: L,
    /// The parser of the stream.
    pub(crate) parser: L::Parser,
    /// The commands to the device and their memory, charged to the caller.
    pub(crate) io: L::Io,
}

/// A load session on a device.
///
/// [`Self::write`] must make every check of the stream: after a failure of the arc that leaves
/// RESUMING, QEMU resets the device and reports that the migration has completed. That arc refuses
/// only a stream that is not complete, which the layer does.
///
/// # Examples
///
/// A sink whose parser says when a section, or the stream, is complete. From
/// `drivers/vfio/pci/dlr/vf/load.rs`:
///
/// ```ignore
/// impl LoadSink for Sink {
///     type OwnerModule = crate::LocalModule;
///     type Parser = Parser;
///     type Io = Lanes;
///
///     fn write(&self, parser: &mut Parser, src: &mut IovIterSource<'_>, io: &Io) -> Result<bool> {
///         let mut accepted = false;
///         while !src.is_empty() {
///             io.check()?;
///             // …
///             let (_, complete) = parser.take(available, &mut incoming)?;
///             match complete {
///                 None => (),
///                 Some(Complete::Section) => self.pass_on(parser, io)?,
///                 Some(Complete::Trailer) => {
///                     self.pass_on(parser, io)?;
///                     self.flush(io)?;
///                     self.commit(io)?;
///                     accepted = true;
///                 }
///             }
///         }
///         Ok(accepted)
///     }
///
///     // …
///     fn forget(parser: &mut Parser) {
///         parser.fail();
///     }
///
///     fn end(&self) -> Result {
///         self.function.load_abort()
///     }
/// }
/// ```
pub(crate) trait LoadSink: Send + Sync + 'static {
    /// The module that has the code of the methods. The open file of the session pins it.
    type OwnerModule: ModuleMetadata;

    /// The parser of the stream. One thread at a time uses it, and may access user memory
    /// meanwhile.
    type Parser: Send + Unpin;

    /// The commands to the device and their memory. It is used under a lock that a reset takes, so
    /// its user must not sleep.
    type Io: Send + Unpin;

    /// Takes all bytes of `src`; the user may split the stream anywhere. Returns whether the stream
    /// is complete and accepted. An error ends the session.
    ///
    /// # Errors
    ///
    /// * `EFAULT`: the user's memory cannot be read.
    /// * `ENODEV`, `EIO`: those of [`LoadIo`].
    /// * Any other: the stream is invalid, or goes on after its end.
    fn write(
        &self,
        parser: &mut Self::Parser,
        src: &mut IovIterSource<'_>,
        io: &LoadIo<Self::Io>,
    ) -> Result<bool>;

    /// Ends the session on the device after [`Self::write`] has failed, for example because the
    /// session has ended: the device may have the next one by now. So it gives its commands to the
    /// device only in [`LoadIo::with`], and only if not [`LoadIo::is_over`]. It must ignore signals
    /// and return within seconds.
    fn abort(&self, io: &LoadIo<Self::Io>) {
        let _ = io;
    }

    /// Frees the memory of a parser that is not used any more.
    fn forget(parser: &mut Self::Parser);

    /// Ends the session on the device when the user closes the device before the stream is
    /// complete. It must ignore signals and return within seconds.
    ///
    /// # Errors
    ///
    /// Any error means that the device may still have the session.
    fn end(&self) -> Result {
        Ok(())
    }
}

/// The data [`LoadSink::Io`] of a session, which is dropped when the session ends.
#[pin_data]
pub(crate) struct LoadIo<I> {
    epoch: SessionEpoch,
    /// Set when the PCI channel failed, so that the device has lost the stream.
    poisoned: Atomic<bool>,
    bytes: Atomic<u64>,
    /// `None` once the session has ended: the state was left, the device was reset or closed, or a
    /// write has failed.
    #[pin]
    io: Mutex<Option<I>>,
}

impl<I: Send + Unpin> LoadIo<I> {
    /// Creates the data of a session in `epoch`.
    pub(super) fn new(io: I, epoch: SessionEpoch) -> impl PinInit<Self> {
        pin_init!(Self {
            epoch,
            poisoned: Atomic::new(false),
            bytes: Atomic::new(0),
            io <- new_mutex!(Some(io), "vfio_load_io"),
        })
    }

    /// Runs `f` if the session has not ended. `f` must not sleep, because a reset waits for it. A
    /// command that `f` gives to the device reaches it before the next session can begin.
    ///
    /// # Errors
    ///
    /// `ENODEV`: the session has ended. Those of `f`.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut I) -> Result<R>) -> Result<R> {
        let mut io = self.io.lock();
        f((*io).as_mut().ok_or(ENODEV)?)
    }

    /// Checks whether the session can still take data.
    ///
    /// # Errors
    ///
    /// `ENODEV`: the session has ended. `EIO`: the PCI channel failed.
    pub(crate) fn check(&self) -> Result {
        if self.has_ended() {
            return Err(ENODEV);
        }
        if self.is_poisoned() {
            return Err(EIO);
        }
        Ok(())
    }

    /// Returns whether a reset of the function has ended the session on the device, even if the
    /// driver has not ended it yet.
    pub(crate) fn is_over(&self) -> bool {
        self.epoch.is_over()
    }

    /// Returns whether a thread is in [`Self::with`].
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn is_held(&self) -> bool {
        self.io.try_lock().is_none()
    }

    /// Stores the number of bytes of the stream that were taken, for debugfs.
    pub(crate) fn count(&self, bytes: u64) {
        self.bytes.store(bytes, Relaxed);
    }

    /// Returns the number of bytes of the stream that were taken.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Returns whether the driver has ended the session.
    pub(super) fn has_ended(&self) -> bool {
        self.io.lock().is_none()
    }

    /// Returns whether the PCI channel failed.
    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Acquire)
    }

    /// Notes that the PCI channel failed, so that the device has lost the stream.
    pub(super) fn poison(&self) {
        self.poisoned.store(true, Release);
    }

    /// Ends the session and frees its memory outside of the lock.
    pub(super) fn end(&self) {
        let io = self.io.lock().take();
        drop(io);
    }
}
