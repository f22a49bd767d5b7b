// SPDX-License-Identifier: GPL-2.0

//! A load session: a stream of the user on its way into the function.
//!
//! Everything is decided inside write(): each complete and checked section goes on to
//! the device, and the trailer makes the device verify and install the whole before
//! the write of its last byte returns. VMMs take no notice of an image that is refused
//! later: they reset the device and report success.
//!
//! # Locks
//!
//! `writer` makes writers wait for each other, and is held while user memory is read
//! and commands are waited for. [`LoadSession::end`] does not take it: it sets a flag
//! that the writer looks at between sections (contract K2). What a writer does to the
//! device after that fails, as the session there has ended too.

use super::{
    resets::Life,
    stream::{
        Accepts,
        Complete,
        Parser, //
    }, //
};
use crate::{
    mgmt::{
        Buffer,
        Function,
        Ticket, //
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
            Relaxed,
            Release, //
        },
        Arc, Mutex,
    },
};

/// Bytes of a buffer to the device: several small sections, and any single one.
const BUFFER: usize = 256 << 10;
/// Buffers: one is filled while the device reads the other.
const BUFFERS: usize = 2;

struct Writer {
    parser: Parser,
    lanes: KVec<Lane>,
    /// The lane that is being filled.
    at: usize,
}

struct Lane {
    buffer: Arc<Buffer>,
    filled: usize,
    load: Option<Ticket>,
}

/// Progress of a session, one way only.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Progress {
    /// Not begun on the device.
    New = 0,
    /// Sections are taken.
    Open = 1,
    /// The device has installed the whole stream.
    Committed = 2,
    /// An error was reported.
    Failed = 3,
}

/// See the module's page.
#[pin_data]
pub(crate) struct LoadSession {
    function: Function,
    life: Life,
    progress: Atomic<u32>,
    dead: Atomic<bool>,
    /// The PCI channel failed, and what the device had of the stream is lost.
    poisoned: Atomic<bool>,
    bytes: Atomic<u64>,
    #[pin]
    writer: Mutex<Writer>,
}

impl LoadSession {
    /// A session that has not begun on the device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, charged to the caller; `ENOTCONN`.
    pub(crate) fn new(function: &Function, life: Life) -> Result<Arc<Self>> {
        let info = function.info();
        let parser = Parser::new(Accepts {
            compat: info.compat,
            version_min: info.state_version_min,
            version_max: info.state_version,
            max_bytes: info.max_state_bytes,
        });
        let mut lanes = KVec::with_capacity(BUFFERS, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..BUFFERS {
            let buffer = function.alloc_buffer(BUFFER)?;
            lanes.push(
                Lane {
                    buffer,
                    filled: 0,
                    load: None,
                },
                GFP_KERNEL_ACCOUNT,
            )?;
        }
        let function = function.clone();
        Arc::pin_init(
            pin_init!(Self {
                function,
                life,
                progress: Atomic::new(Progress::New as u32),
                dead: Atomic::new(false),
                poisoned: Atomic::new(false),
                bytes: Atomic::new(0),
                writer <- new_mutex!(Writer { parser, lanes, at: 0 }, "dlr_load_writer"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Begins the session on the device.
    ///
    /// # Errors
    ///
    /// What the device answers.
    pub(crate) fn begin(&self) -> Result {
        self.function.load_begin()?;
        self.set(Progress::Open);
        Ok(())
    }

    /// Whether the device has accepted the stream up to its trailer, and still has it.
    pub(crate) fn is_committed(&self) -> bool {
        self.is(Progress::Committed) && !self.poisoned.load(Acquire)
    }

    /// The PCI channel failed: the reset that follows takes the state away again.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Release);
    }

    /// Ends the session here: writes fail from now on.
    pub(crate) fn end(&self) {
        self.dead.store(true, Release);
    }

    /// Ends a session that was not committed on the device.
    pub(crate) fn abort_on_device(&self) -> Result {
        if self.is(Progress::Open) {
            self.function.load_abort()?;
        }
        Ok(())
    }

    /// Bytes of complete sections, for debugfs.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    fn is(&self, progress: Progress) -> bool {
        self.progress.load(Acquire) == progress as u32
    }

    fn set(&self, progress: Progress) {
        self.progress.store(progress as u32, Release);
    }

    /// Takes `src` section by section.
    fn take(&self, writer: &mut Writer, src: &mut IovIterSource<'_>) -> Result {
        while !src.is_empty() {
            if self.dead.load(Acquire) {
                return Err(ENODEV);
            }
            if self.poisoned.load(Acquire) {
                return Err(EIO);
            }
            let (_, complete) = writer.parser.take(src.len(), |to| {
                if src.copy_from_iter(to) == to.len() {
                    Ok(())
                } else {
                    Err(EFAULT)
                }
            })?;
            match complete {
                None => (),
                Some(Complete::Section) => self.pass_on(writer)?,
                Some(Complete::Trailer) => {
                    self.pass_on(writer)?;
                    self.flush(writer)?;
                    self.commit(writer)?;
                }
            }
        }
        // What does not fill a buffer stays here for the next write: VMMs write in small
        // pieces, and a command for each would be slow. The trailer brings it all out.
        Ok(())
    }

    /// Adds the section that is complete to what goes to the device.
    fn pass_on(&self, writer: &mut Writer) -> Result {
        let bytes = writer.parser.section().len();
        let filled = writer.lanes.get(writer.at).ok_or(EIO)?.filled;
        if filled.saturating_add(bytes) > BUFFER {
            self.flush(writer)?;
        }
        let lane = writer.lanes.get_mut(writer.at).ok_or(EIO)?;
        if let Some(load) = lane.load.take() {
            load.wait()?;
        }
        lane.buffer.copy_in(lane.filled, writer.parser.section())?;
        lane.filled = lane.filled.saturating_add(bytes);
        self.bytes.store(writer.parser.bytes(), Relaxed);
        Ok(())
    }

    /// Hands what is collected to the device and goes on with the other buffer.
    fn flush(&self, writer: &mut Writer) -> Result {
        let lane = writer.lanes.get_mut(writer.at).ok_or(EIO)?;
        if lane.filled != 0 {
            lane.load = Some(self.function.submit_load(&lane.buffer, lane.filled)?);
            lane.filled = 0;
            writer.at = writer.at.wrapping_add(1) % BUFFERS;
        }
        Ok(())
    }

    /// All is written: the device verifies and installs it.
    fn commit(&self, writer: &mut Writer) -> Result {
        // In the order of submission.
        for i in 0..BUFFERS {
            let at = writer.at.wrapping_add(i) % BUFFERS;
            if let Some(load) = writer.lanes.get_mut(at).and_then(|l| l.load.take()) {
                load.wait()?;
            }
        }
        self.function.load_commit()?;
        self.set(Progress::Committed);
        Ok(())
    }
}

impl Resume for LoadSession {
    /// All or an error: after an error nothing of the session is of use, so that a
    /// part that went well before it is not worth telling.
    fn write(&self, src: &mut IovIterSource<'_>, nonblock: bool) -> Result<usize> {
        let mut writer = if nonblock {
            self.writer.try_lock().ok_or(EAGAIN)?
        } else {
            self.writer.lock()
        };
        if self.dead.load(Acquire) || self.is(Progress::New) || self.is(Progress::Failed) {
            return Err(ENODEV);
        }
        let bytes = src.len();
        let result = self.take(&mut writer, src);
        if let Err(error) = result {
            writer.parser.fail();
            writer.lanes.clear();
            if !self.dead.load(Acquire) && !self.life.is_over() {
                // A committed image is taken back too: something came after its end.
                // After a reset of the function there is nothing to take back, and the
                // session that the device has by then may be the next one.
                let _ = self.function.load_abort();
            }
            self.set(Progress::Failed);
            return Err(match error {
                // The device has ended the session, the driver not yet (contract D19).
                error if error != EFAULT && self.life.is_over() => ENODEV,
                // A deadline that the user did not set.
                error if error == ETIMEDOUT => EIO,
                error => error,
            });
        }
        Ok(bytes)
    }
}
