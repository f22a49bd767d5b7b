// SPDX-License-Identifier: GPL-2.0

//! Logging of DMA writes: the trait of a driver ([`tracker`]), and the [`log`] that the layer
//! builds on it.
//!
//! No file imports one that is listed after it, and the files up to `limits` have no locks and no
//! hardware access:
//!
//! | file | contents |
//! | --- | --- |
//! | `span` | an interval of granules; joining neighbours |
//! | `run` | a short run of granules in one word, as a log has them |
//! | `memory` | how much memory a bitmap may take, and the cgroup that is charged |
//! | `words` | bit operations on slices of words |
//! | `chunk` | which of 8192 granules are dirty: a list or a bitmap |
//! | `node`, `tree` | the tree of chunks |
//! | `coarse` | intervals that are dirty as a whole |
//! | `bitmap` | the sparse bitmap: a tree and coarse intervals |
//! | `ranges` | the set of tracked granules |
//! | `limits` | address bits of a device, memory limit of a log |
//! | `marks` | the destination of what the hardware has logged |
//! | `tracker` | the trait of a device that logs DMA writes |
//! | `writes` | DMA writes of which a driver learns one by one |
//! | `stats` | counters of reports |
//! | `session` | an active log |
//! | `lock` | the log lock |
//! | `log` | the log of one function: START, STOP and REPORT |
//! | `ring` | a tracker for hardware with a log ring |

pub(crate) mod bitmap;
#[cfg(CONFIG_KUNIT = "y")]
mod bitmap_tests;
pub(crate) mod chunk;
mod coarse;
#[cfg(CONFIG_KUNIT = "y")]
mod coarse_tests;
pub(crate) mod limits;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod marks;
mod memory;
mod node;
#[cfg(CONFIG_KUNIT = "y")]
mod property;
#[cfg(CONFIG_KUNIT = "y")]
mod property_tests;
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod random;
#[cfg(CONFIG_KUNIT = "y")]
mod random_spans;
pub(crate) mod ranges;
pub(crate) mod ring;
pub(crate) mod run;
pub(crate) mod session;
pub(crate) mod span;
pub(crate) mod stats;
pub(crate) mod tracker;
mod tree;
mod words;
pub(crate) mod writes;
