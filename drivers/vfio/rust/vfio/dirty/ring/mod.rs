// SPDX-License-Identifier: GPL-2.0

//! A [`Tracker`](super::tracker::Tracker) for hardware with a *log ring*: the device writes an
//! entry for each run of granules that it has dirtied into a ring in host memory.
//!
//! ```text
//!  device ──▶ LogRing ── drain ──▶ RingTracker ── marks ──▶ the layer's log
//!             (entries)  (pieces)  (SYNC, LOST)
//! ```
//!
//! # Rules
//!
//! The comments cite these rules, and the model of the device in `model` breaks them one at a time,
//! to show that the tests notice.
//!
//! 1. *Data before entry.* A DMA write is visible in memory before its entry is.
//! 2. *Filter.* The device may suppress repeats: a granule that was logged once need not be logged
//!    again until a SYNC covers it.
//! 3. *SYNC is one point of the log.* SYNC(range, cookie) clears the filter of the range and posts
//!    a marker with the cookie. Entries before the marker were logged under the old filter, entries
//!    after it under the cleared one.
//! 4. *A report consumes nothing behind its marker.* What stands there is filtered again, so a bit
//!    that is taken from there would be the last word on that granule.
//! 5. *A report of clean memory sends no command.* It reads the number of posted entries, with
//!    which the device answers only when the entries of all writes before the read are posted, and
//!    drains to that number. If no granule of the range is marked then, the range is clean.
//! 6. *A loss announces itself.* The device keeps the last free slot for a LOST entry. After it
//!    nothing is logged until a SYNC of everything. The driver first drains to the marker of that
//!    SYNC, and only then marks all that is tracked.
//!
//! # Files
//!
//! No file imports one that is listed after it.
//!
//! | file | contents |
//! | --- | --- |
//! | `format` | the trait of the format of an entry |
//! | `consumer` | the driver's end of a ring: counts, slots, phase bits |
//! | `piece` | what a drain passes to its sink |
//! | `memory` | a ring in DMA memory, and its drain |
//! | `device` | the trait of a device with a log ring |
//! | `stale`, `stats` | markers to skip; counters |
//! | `tracker` | the tracker: START, ADD, STOP and the order of a report |
//! | `sync` | SYNC and drain |

mod consumer;
pub(crate) mod device;
#[cfg(dlr_bench)]
mod filled;
pub(crate) mod format;
pub(crate) mod memory;
#[cfg(CONFIG_KUNIT = "y")]
mod model;
#[cfg(CONFIG_KUNIT = "y")]
mod model_setup;
#[cfg(CONFIG_KUNIT = "y")]
mod model_tests;
#[cfg(CONFIG_KUNIT = "y")]
mod model_vmm;
pub(crate) mod piece;
mod stale;
mod stats;
mod sync;
pub(crate) mod tracker;

pub(crate) use consumer::CHUNK;
