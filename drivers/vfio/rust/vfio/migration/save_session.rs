// SPDX-License-Identifier: GPL-2.0

//! A save session: the user reads device state from its file.
//!
//! # Locks
//!
//! * `reader` serialises readers and is held while user memory is written. Only readers take it;
//!   [`SaveSession::end`] only tries to. So a reader that sleeps in a page fault delays no state
//!   change and no reset.
//! * `io`, taken inside `reader`, protects the pipeline. Its holder does not wait for reads, room,
//!   memory or the device, and does not access user memory. So a reset may call
//!   [`SaveSession::end`]. [`SaveSession::poison`] takes no mutex.
//!
//! # End of a session
//!
//! The file may outlive the state, the device and the binding. It owns a reference to this session.
//! After [`SaveSession::end`] every call fails with `ENODEV`, also while a newer session is active.
//! Reads still in flight then belong to the source, which keeps their memory until the device is
//! done. Reads are given to the device with `io` held and only if the session has not ended, so
//! none reaches the device after the next session has begun.

use super::{
    accounting::Pending,
    bounce::Bounce,
    generation::SessionEpoch,
    pipeline::{
        Delivered,
        Next,
        Pipeline, //
    },
    save::{
        SaveSource,
        SaveStart,
        Sleepers, //
    },
};
use crate::ext::gfp::USER;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        CondVarTimeoutResult,
        Mutex,
        MutexGuard, //
    },
    time::Jiffies, //
};

/// Pause of a reader while another thread is about to start the next read.
const OTHER_STARTS: Jiffies = 1;

/// The reads of a session.
type Io<S> = Pipeline<Arc<<S as SaveSource>::Buffer>, Arc<<S as SaveSource>::Read>>;

/// A save session.
#[pin_data]
pub(crate) struct SaveSession<S: SaveSource> {
    pub(super) source: S,
    epoch: SessionEpoch,
    pub(super) sleepers: Arc<Sleepers>,
    #[pin]
    pub(super) reader: Mutex<Bounce<S::Check>>,
    #[pin]
    io: Mutex<Io<S>>,
}

/// The next bytes of the stream: bytes `.1..` to `.2` of a buffer.
type Bytes<S> = (Arc<<S as SaveSource>::Buffer>, usize, usize);

impl<S: SaveSource> SaveSession<S> {
    /// Makes the session from what the device has begun.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(
        start: SaveStart<S>,
        epoch: SessionEpoch,
        stopped: bool,
    ) -> Result<Arc<Self>> {
        let SaveStart {
            source,
            buffers,
            capacity,
            pending,
        } = start;
        let mut io = Pipeline::new(buffers, capacity)?;
        io.begin(&pending, stopped);
        let reader = Bounce::new(source.check())?;
        let sleepers = Arc::pin_init(Sleepers::new(), USER)?;
        Arc::pin_init(
            pin_init!(Self {
                source,
                epoch,
                sleepers,
                reader <- new_mutex!(reader, "vfio_save_reader"),
                io <- new_mutex!(io, "vfio_save_io"),
            }),
            USER,
        )
    }

    /// Starts the session once its file exists: the device wakes its sleepers from here on.
    pub(super) fn begin(&self) {
        self.source.set_sleepers(Some(self.sleepers.clone()));
        self.resume_reads();
    }

    /// Ends the session in the driver, not on the device. Wakes all sleepers and frees the buffers.
    pub(crate) fn end(&self) {
        let buffers = self.io().end();
        self.source.set_sleepers(None);
        drop(buffers);
        self.sleepers.wake_all();
        self.forget_memory();
    }

    /// Frees the memory of the reader if the session has ended. If a reader holds it, the reader
    /// calls this when it is done.
    pub(super) fn forget_memory(&self) {
        // `end` has set `dead` under `io` before it gets here. A reader checks `dead` under `io`
        // after it has released `reader`. So either the reader sees it, or `reader` is free here.
        if self.io().is_dead() {
            if let Some(mut reader) = self.reader.try_lock() {
                reader.forget_memory();
            }
        }
    }

    /// Ends the session on the device. Ignores signals.
    pub(crate) fn end_on_device(&self) -> Result {
        self.source.end()
    }

    /// Waits for the reads in flight and lets no new one start until [`Self::resume_reads`].
    ///
    /// # Errors
    ///
    /// `EINTR` when a fatal signal is pending. The error of a failed read goes to the reader
    /// instead.
    pub(crate) fn pause_reads(&self) -> Result {
        let mut io = self.io();
        io.pause_reads();
        while let Some(read) = io.oldest_read().cloned() {
            drop(io);
            let reply = S::wait(&read);
            if matches!(reply, Err(error) if error == EINTR) {
                return Err(EINTR);
            }
            io = self.io();
            complete::<S>(&mut io, &read, reply);
        }
        Ok(())
    }

    /// Allows reads again. If the function is stopped, starts the first ones at once to keep the
    /// downtime of the guest short.
    pub(crate) fn resume_reads(&self) {
        let stopped = {
            let mut io = self.io();
            io.resume_reads();
            io.is_stopped()
        };
        if stopped {
            self.read_ahead();
        }
        self.sleepers.wake_all();
    }

    /// Notes that the function is stopped, so that later reads are final.
    pub(crate) fn finish(&self) {
        self.io().finish();
        self.sleepers.wake_all();
    }

    /// Makes reads fail after a failure of the PCI channel. The caller holds a spinlock.
    pub(crate) fn poison(&self) {
        self.sleepers.poison();
    }

    /// Returns the number of bytes that the device has delivered and the user has not read.
    pub(crate) fn unread(&self) -> u64 {
        let mut io = self.io();
        self.reap(&mut io);
        io.unread()
    }

    /// Returns the bytes that are left on the device, and the number of those that it has delivered
    /// and the user has not read. Returns `None` if the session has ended.
    ///
    /// # Errors
    ///
    /// Those of [`SaveSource::try_pending`] and [`SaveSource::look`].
    pub(super) fn left(&self) -> Result<Option<(Pending, u64)>> {
        self.source.look(|| {
            // No read is given to the device meanwhile. One that ends after the device was asked
            // counts twice: the answer may be too large, but not too small.
            let mut io = self.io();
            if io.is_dead() {
                return Ok(Some(None));
            }
            let Some(pending) = self.source.try_pending()? else {
                return Ok(None);
            };
            self.reap(&mut io);
            Ok(Some(Some((pending, io.unread()))))
        })
    }

    /// Returns the number of bytes that the user has read, for debugfs.
    pub(crate) fn taken(&self) -> u64 {
        self.io().taken()
    }

    /// Locks `io`.
    pub(super) fn io(&self) -> MutexGuard<'_, Io<S>> {
        let mut io = self.io.lock();
        // What a device returns that is being reset must not become the end of a stream. The driver
        // ends the session only when the reset has ended.
        if self.sleepers.is_poisoned() || self.epoch.is_over() {
            io.fail(EIO);
        }
        io
    }

    /// Starts reads until the pipeline wants no more or there is no room. Returns `true` if it has
    /// not started one because another thread is about to.
    pub(super) fn read_ahead(&self) -> bool {
        loop {
            let wanted = self.io().wants_read().map(|(b, fin)| (b.clone(), fin));
            let Some((buffer, fin)) = wanted else {
                return false;
            };
            // Called without `io`, because it may wait for memory.
            let prepared = self.source.prepare(&buffer, fin);
            let mut io = self.io();
            let still_wanted =
                |(b, f): (&Arc<S::Buffer>, bool)| Arc::ptr_eq(b, &buffer) && f == fin;
            if !io.wants_read().is_some_and(still_wanted) {
                // Another thread has started it, or the session has moved on.
                continue;
            }
            if matches!(prepared, Err(error) if error == EBUSY) {
                return true;
            }
            match prepared.and_then(|p| self.source.submit(p)) {
                Ok(read) => io.started(read),
                // There is no room for the command.
                Err(error) if error == EBUSY => return false,
                Err(error) => io.fail(error),
            }
        }
    }

    /// Completes all reads that have ended, without waiting.
    pub(super) fn reap(&self, io: &mut Io<S>) {
        while let Some(read) = io.oldest_read().filter(|r| S::is_done(r)).cloned() {
            // This does not sleep, because the read is done.
            let reply = S::wait(&read);
            complete::<S>(io, &read, reply);
        }
    }

    /// In pre-copy when all was read, asks [`SaveSource::try_pending`] whether there is more. VMMs
    /// read thousands of times a second, and a command each time would be too slow.
    pub(super) fn refresh_pending(&self) {
        if !self.io().waits_for_news() {
            return;
        }
        let pending = match self.source.look(|| self.source.try_pending()) {
            Ok(pending) => pending.now() != 0,
            // Start a read, whose error the user gets.
            Err(_) => true,
        };
        if pending {
            let mut io = self.io();
            if io.waits_for_news() {
                io.expect_more();
            }
        }
    }

    /// Maps the error of a failed read to that of read(2). It is `ENODEV` if a reset has ended the
    /// session on the device before the driver has ended it.
    pub(super) fn failed<T>(&self, error: Error) -> Result<T> {
        Err(match error {
            _ if self.epoch.is_over() => ENODEV,
            error if error == ENOTCONN || error == ENOMEM => error,
            _ => EIO,
        })
    }

    /// Returns the next bytes of the stream, or `None` at its end. Waits for them if `wait` is set.
    pub(super) fn next(&self, wait: bool) -> Result<Option<Bytes<S>>> {
        loop {
            let other_starts = self.read_ahead();
            let mut io = self.io();
            match io.next() {
                Next::Data { buffer, from, to } => return Ok(Some((buffer.clone(), from, to))),
                Next::Read(read) if wait || S::is_done(read) => {
                    let read = read.clone();
                    drop(io);
                    let reply = S::wait_interruptible(&read);
                    if matches!(reply, Err(error) if error == ERESTARTSYS) {
                        return Err(ERESTARTSYS);
                    }
                    complete::<S>(&mut self.io(), &read, reply);
                }
                Next::Change if wait => {
                    if self.sleepers.readers.wait_interruptible(&mut io) {
                        return Err(ERESTARTSYS);
                    }
                }
                // The other thread takes `io` to start the read, and notifies no queue after that.
                Next::Room if wait && other_starts => {
                    let readers = &self.sleepers.readers;
                    let result = readers.wait_interruptible_timeout(&mut io, OTHER_STARTS);
                    if let CondVarTimeoutResult::Signal { .. } = result {
                        return Err(ERESTARTSYS);
                    }
                }
                Next::Room if wait => {
                    drop(io);
                    if let Err(error) = self.source.wait_for_room() {
                        return match error {
                            error if error == ERESTARTSYS => Err(error),
                            error => self.failed(error),
                        };
                    }
                }
                Next::Read(_) | Next::Change | Next::Room => return Err(EAGAIN),
                Next::News => return Err(ENOMSG),
                Next::End => return Ok(None),
                Next::Failed(error) => return self.failed(error),
                Next::Dead => return Err(ENODEV),
            }
        }
    }
}

/// Completes `read` with `reply`. Each thread that waited for it calls this; only the first call
/// has an effect.
fn complete<S: SaveSource>(io: &mut Io<S>, read: &Arc<S::Read>, reply: Result<Delivered>) {
    let is_oldest = |oldest: &Arc<S::Read>| Arc::ptr_eq(oldest, read);
    if io.oldest_read().is_some_and(is_oldest) {
        io.ended(reply);
    }
}
