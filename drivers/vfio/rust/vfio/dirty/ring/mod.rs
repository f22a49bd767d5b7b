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
//! 4. *A report consumes nothing behind its marker.* The filter suppresses further writes to the
//!    granules of those entries. If the report took their bits, it would clear them at its end, and
//!    clearing such a bit would lose the suppressed writes.
//! 5. *A report of clean memory sends no command.* It reads the number of posted entries and drains
//!    to that number. The device answers the read only when the entries of all writes before the
//!    read are posted. If no granule of the range is marked then, the range is clean.
//! 6. *The device reports a loss.* It keeps the last free slot for a LOST entry, after which it
//!    logs nothing until a SYNC of all ranges. The driver first drains to the marker of that SYNC,
//!    and only then marks all tracked granules.
//!
//! # The way of an entry
//!
//! The files between the ring and the user's bitmap each have one reason to exist:
//!
//! 1. `format`: the entry is one word. [`format::Format`] is a trait because its bits belong to the
//!    vendor.
//! 2. `memory`: the word lies in DMA memory, possibly of a management function, so the driver of
//!    the device that writes it owns the [`memory::LogRing`] and rings the doorbell. The driver of
//!    the function reaches it as a [`device::LogDevice`].
//! 3. `consumer`: decides by count and phase bit that the device has written the word. It has no
//!    DMA memory, so that it can be tested on arrays.
//! 4. `piece`: collects up to 256 runs, so that one call marks them all.
//! 5. `sync`: receives the pieces, and decides how far a drain goes.
//! 6. [`marks`](super::marks): checks that the granules are tracked; [`bitmap`](super::bitmap)
//!    keeps them until a report passes them to the user.
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
//! | `filled` | rings for benchmarks |

mod consumer;
pub(crate) mod device;
#[cfg(vfio_bench)]
mod filled;
pub(crate) mod format;
pub(crate) mod memory;
#[cfg(CONFIG_KUNIT = "y")]
mod model;
#[cfg(CONFIG_KUNIT = "y")]
mod model_error_tests;
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
