// SPDX-License-Identifier: GPL-2.0

//! Gaps of the `kernel` crate, each file upstreamable by itself. Knows nothing of VFIO or of the vendor.
//!
//! | file | what the `kernel` crate lacks |
//! | --- | --- |
//! | `anon_file` | anonymous files made by a driver |
//! | `completion` | waits that are killable and have a deadline |
//! | `crc32c` | the CRC-32C library |
//! | `debugfs` | one debugfs root for the whole module |
//! | `device_link` | suspend and shutdown order of devices that are not parent and child |
//! | `dma` | safe start and stop of a function's DMA |
//! | `global` | a global lock that needs no `unsafe` at its user |
//! | `irq` | threaded MSI-X handlers without `unsafe` at their user |
//! | `lease` | access to a bound device for users that sleep |
//! | `pci` | capability lookup, ids of arbitrary vendors |
//! | `testing` | a device for KUnit |
//! | `trace` | tracepoints of an out-of-tree module |
//! | `user` | user copies of structs that derive zerocopy |

pub(crate) mod anon_file;
pub(crate) mod completion;
pub(crate) mod crc32c;
pub(crate) mod debugfs;
pub(crate) mod device_link;
pub(crate) mod dma;
pub(crate) mod global;
pub(crate) mod irq;
pub(crate) mod lease;
pub(crate) mod pci;
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod testing;
pub(crate) mod trace;
pub(crate) mod user;
