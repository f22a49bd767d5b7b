// SPDX-License-Identifier: GPL-2.0

//! A load session: the user writes device state to its file.
//!
//! # Locks
//!
//! * `writer` serialises writers. It is held while user memory is read and while a writer waits for
//!   the device. Only writers take it; [`LoadSession::end`] only tries to.
//! * `io`, taken inside `writer`, protects the commands to the device. Its holder does not sleep.
//!   The sink gives commands to the device with `io` held and only if the session has not ended, so
//!   no command reaches the device after the next session has begun.

use super::{
    generation::SessionEpoch,
    load::{
        LoadIo,
        LoadSink,
        LoadStart, //
    },
};
use crate::{
    ext::{
        gfp::USER,
        killable::lock_interruptible, //
    },
    vfio::migration_file::Resume,
};
use kernel::{
    iov::IovIterSource,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Arc,
        Mutex, //
    },
};

/// The progress of a session. It never goes back, but a write after the end of the stream changes
/// `Committed` to `Failed`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Progress {
    /// The session takes data.
    Open = 0,
    /// The sink has accepted the whole stream.
    Committed = 1,
    /// A write has failed.
    Failed = 2,
}

/// A load session.
#[pin_data]
pub(crate) struct LoadSession<L: LoadSink> {
    sink: L,
    progress: Atomic<u32>,
    #[pin]
    writer: Mutex<L::Parser>,
    #[pin]
    io: LoadIo<L::Io>,
}

impl<L: LoadSink> LoadSession<L> {
    /// Makes the session from what the device has begun.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(start: LoadStart<L>, epoch: SessionEpoch) -> Result<Arc<Self>> {
        let LoadStart { sink, parser, io } = start;
        Arc::pin_init(
            pin_init!(Self {
                sink,
                progress: Atomic::new(Progress::Open as u32),
                writer <- new_mutex!(parser, "vfio_load_writer"),
                io <- LoadIo::new(io, epoch),
            }),
            USER,
        )
    }

    /// Returns whether the sink has accepted the whole stream and the device still has it.
    pub(crate) fn is_committed(&self) -> bool {
        self.is(Progress::Committed) && self.check_kept().is_ok()
    }

    /// Runs `f` to activate a stream that was accepted.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the stream was not accepted. `ENODEV` if the function was reset meanwhile, `EIO`
    /// if the PCI channel failed: the device may have only a part of the state. Those of `f`.
    pub(super) fn install(&self, f: impl FnOnce(&L, &LoadIo<L::Io>) -> Result) -> Result {
        if !self.is_committed() {
            return Err(EINVAL);
        }
        f(&self.sink, &self.io)?;
        self.check_kept()
    }

    /// Checks whether the device still has what was written to it.
    fn check_kept(&self) -> Result {
        if self.io.is_over() {
            return Err(ENODEV);
        }
        if self.io.is_poisoned() {
            return Err(EIO);
        }
        Ok(())
    }

    /// Marks the stream as lost after a failure of the PCI channel: the reset that follows clears
    /// the device. Takes no lock.
    pub(crate) fn poison(&self) {
        self.io.poison();
    }

    /// Ends the session in the driver and frees its memory. Writes fail from then on.
    pub(crate) fn end(&self) {
        self.io.end();
        self.forget_memory();
    }

    /// Frees the memory of the parser if the session has ended. If a writer holds the parser, it
    /// calls this when it is done.
    fn forget_memory(&self) {
        // `end` has ended the session under `io` before it gets here. A writer checks under `io`
        // after it has released `writer`. So either the writer sees the end, or `writer` is free
        // here.
        if self.io.has_ended() {
            if let Some(mut parser) = self.writer.try_lock() {
                L::forget(&mut parser);
            }
        }
    }

    /// Ends the session on the device unless its stream was accepted or has failed. Ignores
    /// signals.
    ///
    /// # Errors
    ///
    /// Those of [`LoadSink::end`].
    pub(crate) fn abort_on_device(&self) -> Result {
        if self.is(Progress::Open) {
            self.sink.end()?;
        }
        Ok(())
    }

    /// Returns the number of bytes of the stream that were taken, for debugfs.
    pub(crate) fn bytes(&self) -> u64 {
        self.io.bytes()
    }

    fn is(&self, progress: Progress) -> bool {
        self.progress.load(Acquire) == progress as u32
    }

    fn set(&self, progress: Progress) {
        self.progress.store(progress as u32, Release);
    }

    /// Passes `src` to the sink. Ends the session on an error.
    fn write_with(&self, parser: &mut L::Parser, src: &mut IovIterSource<'_>) -> Result<usize> {
        if self.io.has_ended() || self.is(Progress::Failed) {
            return Err(ENODEV);
        }
        let bytes = src.len();
        let written = self.sink.write(parser, src, &self.io);
        // The device may have lost what was written since the sink has last checked.
        let error = match written.and_then(|accepted| self.check_kept().map(|()| accepted)) {
            Ok(accepted) => {
                if accepted {
                    self.set(Progress::Committed);
                }
                return Ok(bytes);
            }
            Err(error) => error,
        };
        L::forget(parser);
        self.sink.abort(&self.io);
        self.set(Progress::Failed);
        self.io.end();
        Err(match error {
            // A reset has ended the session on the device before the driver has.
            error if error != EFAULT && self.io.is_over() => ENODEV,
            // The PCI channel failed, whatever the parser says of the stream.
            error if error != EFAULT && self.io.is_poisoned() => EIO,
            // The timeout is one of the driver, not of the user.
            error if error == ETIMEDOUT => EIO,
            error => error,
        })
    }
}

impl<L: LoadSink> Resume for LoadSession<L> {
    type OwnerModule = L::OwnerModule;

    /// Returns the whole length or an error. An error ends the session, so the part that was taken
    /// before it is not reported.
    fn write(&self, src: &mut IovIterSource<'_>, nonblock: bool) -> Result<usize> {
        let mut parser = if nonblock {
            self.writer.try_lock().ok_or(EAGAIN)?
        } else {
            // Interruptible, because the holder may sleep in a page fault for as long as its user
            // wants.
            lock_interruptible(&self.writer)?
        };
        let result = self.write_with(&mut parser, src);
        drop(parser);
        self.forget_memory();
        result
    }
}
