// SPDX-License-Identifier: GPL-2.0

//! The implementation of the file operations of a save session.

use super::{
    bounce::Bounce,
    save::{
        SaveSource,
        StreamCheck, //
    },
    save_session::SaveSession, //
};
use crate::{
    ext::killable::lock_interruptible,
    vfio::migration_file::{
        PrecopyInfo,
        Readiness,
        Save, //
    },
};
use kernel::{
    iov::IovIterDest,
    prelude::*,
    sync::poll::PollCondVar, //
};

impl<S: SaveSource> Save for SaveSession<S> {
    type OwnerModule = S::OwnerModule;

    fn read(&self, dst: &mut IovIterDest<'_>, nonblock: bool) -> Result<usize> {
        let mut reader = if nonblock {
            self.reader.try_lock().ok_or(EAGAIN)?
        } else {
            // Interruptible, because the holder may sleep in a page fault for as long as its user
            // wants.
            lock_interruptible(&self.reader)?
        };
        let result = self.read_with(&mut reader, dst, nonblock);
        drop(reader);
        self.forget_memory();
        result
    }

    fn poll_queue(&self) -> &PollCondVar {
        &self.sleepers.pollers
    }

    /// Starts the reads that a reader would start. Their end wakes the poller, and after a read
    /// without data the device sends an event when it has more.
    fn readiness(&self) -> Readiness {
        self.reap(&mut self.io());
        self.refresh_pending();
        self.read_ahead();
        let mut io = self.io();
        self.reap(&mut io);
        io.readiness()
    }

    fn precopy_info(&self, v2: bool) -> Result<PrecopyInfo> {
        self.source.look(|| {
            // Update the pipeline before asking the device. A read that ends in between then counts
            // as one in flight, instead of counting twice.
            let mut io = self.io();
            if io.is_dead() {
                return Err(ENODEV);
            }
            self.reap(&mut io);
            // This only reads memory and sends no command, also when the device is stopped.
            let pending = self.source.try_pending()?;
            Ok(pending.map(|pending| io.info(&pending, v2)))
        })
    }

    fn precopy_told(&self) {
        self.io().told();
    }
}

impl<S: SaveSource> SaveSession<S> {
    /// Copies the next bytes of the stream to `dst`, with the lock `reader` held.
    fn read_with(
        &self,
        reader: &mut Bounce<S::Check>,
        dst: &mut IovIterDest<'_>,
        nonblock: bool,
    ) -> Result<usize> {
        let Bounce { bytes, check } = reader;
        self.refresh_pending();
        let mut done = 0usize;
        while !dst.is_empty() {
            if check.is_hopeless() {
                return if done != 0 {
                    Ok(done)
                } else {
                    self.failed(EIO)
                };
            }
            // After the first bytes, do not block: return them to the user.
            let (buffer, from, to) = match self.next(done == 0 && !nonblock) {
                Ok(Some(data)) => data,
                // The stream is not complete, so the user must not get 0, which means its end.
                Ok(None) if done == 0 && !check.is_whole() => return self.failed(EIO),
                Ok(None) => break,
                Err(_) if done != 0 => break,
                Err(error) => return Err(error),
            };
            // OVERFLOW: `from < to`.
            let n = (to - from).min(dst.len()).min(bytes.len());
            let chunk = bytes.get_mut(..n).ok_or(EINVAL)?;
            if let Err(error) = self.source.copy_out(&buffer, from, chunk) {
                return if done != 0 { Ok(done) } else { Err(error) };
            }
            let copied = dst.copy_to_iter(chunk);
            // Bytes that were not copied remain at the head of the queue: this thread holds
            // `reader`, so no other reader has changed it. If the session has ended meanwhile,
            // `consume` does nothing.
            self.io().consume(copied);
            done = done.saturating_add(copied);
            check.push(chunk.get(..copied).unwrap_or_default());
            if copied < n {
                return if done != 0 { Ok(done) } else { Err(EFAULT) };
            }
        }
        Ok(done)
    }
}
