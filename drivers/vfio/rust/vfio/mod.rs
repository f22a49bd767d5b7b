// SPDX-License-Identifier: GPL-2.0

//! Safe VFIO for variant drivers.
//!
//! A driver implements [`pci::Operations`] for its per-device type. If the hardware can migrate, it
//! also implements [`migration::Migratable`]; if the hardware can log DMA writes,
//! [`dma_logging::Logged`]. It registers an [`Adapter`] of the type. None of this needs `unsafe`.
//!
//! C header: [`include/linux/vfio_pci_core.h`](srctree/include/linux/vfio_pci_core.h)
//!
//! # Examples
//!
//! The examples of the traits are excerpts of the drivers in `samples/vfio`, of the vendor driver
//! and of tests, which are built and tested. As the layer is a part of each driver's crate, rustdoc
//! cannot compile them; a test compares them with those files
//! (`tools/testing/src/layers/examples.rs`).
//!
//! # Lifetimes
//!
//! * The **registration data** is the type that implements [`pci::Operations`]. It is created in
//!   probe, before users can see the device, and dropped at unbind, when no user is left. The
//!   memory of the VFIO device may be freed later; it then has no data of the driver. VFIO reads
//!   the table of callbacks once more to free it, so the module must still be loaded, as with every
//!   variant driver.
//! * The **open data** is created when the first user opens the device and dropped after the last
//!   user has closed it.
//! * [`OpenDevice`] is a view of both that exists only during a callback of an open device. Its
//!   [`PciFunction`] is not a `Device<Bound>`, because DMA memory mapped for the function would not
//!   be in the user's IOMMU domain.
//! * A **migration file** may outlive all of these. It owns an `Arc` of the driver's session, and
//!   accesses the device only through a `Link`, which unbind cuts (contract K7: item K7 of
//!   `Documentation/contract.rst`, and likewise in all comments of the layer).
//!
//! # Contexts and locks
//!
//! | call | locks held by the caller | may sleep |
//! | --- | --- | --- |
//! | `new`, `unbind` | device lock | yes |
//! | `open`, `closing`, `close` | `dev_set->lock` | yes |
//! | `read`, `write`, `ioctl`, `region_info` | none; several threads may call at once | yes |
//! | `mmap` | the user's `mmap_lock` for writing | yes |
//! | `Migration::{begin, step, arrived}` | the state lock | yes |
//! | `Migration::reset` | the state lock, and possibly `memory_lock` for writing | yes, bounded |
//! | `Migration::data_size` | none | yes |
//! | `DmaLogging::{start, stop, report}` | none | yes |
//! | `DmaLogging::end` | `dev_set->lock` | yes |
//! | `Save::*`, `Resume::*` | none; several threads may call at once | yes |
//! | `DmaLogging::{lost, after_reset}` | any | no |
//! | `Migration::after_reset` | any, and a spinlock of the state lock | no |
//! | `Migration::{before_reset, lost}`, `reset_prepare`, `reset_done` | any | see the traits |
//!
//! `Migration::reset` can run while a page fault on a BAR of the device waits for `memory_lock`. So
//! it must not wait for a lock whose holder copies to or from user memory, as that copy may cause
//! such a page fault (contract K2).
//!
//! # Files
//!
//! No file imports one of a later row.
//!
//! | file | contents |
//! | --- | --- |
//! | `id`, `function`, `bar`, `link`, `recovery` | parts of a device that do not need its driver |
//! | `config_space`, `region`, `call` | accesses, ioctls and mappings, as hooks get them |
//! | `iova_bitmap` | IOVA ranges, and the user's bitmap of a report |
//! | `interval_tree`, `dirty` | the ranges of START; the log of DMA writes |
//! | `migration/state` | states, run levels and arcs |
//! | `state_lock`, `hooks`, `device` | the state lock; tables of callbacks; the device in memory |
//! | `bar_state` | the state of a device that is all in its BARs |
//! | `pci`, `migration_file` | the trait of a driver; the file of a session |
//! | `migration`, `dma_logging` | the traits for migration and logging, and what implements them |
//! | `transition`, `migration_ops` | paths of arcs; `struct vfio_migration_ops` |
//! | `region_ops`, `ops`, `driver` | `struct vfio_device_ops`; `struct pci_driver` |
//! | `pairing`, `debugfs` | for devices with a management function: pairing; debugfs files |
//! | `prelude` | the names that a driver needs |
//! | `bench` | the native part of `make bench` |

pub(crate) mod bar;
pub(crate) mod bar_state;
#[cfg(vfio_bench)]
pub(crate) mod bench;
pub(crate) mod call;
pub(crate) mod config_space;
pub(crate) mod debugfs;
pub(crate) mod device;
#[cfg(CONFIG_KUNIT = "y")]
mod device_tests;
pub(crate) mod dirty;
pub(crate) mod dma_logging;
mod driver;
pub(crate) mod function;
mod hooks;
pub(crate) mod id;
mod interval_tree;
pub(crate) mod iova_bitmap;
mod link;
pub(crate) mod migration;
pub(crate) mod migration_file;
mod migration_ops;
mod ops;
pub(crate) mod pairing;
pub(crate) mod pci;
pub(crate) mod prelude;
mod recovery;
pub(crate) mod region;
mod region_ops;
pub(crate) mod state_lock;
#[cfg(CONFIG_KUNIT = "y")]
mod testing;
mod transition;
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod user_bitmap;

pub(crate) use driver::Adapter;
pub(crate) use function::PciFunction;
pub(crate) use id::{DeviceId, IdTable};
pub(crate) use pci::OpenDevice;
