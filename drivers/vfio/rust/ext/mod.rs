// SPDX-License-Identifier: GPL-2.0

//! Extensions of the `kernel` crate. No file uses `vfio` or the vendor's driver.
//!
//! | file | what the `kernel` crate lacks |
//! | --- | --- |
//! | `anon_file` | anonymous files made by a driver |
//! | `assert_not_impl` | a build that fails if a type implements a trait |
//! | `bench` | a device with DMA memory for `make bench` |
//! | `bound_cell` | access to a bound device for users that sleep |
//! | `budget` | a time limit for clean-ups that signals do not interrupt |
//! | `cmdq` | the command queue of a management function; the vendor has entries and registers |
//! | `completion` | waits that are killable and have a timeout |
//! | `counters` | structs of counters for debugfs |
//! | `crc32c` | the CRC-32C library |
//! | `debugfs` | one debugfs directory for the module |
//! | `device_link` | suspend and shutdown order of devices that are not parent and child |
//! | `dma` | safe functions for DMA mask, bus mastering and reset |
//! | `dma_fill` | copies from user memory straight into DMA memory |
//! | `dma_pool` | DMA memory that is freed before its device is unbound |
//! | `event` | a wake-up that coalesces |
//! | `gfp` | allocation flags that give up before the OOM killer |
//! | `global` | a global lock without `unsafe` at its user |
//! | `iommu` | whether two devices share an IOMMU group |
//! | `irq` | threaded MSI-X handlers without `unsafe` at their user |
//! | `killable` | killable and interruptible locking of a mutex |
//! | `lookup` | a value that a call looks up on first use |
//! | `memcg` | charging memory to a user's cgroup from another thread |
//! | `patience` | how long a call waits for a device, and what ends the wait |
//! | `pci` | capability lookup, ids of any vendor, enabling undone by devres, the PF of a VF |
//! | `pci_driver` | a PCI driver with error handlers, power management, shutdown and SR-IOV |
//! | `pm` | runtime PM references |
//! | `probe` | `dev_err_probe()` |
//! | `random` | random numbers |
//! | `registry` | services that the driver of a PF offers to the drivers of its VFs |
//! | `signal` | `fatal_signal_pending()` |
//! | `sriov` | enabling and disabling VFs |
//! | `testing` | devices, user memory and a PCI function for KUnit |
//! | `throttle` | a rate limit for messages without a lock |
//! | `trace` | tracepoints of an out-of-tree module |
//! | `trust` | whether a device was checked since it came back from an outage |
//! | `user` | user copies of structs that derive zerocopy |

pub(crate) mod anon_file;
mod assert_not_impl;
#[cfg(vfio_bench)]
pub(crate) mod bench;
pub(crate) mod bound_cell;
pub(crate) mod budget;
pub(crate) mod cmdq;
pub(crate) mod completion;
pub(crate) mod counters;
pub(crate) mod crc32c;
pub(crate) mod debugfs;
pub(crate) mod device_link;
pub(crate) mod dma;
pub(crate) mod dma_fill;
pub(crate) mod dma_pool;
pub(crate) mod event;
pub(crate) mod gfp;
pub(crate) mod global;
pub(crate) mod iommu;
pub(crate) mod irq;
pub(crate) mod killable;
pub(crate) mod lookup;
pub(crate) mod memcg;
pub(crate) mod patience;
pub(crate) mod pci;
pub(crate) mod pci_driver;
pub(crate) mod pm;
pub(crate) mod probe;
pub(crate) mod random;
pub(crate) mod registry;
pub(crate) mod signal;
pub(crate) mod sriov;
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod testing;
pub(crate) mod throttle;
pub(crate) mod trace;
pub(crate) mod trust;
pub(crate) mod user;

pub(crate) use assert_not_impl::assert_not_impl;
