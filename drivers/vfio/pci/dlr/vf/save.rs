// SPDX-License-Identifier: GPL-2.0

//! A save session: the device state on its way to the user.
//!
//! # Locks
//!
//! * `reader` makes readers wait for each other and is held while user memory is
//!   written to. Nobody else takes it: a reader that sleeps in a page fault holds up
//!   no state change and no reset.
//! * `io`, inside it, protects the queue. It is held for moments, never while a
//!   command is waited for or user memory touched, so [`SaveSession::end`] may be
//!   called from a reset (contract K2).
//!
//! # End of life
//!
//! The file outlives the state, the device and the binding. It owns this session and
//! nothing else; after [`SaveSession::end`] every call says `ENODEV`, also while a
//! newer session is active (contract D19). Reads still in flight then belong to the
//! management function, which keeps their memory until the device is done.

mod reader;

use self::reader::Reader;
use super::{
    buffer::{
        Front,
        Queue, //
    },
    precopy::Accounting,
    resets::Life, //
};
use crate::{
    mgmt::{
        Buffer,
        Function,
        Reply,
        Ticket, //
    },
    params::Config, //
};
use kernel::{
    new_condvar, new_mutex, new_poll_condvar,
    prelude::*,
    sync::{poll::PollCondVar, Arc, CondVar, Mutex, MutexGuard},
};

/// Reads in flight while the guest runs: one being taken by the user, one ahead.
const AHEAD: usize = 2;

struct Io {
    /// The state was left, or the device reset or closed.
    dead: bool,
    /// A read failed: bytes of the stream are missing, nothing more can follow.
    failed: Option<Error>,
    /// No new reads: the function is being suspended or resumed (contract D17).
    held: bool,
    /// The function is stopped: reads are final.
    stopped: bool,
    /// The device may have more.
    more: bool,
    /// Bytes of a buffer.
    capacity: usize,
    queue: Queue<Arc<Buffer>, Arc<Ticket>>,
    sizes: Accounting,
}

/// See the module's page.
#[pin_data]
pub(crate) struct SaveSession {
    function: Function,
    life: Life,
    #[pin]
    reader: Mutex<Reader>,
    #[pin]
    io: Mutex<Io>,
    /// `held`, `dead` or `stopped` changed.
    #[pin]
    changed: CondVar,
    #[pin]
    poll: PollCondVar,
}

/// What a reader gets.
enum Next {
    /// These bytes of this buffer.
    Data(Arc<Buffer>, usize, usize),
    /// The stream is complete.
    End,
}

impl SaveSession {
    /// A session that has not begun: reads fail until [`Self::begin`].
    ///
    /// # Errors
    ///
    /// `ENOMEM`, charged to the caller.
    pub(crate) fn new(function: &Function, life: Life) -> Result<Arc<Self>> {
        let function = function.clone();
        let reader = Reader::new()?;
        let io = Io {
            dead: true,
            failed: None,
            held: false,
            stopped: false,
            more: true,
            capacity: 0,
            queue: Queue::none(),
            sizes: Accounting::default(),
        };
        Arc::pin_init(
            pin_init!(Self {
                function,
                life,
                reader <- new_mutex!(reader, "dlr_save_reader"),
                io <- new_mutex!(io, "dlr_save_io"),
                changed <- new_condvar!("dlr_save_changed"),
                poll <- new_poll_condvar!("dlr_save_poll"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Begins the session on the device. `stopped`: all reads are final.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and what the device answers; the session stays dead.
    pub(crate) fn begin(&self, stopped: bool) -> Result {
        let config = Config::get();
        let mut buffers = KVec::with_capacity(config.save_buffers, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..config.save_buffers {
            let buffer = self.function.alloc_buffer(config.save_buffer_size)?;
            buffers.push(buffer, GFP_KERNEL_ACCOUNT)?;
        }
        let queue = Queue::new(buffers)?;
        self.function.save_begin()?;
        let status = self.function.status().inspect_err(|_| {
            let _ = self.function.save_end();
        })?;
        let mut io = self.io.lock();
        io.queue = queue;
        io.capacity = config.save_buffer_size;
        io.stopped = stopped;
        io.sizes = Accounting::begin(&status);
        io.dead = false;
        if stopped {
            self.read_ahead(&mut io);
        }
        Ok(())
    }

    /// Ends the session here; the device is not asked. Wakes everybody.
    pub(crate) fn end(&self) {
        let mut io = self.io.lock();
        io.dead = true;
        let queue = core::mem::replace(&mut io.queue, Queue::none());
        drop(io);
        drop(queue);
        self.wake();
    }

    /// Ends the session on the device.
    pub(crate) fn end_on_device(&self) -> Result {
        self.function.save_end()
    }

    /// Lets the reads in flight come to their end and starts no new one.
    ///
    /// # Errors
    ///
    /// `EINTR`: killed. A read that fails is the reader's to learn.
    pub(crate) fn hold(&self) -> Result {
        let mut io = self.io.lock();
        io.held = true;
        while let Some(ticket) = io.queue.oldest_read() {
            let ticket = ticket.clone();
            io = self.wait_for(io, &ticket)?;
        }
        Ok(())
    }

    /// Takes reads up again. When the function is stopped the first ones go out now:
    /// the guest is waiting.
    pub(crate) fn go_on(&self) {
        let mut io = self.io.lock();
        io.held = false;
        if io.stopped {
            self.read_ahead(&mut io);
        }
        drop(io);
        self.wake();
    }

    /// The function is stopped: what comes from here on is the final part.
    pub(crate) fn finish(&self) {
        let mut io = self.io.lock();
        io.stopped = true;
        io.more = true;
        drop(io);
        self.wake();
    }

    /// The PCI channel failed.
    pub(crate) fn poison(&self) {
        let mut io = self.io.lock();
        io.failed.get_or_insert(EIO);
        drop(io);
        self.wake();
    }

    /// Bytes that the device has delivered and the user not taken.
    pub(crate) fn unread(&self) -> u64 {
        self.io.lock().queue.unread()
    }

    /// Bytes that the user has taken, for debugfs.
    pub(crate) fn taken(&self) -> u64 {
        self.io.lock().sizes.taken()
    }

    fn wake(&self) {
        self.changed.notify_all();
        self.poll.notify_all();
    }

    /// Starts as many reads as make sense.
    fn read_ahead(&self, io: &mut Io) {
        while io.more && !io.held && !io.dead && io.failed.is_none() {
            if !io.stopped && io.queue.in_flight() >= AHEAD {
                return;
            }
            let Some(buffer) = io.queue.spare() else {
                return;
            };
            match self.function.submit_read(buffer, io.stopped) {
                Ok(ticket) => match Arc::new(ticket, GFP_KERNEL_ACCOUNT) {
                    Ok(ticket) => io.queue.push(ticket),
                    // The device fills the buffer, and nobody will know with what.
                    Err(_) => io.failed = Some(ENOMEM),
                },
                // All command slots are taken: later.
                Err(error) if error == EBUSY && io.queue.in_flight() != 0 => return,
                Err(error) => io.failed = Some(error),
            }
        }
    }

    /// Takes note of the end of the read `ticket`. Whoever waited for it calls this;
    /// the first one counts.
    fn complete(&self, io: &mut Io, ticket: &Arc<Ticket>, reply: Result<Reply>) {
        if !io
            .queue
            .oldest_read()
            .is_some_and(|oldest| Arc::ptr_eq(oldest, ticket))
        {
            return;
        }
        match reply {
            Ok(reply) => {
                let told = reply.result as usize;
                let bytes = if told <= io.capacity { told } else { 0 };
                if bytes != told {
                    // What has it written, and where?
                    io.failed = Some(EIO);
                } else if reply.empty || reply.end {
                    io.more = false;
                } else if bytes == 0 {
                    // Neither data nor a reason.
                    io.failed = Some(EIO);
                }
                io.sizes.fetched(bytes as u64);
                io.queue.complete(bytes);
            }
            Err(error) => {
                io.failed = Some(error);
                io.queue.complete(0);
            }
        }
    }

    /// Waits for the read `ticket`, without the lock meanwhile, and takes note of its end.
    ///
    /// # Errors
    ///
    /// `EINTR`: killed. A read that fails is not an error of the wait.
    fn wait_for<'a>(
        &'a self,
        io: MutexGuard<'a, Io>,
        ticket: &Arc<Ticket>,
    ) -> Result<MutexGuard<'a, Io>> {
        drop(io);
        let reply = ticket.wait();
        let mut io = self.io.lock();
        if matches!(reply, Err(error) if error == EINTR) {
            return Err(EINTR);
        }
        self.complete(&mut io, ticket, reply);
        Ok(io)
    }

    /// Takes note of all reads that have come to their end, without waiting.
    fn reap(&self, io: &mut Io) {
        while let Some(ticket) = io.queue.oldest_read().filter(|t| t.is_done()) {
            let ticket = ticket.clone();
            let reply = ticket.wait();
            self.complete(io, &ticket, reply);
        }
    }

    /// Pre-copy, all read: asks the status page, a memory read, whether there is more.
    /// VMMs read thousands of times a second; a command each time would be too dear.
    fn look_again(&self) {
        let mut io = self.io.lock();
        if !io.stopped && !io.more && !io.dead {
            io.more = match self.function.status() {
                Ok(status) => Accounting::pending(&status) != 0,
                // Whatever is wrong with the page, or the device: the read will tell.
                Err(_) => true,
            };
        }
    }

    /// What the user is told of a read that failed: that of a session which the device has
    /// ended, and the driver not yet, is `ENODEV` (contract D19).
    fn failed<T>(&self) -> Result<T> {
        Err(if self.life.is_over() { ENODEV } else { EIO })
    }

    /// The next bytes of the stream; waits for them when `wait`.
    fn next(&self, wait: bool) -> Result<Next> {
        let mut io = self.io.lock();
        loop {
            if io.dead {
                return Err(ENODEV);
            }
            self.read_ahead(&mut io);
            match io.queue.front() {
                Front::Ready { buffer, from, to } => {
                    return Ok(Next::Data(buffer.clone(), from, to));
                }
                Front::InFlight(ticket) if wait || ticket.is_done() => {
                    let ticket = ticket.clone();
                    io = self.wait_for(io, &ticket)?;
                }
                Front::InFlight(_) => return Err(EAGAIN),
                Front::Empty => {
                    // After everything that did arrive, in its order.
                    if let Some(error) = io.failed {
                        return Err(if error == ENOTCONN { error } else { EIO });
                    }
                    if io.held {
                        // A state change is under way, bounded by its commands.
                        if !wait {
                            return Err(EAGAIN);
                        }
                        if self.changed.wait_interruptible(&mut io) {
                            return Err(ERESTARTSYS);
                        }
                    } else if !io.stopped {
                        return Err(ENOMSG);
                    } else if !io.more {
                        return Ok(Next::End);
                    } else {
                        // No spare buffer and none in the queue: cannot be.
                        return Err(EIO);
                    }
                }
            }
        }
    }
}
