// SPDX-License-Identifier: GPL-2.0

//! Driver of the management function, and the service that it offers to the drivers of data
//! functions.
//!
//! # Parts
//!
//! * [`driver`]: callbacks of the PCI core, with the decisions of
//!   [`policy`](crate::kext::pci_driver::policy). [`outage`]: resets, suspend, and the end of DMA.
//! * [`service`]: the service of a bound management function, and the registry of services.
//!   [`verify`]: whether the device is the same after an outage.
//! * [`function`], [`function_log`], [`prepared`]: handles through which the driver of a data
//!   function submits commands.
//! * [`queue`]: the admin queue. [`command`]: a command. [`ticket`]: waits for
//!   commands. [`class`] and [`line`]: which command gets a slot. The parts that do not depend on
//!   the contract are in [`cmdq`](crate::kext::cmdq).
//! * [`hardware`]: registers and shared rings. [`memory`]: DMA buffers. [`log`]: log
//!   rings.
//! * [`interrupt`]: interrupt handlers. [`channel`]: state of a data function. [`stats`],
//!   [`debugfs`]: counters and files.
//!
//! # Lifetimes
//!
//! A [`Service`] and the objects that refer to it can outlive the binding, because open VFIO files
//! hold references. Access to the device cannot: it goes through a
//! [`Lease`](crate::kext::lease::Lease), and all DMA memory belongs to the lease or to its pool.
//! Unbind proceeds in this order:
//!
//! 1. The service leaves the registry. From then on every call fails with `ENOTCONN`. Sleeping
//!    threads are woken, and clients are told.
//! 2. The lease is revoked. This waits for the threads that access the hardware, so that none
//!    touches a device that is being reset.
//! 3. The device is reset by `DLR_CONTROL_RESET`, or by an FLR if it does not answer and no VF is
//!    enabled. Then bus mastering is turned off, and the device does no DMA in any state.
//! 4. Rings, status pages, logs and buffers are freed, even if handles refer to them.
//!
//! An *outage* is a reset or a suspend of a function that stays bound. During an outage the lease
//! is paused: new commands wait, for ten seconds at most, unless they need DMA memory or belong to
//! a session. All other calls fail with `EIO`. An outage ends logs, sessions and status pages.
//!
//! A thread that stops waiting for a command does not stop the command. The slot has its own
//! reference to the request and so to the buffer, until the completion, an abort of the function,
//! or a reset handshake or reset that the device has confirmed.
//!
//! # Recovery
//!
//! 1. If a command is overdue, the commands of its function in both rows are aborted. The overdue
//!    command ends with `ETIMEDOUT`; the other commands of the function are submitted again or end
//!    with `EIO` ([`fate`](crate::kext::cmdq::fate)). No other function is affected.
//! 2. The driver performs the reset handshake if the abort is overdue, a completion matches no
//!    command, something else has reset the device, or the device has completed nothing between two
//!    aborts and a third overdue command. Idempotent commands for which a thread waits are
//!    submitted again, at most twice.
//! 3. If the handshake is overdue, all commands end with `EIO`, and so do new ones during a pause.
//!    The first command after the pause starts with step 2 again; from the third attempt on the
//!    driver resets the whole management function instead. That ends logs and sessions: clients are
//!    told by [`Client::ended`], and status pages are set up again.
//!
//! The threads that wait for commands perform these steps ([`queue::Queue::step`]). If a thread
//! leaves because of a signal or its [`Budget`], the next one that waits continues. A command for
//! which no thread waits any more is found overdue when the next command of its function is
//! submitted.
//!
//! # Locks
//!
//! In order of acquisition:
//!
//! 1. locks of the clients (state, log, migration file),
//! 2. `Queue::desk`, a mutex, for one step of a recovery and never across a wait for the device;
//!    [`queue::Queue::step`] only tries to take it. [`Client::ended`] is called with it held,
//! 3. `Channel::client` and `Channel::log`, mutexes, never across a command. `log` is held during a
//!    drain, and so during the calls to its sink,
//! 4. the mutex of one [`Slice`](crate::kext::dma_pool::Slice) or the mutex of its pool, never
//!    both,
//! 5. `Queue::state`, a spin lock that disables interrupts, for submission and completion,
//! 6. `Channel::reader` and `Channel::closing`, spin locks, never both,
//! 7. the locks of completions and wait queues.
//!
//! The registry of services is locked with none of these held. The lease is no lock, but unbind
//! waits for the threads that have entered it. A thread may enter it with any of these locks held,
//! but must not wait for a command before it leaves. Bind and unbind are the exception: they wait
//! inside for READY or RESET, with a deadline.
//!
//! [`Function::posted`](function::Function::posted), the hot path of a report,
//! [`Prepared::submit`](prepared::Prepared::submit) and
//! [`Function::glance`](function::Function::glance) do not sleep: they take lock 5 and enter the
//! lease. [`Function::status`](function::Function::status) sleeps for up to a second while the
//! device is updating the page, and so must not be called with a lock that a reset takes.
//!
//! # Contexts
//!
//! Every call except `stats`, `is_gone`, `glance`, `posted` and `Prepared::submit` may sleep. The
//! interrupt thread of the queue takes completions, and recovers the queue after a completion that
//! matches no command. Clients of logs run in the interrupt thread of the log's vector. The two
//! vectors are never the same, because a client may wait for a completion.

#![forbid(unsafe_code)]

mod channel;
mod class;
mod command;
mod debugfs;
mod driver;
mod function;
mod function_log;
mod function_status;
mod hardware;
mod interrupt;
mod line;
mod log;
mod memory;
mod outage;
mod prepared;
mod queue;
mod service;
mod stats;
mod ticket;
mod verify;

/// Margin that is added to every deadline of the device for the latency of the driver, in
/// milliseconds.
const MARGIN_MS: u32 = 500;

pub(crate) use channel::{
    Claim,
    Client,
    Reader, //
};
pub(crate) use command::Reply;
pub(crate) use driver::{
    Driver,
    Leaving, //
};
pub(crate) use function::Function;
pub(crate) use function_log::LogConfig;
pub(crate) use memory::Buffer;
pub(crate) use prepared::Prepared;
pub(crate) use service::{
    candidates,
    init,
    Service, //
};
pub(crate) use ticket::Ticket;
