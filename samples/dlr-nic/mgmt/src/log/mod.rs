// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The dirty log of one data function: what the contract's rules R1..R10 ask of the device.
//!
//! Lock order: the function's DMA gate (`DataFunction::quiesced`), then the log's lock.
//! Every DMA write is announced under the gate, so whoever holds the gate and then the log
//! sees a point between two writes: that point is what POSTED and SYNC are made of.

mod engine;
mod hold;
mod post;
mod ranges;
mod recent;
mod ring;
mod sabotage;
mod session;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::status::Status;

pub(crate) use engine::LogEngine;

/// Most ranges that one log tracks.
pub(crate) const MAX_RANGES: usize = 64;
/// Smallest and largest granule, as shifts.
pub(crate) const PAGE_SHIFTS: std::ops::RangeInclusive<u32> = 12..=21;
/// A range ends at or below `1 << IOVA_BITS`.
pub(crate) const IOVA_BITS: u32 = 52;

/// What LOG_START asks for, checked for form by the caller.
#[derive(Clone, Debug)]
pub(crate) struct LogParams {
    /// DMA address of the ring in the MF's domain.
    pub(crate) ring: u64,
    /// log2 of the number of slots.
    pub(crate) order: u32,
    /// MSI-X vector of the MF.
    pub(crate) vector: u16,
    /// Unconsumed entries that raise it.
    pub(crate) threshold: u32,
    /// log2 of the granule.
    pub(crate) page_shift: u32,
    /// Longest time that DMA is held back at a full ring; zero for not at all.
    pub(crate) hold: Duration,
    /// `(iova, length)`, multiples of the granule.
    pub(crate) ranges: Vec<(u64, u64)>,
}

/// What LOG_SYNC covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncRange {
    /// Every granule; re-arms after LOST.
    All,
    /// `[iova, iova + length)`, multiples of the granule.
    Part {
        /// First byte.
        iova: u64,
        /// Bytes.
        length: u64,
    },
}

/// Entries that a test has posted, see `post.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestEntry {
    /// Honest: this granule was written.
    Write(u64),
    /// Of a type that the contract does not define.
    Garbage,
    /// A write where nothing is tracked.
    Outside,
    /// A marker that nobody asked for.
    Marker,
    /// Counted by POSTED, but not written to the ring.
    Missing,
    /// More of them counted than the ring has slots.
    Flood,
    /// Entries were lost. The log is armed all the same.
    Lost,
}

/// Counters for the control socket.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct LogStats {
    pub(super) active: bool,
    /// WRITE entries posted.
    pub(super) writes: u64,
    /// Granules in them.
    pub(super) granules: u64,
    /// SYNC markers posted.
    pub(super) syncs: u64,
    /// Reads of the POSTED register.
    pub(super) posted_reads: u64,
    /// LOST entries posted since the function was made.
    pub(super) lost: u32,
    /// Writes that came while nothing was logged after LOST.
    pub(super) unlogged: u64,
    /// Entries that a sabotage switch swallowed.
    pub(super) sabotaged: u64,
    pub(super) interrupts: u64,
    /// Times that work began to be held back for want of room.
    pub(super) holds: u64,
    /// Times that it went on without room, because the time was up.
    pub(super) holds_over: u64,
    pub(super) used: u32,
}

/// Granule numbers `[start, end)` of a checked range.
fn granules(iova: u64, length: u64, page_shift: u32) -> (u64, u64) {
    (iova >> page_shift, (iova + length) >> page_shift)
}

/// The form of a range (`struct dlr_range`).
pub(crate) fn check_range(iova: u64, length: u64, page_shift: u32) -> Result<(), Status> {
    let mask = (1 << page_shift) - 1;
    let end = iova.checked_add(length).ok_or(Status::InvalidField)?;
    if (iova | length) & mask != 0 || length == 0 || end > 1 << IOVA_BITS {
        return Err(Status::InvalidField);
    }
    Ok(())
}
