// SPDX-License-Identifier: GPL-2.0

//! Driver of the management function, and the service that it gives to the drivers of data functions.
//!
//! # Parts
//!
//! * [`driver`]: bind and unbind. [`service`]: the registry of live services and the end of one.
//! * [`function`], [`function_log`]: what a data function's driver can ask for.
//! * [`queue`]: the admin queue. [`command`]: one command and its waiters. [`slots`], [`ring`]: pure
//!   bookkeeping of it.
//! * [`memory`]: DMA buffers. [`log`]: log rings. [`hardware`]: registers and shared rings.
//! * [`interrupt`], [`channel`], [`stats`], [`debugfs`].
//!
//! # Lifetimes
//!
//! A [`Service`] and everything that hangs on it can outlive the binding, because open VFIO files hold it.
//! What belongs to the device does not: access to it goes through a
//! [`Lease`](crate::kext::lease::Lease), and all DMA memory is in it, on the list of [`memory`], or in a
//! channel's log. Unbind, in this order:
//!
//! 1. The service leaves the registry, and from then on every call fails with `ENOTCONN`; everybody who
//!    sleeps is woken, clients are told.
//! 2. The queue's reset handshake, then bus mastering off, then FLR: no DMA any more, whatever state the
//!    device was in.
//! 3. The lease is revoked, which waits for those who are at the hardware; then rings, status pages, logs
//!    and buffers are freed, whoever still has handles to them.
//!
//! A thread that stops waiting for a command leaves it alone: the slot has its own reference to the request
//! and so to the buffer, until the completion or a successful reset handshake.
//!
//! # Locks
//!
//! From the outside to the inside; a thread that holds one may take those behind it:
//!
//! 1. locks of the clients (state, log, file),
//! 2. `Queue::reset`, a mutex held for a reset handshake and at unbind,
//! 3. `Channel::client`, `Channel::log`, mutexes, for a moment; never across a command. `log` is held for a
//!    drain and so while its sink runs,
//! 4. the list of `Memory`, a mutex, then one `Backing`, a mutex,
//! 5. `Queue::state`, a spin lock that disables interrupts, for submission and completion,
//! 6. inside of completions and wait queues.
//!
//! The list of services is taken with none of these held. The lease is no lock, but unbind waits for those
//! who entered: they may do so while they hold any of the above, and must not wait for a command meanwhile.
//! A reset handshake is the exception: it stays inside and has a deadline.
//!
//! The hot path of a report, [`Function::posted`](function::Function::posted) and
//! [`Function::status`](function::Function::status), takes nothing that sleeps: 5 for an instant and the
//! lease.
//!
//! # Who may sleep
//!
//! Every call but `stats` and `is_gone` needs a context that can sleep. Completions are taken in the queue's
//! interrupt thread, log clients run in the log's. The two never share a vector, because a client may wait
//! for a completion.

#![forbid(unsafe_code)]

mod channel;
mod command;
mod debugfs;
mod driver;
mod function;
mod function_log;
mod hardware;
mod interrupt;
mod log;
mod memory;
mod queue;
mod ring;
mod service;
mod slots;
mod stats;

/// Added to every deadline, for our own latency, in milliseconds.
const MARGIN_MS: u32 = 500;

pub(crate) use channel::Client;
pub(crate) use command::{
    Reply,
    Ticket, //
};
pub(crate) use driver::Driver;
pub(crate) use function::Function;
pub(crate) use function_log::LogConfig;
pub(crate) use log::{
    Flow,
    Until, //
};
pub(crate) use memory::Buffer;
pub(crate) use service::{
    find,
    init, //
};
