// SPDX-License-Identifier: GPL-2.0

//! The user's side of a save session: what the calls on its file do.

use super::{
    super::{
        buffer::Front,
        outgoing::Framing,
        precopy::Accounting, //
    },
    Io,
    Next,
    SaveSession, //
};
use crate::vfio::migration_file::{
    PrecopyInfo,
    Readiness,
    Save, //
};
use kernel::{
    iov::IovIterDest,
    prelude::*,
    sync::poll::PollCondVar, //
};

/// Bytes that go through kernel memory at a time on their way to the user.
const BOUNCE: usize = 64 << 10;

/// What belongs to whoever reads.
pub(super) struct Reader {
    /// What the copy to the user goes through.
    bounce: KVVec<u8>,
    /// Where in the stream the user is.
    framing: Framing,
}

impl Reader {
    /// At the begin of a stream.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, charged to the caller.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            bounce: KVVec::zeroed(BOUNCE, GFP_KERNEL_ACCOUNT)?,
            framing: Framing::new(),
        })
    }
}

impl Save for SaveSession {
    fn read(&self, dst: &mut IovIterDest<'_>, nonblock: bool) -> Result<usize> {
        let mut reader = if nonblock {
            self.reader.try_lock().ok_or(EAGAIN)?
        } else {
            self.reader.lock()
        };
        let Reader { bounce, framing } = &mut *reader;
        self.look_again();
        let mut done = 0usize;
        while !dst.is_empty() {
            // Once there is something, only what is there too: the user is not kept
            // from it by a wait, let alone by a signal.
            let (buffer, from, to) = match self.next(done == 0 && !nonblock) {
                Ok(Next::Data(buffer, from, to)) => (buffer, from, to),
                // Not whole: the user must not take it for the end of a good stream.
                Ok(Next::End) if done == 0 && !framing.is_whole() => return self.failed(),
                Ok(Next::End) => break,
                Err(_) if done != 0 => break,
                Err(error) if error == EIO => return self.failed(),
                Err(error) => return Err(error),
            };
            // OVERFLOW: `from < to`.
            let n = (to - from).min(dst.len()).min(bounce.len());
            let chunk = bounce.get_mut(..n).ok_or(EINVAL)?;
            if let Err(error) = buffer.copy_out(from, chunk) {
                return if done != 0 { Ok(done) } else { Err(error) };
            }
            let copied = dst.copy_to_iter(chunk);
            // What did not fit stays the head of the queue: other readers wait for
            // `reader`, and a session that has ended meanwhile has no head.
            let mut io = self.io.lock();
            io.queue.consume(copied);
            io.sizes.took(copied as u64);
            drop(io);
            done = done.saturating_add(copied);
            framing.push(chunk.get(..copied).unwrap_or_default());
            if copied < n {
                return if done != 0 { Ok(done) } else { Err(EFAULT) };
            }
        }
        Ok(done)
    }

    fn poll_queue(&self) -> &PollCondVar {
        &self.poll
    }

    /// While the guest runs the device does not say when it has more: a poller finds
    /// out when it asks again, and is woken when the state changes.
    fn readiness(&self) -> Readiness {
        let mut io = self.io.lock();
        if io.dead {
            return Readiness::Dead;
        }
        self.reap(&mut io);
        if io.failed.is_some() || io.stopped || !matches!(io.queue.front(), Front::Empty) {
            return Readiness::Readable;
        }
        match self.function.status() {
            Ok(status) if Accounting::pending(&status) == 0 => Readiness::Idle,
            _ => Readiness::Readable,
        }
    }

    fn precopy_info(&self, v2: bool) -> Result<PrecopyInfo> {
        let mut io = self.io.lock();
        if io.dead {
            return Err(ENODEV);
        }
        // A memory read: nothing is asked of a function that is suspended (D16).
        let status = self.function.status()?;
        self.reap(&mut io);
        let Io { sizes, queue, .. } = &mut *io;
        Ok(sizes.info(&status, queue.unread(), queue.in_flight() != 0, v2))
    }
}
