// SPDX-License-Identifier: GPL-2.0

//! Driver of the management function, and the service that it offers to the drivers of data
//! functions.
//!
//! # Parts
//!
//! * [`driver`]: callbacks of the PCI core, with the decisions of
//!   [`policy`](crate::ext::pci_driver::policy).
//! * [`device`]: the admin queue, as the layer's [`cmdq`](crate::ext::cmdq) sees it, which has
//!   the queue itself with its recovery. [`class`]: which command gets a slot. [`channel`]: state
//!   of a data function.
//! * [`service`]: the service of a bound management function, and the registry of services.
//!   [`verify`]: whether the device is the same after an outage.
//! * [`function`], [`function_log`], [`function_status`], [`prepared`]: the handle through which
//!   the driver of a data function submits commands.
//! * [`hardware`]: registers and shared rings. [`log`]: log rings. [`stats`], [`debugfs`]: counters
//!   and files.
//!
//! # Lifetimes
//!
//! A [`Service`] and the objects that refer to it can outlive the binding, like the layer's queue.
//! Unbind proceeds in this order:
//!
//! 1. The service leaves the registry. From then on every call fails with `ENOTCONN`. Sleeping
//!    threads are woken, and clients are told.
//! 2. The bound cell is revoked. This waits for the threads that access the hardware, so that none
//!    touches a device that is being reset.
//! 3. The device is reset by `DLR_CONTROL_RESET`, or by an FLR if it does not answer and no VF is
//!    enabled. Then bus mastering is turned off, and the device does no DMA in any state.
//! 4. Rings, status pages, logs and buffers are freed, even if handles refer to them.
//!
//! An outage ends logs, sessions and status pages, and so does a reset of the whole management
//! function by a recovery of the queue: clients are told by
//! [`Client::ended`](crate::ext::cmdq::channel::Client::ended), and status pages are set up again.
//!
//! # Locks
//!
//! Those of [`cmdq`](crate::ext::cmdq), in its order. The locks of the clients are those of state,
//! log and migration file. `Channel::log`, a mutex, has the place of `Channel::client`; it is held
//! during a drain, and so during the calls to its sink. The registry of services is locked with
//! none of these held.
//!
//! [`Function::posted`](function::Function::posted), the hot path of a report,
//! [`Prepared::submit`] and [`Function::try_status`](function::Function::try_status) do not sleep:
//! they take the spin lock of the queue and enter the bound cell.
//! [`Function::status`](function::Function::status) sleeps for up to a second while the
//! device is updating the page, and so must not be called with a lock that a reset takes.
//!
//! # Contexts
//!
//! Every call except `is_gone`, `try_status`, `posted` and `Prepared::submit` may sleep. Clients of
//! logs run in the interrupt thread of the log's vector.

#![forbid(unsafe_code)]

mod channel;
mod class;
mod debugfs;
mod device;
mod driver;
mod function;
mod function_log;
mod function_status;
mod hardware;
mod log;
mod prepared;
mod service;
mod stats;
mod verify;

pub(crate) use channel::Claim;
pub(crate) use device::{
    Prepared,
    Reply,
    Ticket, //
};
pub(crate) use driver::{
    Driver,
    Leaving, //
};
pub(crate) use function::Function;
pub(crate) use function_log::LogConfig;
pub(crate) use service::{
    candidates,
    init,
    Service, //
};
