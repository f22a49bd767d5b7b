// SPDX-License-Identifier: GPL-2.0

//! The reads of a save session in their order: when to read ahead, what the user gets next, and the
//! answer to `poll()`.
//!
//! This code has no hardware access: it is generic over the buffer and over the handle of a read in
//! flight, like [`Queue`].

use super::{
    accounting::{
        Accounting,
        Pending, //
    },
    queue::{
        Front,
        Queue, //
    },
};
use crate::vfio::migration_file::{
    PrecopyInfo,
    Readiness, //
};
use kernel::prelude::*;

/// Number of reads in flight while the guest runs: one for the user to read, and one ahead.
const AHEAD: usize = 2;

/// The next bytes of the stream, or what a reader must wait for to get them.
pub(crate) enum Next<'a, B, T> {
    /// The bytes are in this buffer.
    Data {
        /// The buffer.
        buffer: &'a B,
        /// Index of the first unread byte.
        from: usize,
        /// Index after the last byte.
        to: usize,
    },
    /// This read is in flight.
    Read(&'a T),
    /// Reads are paused by a state change, which ends within the timeouts of its commands.
    Change,
    /// There was no room for the command of the next read.
    Room,
    /// In pre-copy, all data was read; there is more once the device changes its state.
    News,
    /// The stream is complete.
    End,
    /// A read failed, so the bytes are lost.
    Failed(Error),
    /// The session has ended.
    Dead,
}

/// The result of a read.
#[derive(Clone, Copy)]
pub(crate) struct Delivered {
    /// Number of bytes.
    pub(crate) bytes: usize,
    /// Whether the device has no more data for now or, once stopped, none at all.
    pub(crate) last: bool,
}

/// The reads of a save session and their data, in order.
pub(crate) struct Pipeline<B, T> {
    /// The session has not begun or has ended.
    dead: bool,
    /// The error of the first failed read. Bytes of the stream are missing, so no later ones are
    /// delivered.
    failed: Option<Error>,
    /// Reads are paused while the run level of the function changes (contract D17).
    held: bool,
    /// The function is stopped, so reads are final.
    stopped: bool,
    /// The device may have more data.
    more: bool,
    /// Size of a buffer in bytes.
    capacity: usize,
    queue: Queue<B, T>,
    sizes: Accounting,
}

impl<B, T> Pipeline<B, T> {
    /// Makes a pipeline with these buffers of `capacity` bytes each. It is dead until
    /// [`Self::begin`].
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(buffers: KVec<B>, capacity: usize) -> Result<Self> {
        Ok(Self {
            dead: true,
            failed: None,
            held: false,
            stopped: false,
            more: true,
            capacity,
            queue: Queue::new(buffers)?,
            sizes: Accounting::default(),
        })
    }

    /// Starts the session after the device has begun it. With `stopped` all reads are final.
    pub(crate) fn begin(&mut self, pending: &Pending, stopped: bool) {
        self.sizes = Accounting::begin(pending);
        self.stopped = stopped;
        self.dead = false;
    }

    /// Ends the session. Returns the buffers, which the caller drops after releasing its lock.
    pub(crate) fn end(&mut self) -> Queue<B, T> {
        self.dead = true;
        core::mem::replace(&mut self.queue, Queue::none())
    }

    /// Returns whether the session has not begun or has ended.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Starts no reads until [`Self::resume_reads`].
    pub(crate) fn pause_reads(&mut self) {
        self.held = true;
    }

    /// Allows reads again after [`Self::pause_reads`].
    pub(crate) fn resume_reads(&mut self) {
        self.held = false;
    }

    /// Notes that the function is stopped, so that later reads are final.
    pub(crate) fn finish(&mut self) {
        self.stopped = true;
        self.more = true;
    }

    /// Makes reads by the user fail with `error`, because bytes of the stream are missing. Only the
    /// first error is kept.
    pub(crate) fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }

    /// Returns whether the function is stopped, so that reads are final.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Returns whether, in pre-copy, all data was read, so that the caller must ask the device for
    /// more.
    pub(crate) fn waits_for_news(&self) -> bool {
        !self.dead && !self.stopped && !self.more
    }

    /// Notes that the device may have more data: it says so, or what it says cannot be read.
    pub(crate) fn expect_more(&mut self) {
        self.more = true;
    }

    /// Returns the buffer for a read to be started now, and whether that read is final.
    pub(crate) fn wants_read(&self) -> Option<(&B, bool)> {
        if self.dead || self.held || !self.more || self.failed.is_some() {
            return None;
        }
        if !self.stopped && self.queue.in_flight() >= AHEAD {
            return None;
        }
        Some((self.queue.spare()?, self.stopped))
    }

    /// Notes that the read of [`Self::wants_read`] was submitted.
    pub(crate) fn started(&mut self, read: T) {
        self.queue.push(read);
    }

    /// Returns the oldest read in flight.
    pub(crate) fn oldest_read(&self) -> Option<&T> {
        self.queue.oldest_read()
    }

    /// Notes the result of the oldest read in flight. Its data is dropped if an earlier read has
    /// failed, because bytes before it are missing.
    pub(crate) fn ended(&mut self, result: Result<Delivered>) {
        let bytes = match result {
            Ok(_) if self.failed.is_some() => Ok(0),
            // The device claims more bytes than the buffer has.
            Ok(told) if told.bytes > self.capacity => Err(EIO),
            // The device delivered nothing, but claims to have more.
            Ok(told) if told.bytes == 0 && !told.last => Err(EIO),
            Ok(told) => {
                if told.last {
                    self.more = false;
                }
                Ok(told.bytes)
            }
            Err(error) => Err(error),
        };
        let bytes = bytes.unwrap_or_else(|error| {
            self.fail(error);
            0
        });
        self.sizes.fetched(bytes as u64);
        self.queue.complete(bytes);
    }

    /// Notes that the user has read `bytes` from the head.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.queue.consume(bytes);
        self.sizes.took(bytes as u64);
    }

    /// Returns the next bytes of the stream, or what to wait for.
    pub(crate) fn next(&self) -> Next<'_, B, T> {
        if self.dead {
            return Next::Dead;
        }
        match self.queue.front() {
            Front::Ready { buffer, from, to } => Next::Data { buffer, from, to },
            Front::InFlight(read) => Next::Read(read),
            // The user gets all data that arrived before the failure.
            Front::Empty => match self.failed {
                Some(error) => Next::Failed(error),
                None if self.held => Next::Change,
                None if self.more => Next::Room,
                None if self.stopped => Next::End,
                None => Next::News,
            },
        }
    }

    /// Returns the state for `poll()`. It is [`Readiness::Idle`] only if something wakes the poller
    /// later: the end of a read or of a state change, or an event of the device.
    pub(crate) fn readiness(&self) -> Readiness {
        match self.next() {
            Next::Dead => Readiness::Dead,
            Next::Read(_) | Next::Change | Next::News => Readiness::Idle,
            Next::Data { .. } | Next::Room | Next::End | Next::Failed(_) => Readiness::Readable,
        }
    }

    /// Returns the answer to `VFIO_MIG_GET_PRECOPY_INFO`.
    pub(crate) fn info(&mut self, pending: &Pending, v2: bool) -> PrecopyInfo {
        let (unread, reading) = (self.queue.unread(), self.queue.in_flight() != 0);
        self.sizes.info(pending, unread, reading, v2)
    }

    /// Notes that the user has received that answer.
    pub(crate) fn told(&mut self) {
        self.sizes.told();
    }

    /// Returns the number of bytes that the device has delivered and the user has not read.
    pub(crate) fn unread(&self) -> u64 {
        self.queue.unread()
    }

    /// Returns the number of bytes that the user has read.
    pub(crate) fn taken(&self) -> u64 {
        self.sizes.taken()
    }
}
