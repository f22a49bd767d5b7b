// SPDX-License-Identifier: GPL-2.0

//! Safe VFIO for variant drivers.
//!
//! A vendor implements [`pci::Operations`] for its per-device type, and [`migration::Migration`] and
//! [`dma_logging::DmaLogging`] when the hardware can do these; an
//! [`Adapter`](pci::Adapter)`<Driver>` registration in the module does the rest. Nothing of that needs
//! `unsafe`.
//!
//! # Who lives how long
//!
//! * The **registration data** is the type that implements [`pci::Operations`]. It is made in probe
//!   before the device becomes visible to users and dropped when the last reference to the VFIO device
//!   goes, which may be after unbind. So it is `'static`, and its `Drop` must not touch hardware.
//! * The **open data** is made when the first user opens the device and dropped after the last one
//!   closed it.
//! * [`OpenDevice`] is a callback-scoped view of both: it exists only while a call of
//!   an open device runs, which is also why it can lend a bound [`kernel::pci::Device`].
//! * A **migration file** outlives all of these. It owns an `Arc` of the vendor's session and never
//!   follows a pointer to the device (contract K7).
//!
//! # Contexts and locks
//!
//! | call | locks held by the callers | may sleep |
//! | --- | --- | --- |
//! | `new` | device lock | yes |
//! | `open`, `close` | `dev_set->lock` | yes |
//! | `Migration::step` | the state lock | yes |
//! | `Migration::reset` | the state lock, and possibly `memory_lock` for writing | yes, bounded |
//! | `DmaLogging::*` | none | yes |
//! | `Save::*`, `Resume::*` | none, and several threads at once | yes |
//! | `reset_prepare`, `reset_done`, `error_detected` | any | see the trait |
//!
//! `Migration::reset` can run while a page fault on the same device waits for `memory_lock`. It must
//! therefore never wait for a lock under which somebody copies to or from user memory (contract K2).

pub(crate) mod config_space;
pub(crate) mod device;
pub(crate) mod dma_logging;
mod driver;
pub(crate) mod id;
mod interval_tree;
pub(crate) mod iova_bitmap;
pub(crate) mod migration;
pub(crate) mod migration_file;
mod migration_ops;
mod ops;
pub(crate) mod pci;
pub(crate) mod state_lock;
mod transition;

pub(crate) use device::OpenDevice;
pub(crate) use id::{DeviceId, IdTable};
