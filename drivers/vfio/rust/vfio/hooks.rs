// SPDX-License-Identifier: GPL-2.0

//! Tables of callbacks for migration and for DMA logging. A driver has a table only for what it
//! supports, and [`pci`](super::pci) does not depend on the modules behind them.

use super::migration::state::{
    Flags,
    ResetCause, //
};
use crate::bindings;
use core::marker::PhantomData;

/// The callbacks of a `T` that implements [`Migration`](super::migration::Migration).
pub(crate) struct MigrationOps<T> {
    /// The callbacks of VFIO.
    pub(super) vtable: &'static bindings::vfio_migration_ops,
    /// The optional states of each device, unless `Operations::capabilities` says otherwise.
    pub(super) flags: Flags,
    /// Called when the function has lost its state in an error of the PCI channel, with the device
    /// lock held. Does not sleep.
    pub(super) lost: fn(&T),
    /// Called before the function is reset.
    pub(super) before_reset: fn(&T),
    /// Called after the function was reset, in any context that may sleep.
    pub(super) reset_done: fn(&T),
    /// Resets the migration state at open and at close. Waits for the state lock.
    pub(super) reset: fn(&T, ResetCause),
}

/// The callbacks of a `T` that implements [`DmaLogging`](super::dma_logging::DmaLogging).
pub(crate) struct LoggingOps<T> {
    /// The callbacks of VFIO.
    pub(super) vtable: &'static bindings::vfio_log_ops,
    /// Called when the function has lost its state in an error of the PCI channel, with the device
    /// lock held.
    pub(super) lost: fn(&T),
    /// Called after the function was reset. The caller may hold any lock.
    pub(super) reset_done: fn(&T),
    /// Stops logging on a device that is being closed.
    ///
    /// # Safety
    ///
    /// The argument is an open device of `T`.
    pub(super) close: unsafe fn(*mut bindings::vfio_device),
    pub(super) driver: PhantomData<fn(T)>,
}
