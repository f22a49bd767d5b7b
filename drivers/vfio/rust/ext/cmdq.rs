// SPDX-License-Identifier: GPL-2.0

//! The command queue of a management function, which executes commands for the functions that it
//! serves. The driver shares a submission ring and a completion ring with it, and several commands
//! are in flight at a time.
//!
//! The vendor implements [`device::Device`]: layout of the commands, registers, and what to do when
//! a command completes or a reset has ended what the device did.
//!
//! | file | contents |
//! | --- | --- |
//! | `device` | the traits that the vendor implements |
//! | `queue` | the queue: submission, completion, aborts, recovery, outages, end |
//! | `request`, `line` | a command, and the commands that wait for a slot |
//! | `ticket`, `prepared` | waits for a command; commands that are submitted without sleeping |
//! | `buffer` | DMA buffers of commands |
//! | `channel` | what is kept for each function: client, reader, claim |
//! | `interrupt` | handlers of the vectors |
//! | `stats` | counters |
//! | `ring` | ends of the two rings: free-running counts, slots and phase bits |
//! | `slots` | ids of the commands in flight |
//! | `shares` | division of the slots between functions and classes of commands |
//! | `fate` | what becomes of commands that the device has dropped |
//! | `life` | states of the queue, from a command that is overdue to the next one that works |
//!
//! The last five are data structures and decisions: they access no device, take no lock and do not
//! sleep, except that their constructors allocate memory.
//!
//! # Lifetimes
//!
//! A [`Queue`](queue::Queue) and the objects that refer to it can outlive the binding, because open
//! VFIO files hold references. Access to the device cannot: it goes through a
//! [`BoundCell`](super::bound_cell::BoundCell), and all DMA memory belongs to the bound cell or to
//! its pool.
//!
//! An *outage* is a reset or a suspend of a function that stays bound. During an outage the bound
//! cell is paused: new commands wait, for ten seconds at most, unless they need DMA memory or
//! belong to a session. All other calls fail with `EIO`. An outage ends all that the device does
//! for the functions.
//!
//! A thread that stops waiting for a command does not stop the command. The slot has its own
//! reference to the request and so to the buffer, until the completion, an abort of the function,
//! or a reset handshake or reset that the device has confirmed.
//!
//! # Recovery
//!
//! 1. If a command is overdue, the commands of its function in all rows are aborted. The overdue
//!    command ends with `ETIMEDOUT`; the other commands of the function are submitted again or end
//!    with `EIO` ([`fate`]). No other function is affected.
//! 2. The driver performs the reset handshake if the abort is overdue, a completion matches no
//!    command, something else has reset the device, or the device has completed nothing between two
//!    aborts and a third overdue command. Idempotent commands for which a thread waits are
//!    submitted again, at most twice.
//! 3. If the handshake is overdue, overdue commands end with `ETIMEDOUT` and all others with `EIO`,
//!    as do new ones during a pause.
//!    The first command after the pause starts with step 2 again; from the third attempt on the
//!    driver resets the whole management function instead. That ends all that it did for the
//!    functions: clients are told by [`Client::ended`](channel::Client::ended), and the commands of
//!    [`Device::set_up`](device::Device::set_up) are submitted again.
//!
//! The threads that wait for commands perform these steps ([`Queue::step`](queue::Queue::step)). If
//! a thread leaves because of a signal or its [`Budget`](super::budget::Budget), the next one that
//! waits continues. A command for which no thread waits any more is found overdue when the next
//! command of its function is submitted.
//!
//! # Locks
//!
//! In order of acquisition:
//!
//! 1. locks of the clients,
//! 2. `Queue::desk`, a mutex, for one step of a recovery and never across a wait for the device;
//!    [`Queue::step`](queue::Queue::step) only tries to take it.
//!    [`Client::ended`](channel::Client::ended) is called with it held,
//! 3. `Channel::client`, a mutex, and those of the vendor's data of a channel, never across a
//!    command,
//! 4. the mutex of one [`Slice`](super::dma_pool::Slice) or the mutex of its pool, never both,
//! 5. `Queue::state`, a spin lock that disables interrupts, for submission and completion,
//! 6. `Channel::reader` and `Channel::closing`, spin locks, never both,
//! 7. the locks of completions and wait queues.
//!
//! The bound cell is no lock, but unbind waits for the threads that have entered it. A thread may
//! enter it with any of these locks held, but must not wait for a command before it leaves. Bind
//! and unbind are the exception: they wait inside for READY or RESET, with a deadline.
//!
//! # Contexts
//!
//! Every call may sleep, except for [`Prepared::submit`](prepared::Prepared::submit), `is_done`,
//! `is_down` and the counters. The interrupt thread of the queue takes completions, and recovers
//! the queue after a completion that matches no command. Clients run in the interrupt thread of
//! their vector. The two vectors are never the same, because a client may wait for a completion.

#[cfg(CONFIG_KUNIT = "y")]
mod board;
pub(crate) mod buffer;
pub(crate) mod channel;
pub(crate) mod device;
#[cfg(CONFIG_KUNIT = "y")]
mod fake;
pub(crate) mod fate;
pub(crate) mod interrupt;
pub(crate) mod life;
pub(crate) mod line;
pub(crate) mod prepared;
pub(crate) mod queue;
mod request;
pub(crate) mod ring;
pub(crate) mod shares;
pub(crate) mod slots;
pub(crate) mod stats;
pub(crate) mod ticket;
