// SPDX-License-Identifier: GPL-2.0

//! Gaps of the `kernel` crate, each file upstreamable by itself. Knows nothing of VFIO or of the vendor.
//!
//! | file | what the `kernel` crate lacks |
//! | --- | --- |
//! | `anon_file` | anonymous files made by a driver |
//! | `crc32c` | the CRC-32C library |
//! | `debugfs` | one debugfs root for the whole module |
//! | `global` | a global lock that needs no `unsafe` at its user |
//! | `pci` | capability lookup |
//! | `trace` | tracepoints of an out-of-tree module |
//! | `user` | user copies of structs that derive zerocopy |

pub(crate) mod anon_file;
pub(crate) mod crc32c;
pub(crate) mod debugfs;
pub(crate) mod global;
pub(crate) mod pci;
pub(crate) mod trace;
pub(crate) mod user;
