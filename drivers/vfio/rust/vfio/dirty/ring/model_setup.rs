// SPDX-License-Identifier: GPL-2.0

//! Properties of the device of the model, and the sizes of its parts.

use super::{
    device::RingLimits,
    format::Entry,
    piece::{
        Flow,
        Piece, //
    },
};
use crate::vfio::{
    dirty::{
        chunk::CHUNK_GRANULES,
        tracker::Limits, //
    },
    iova_bitmap::IovaRange,
};
use kernel::prelude::*;

/// Number of granules of the model's memory.
pub(super) const GRANULES: usize = 4;
/// Number of half granules of that memory.
pub(super) const HALVES: usize = 2 * GRANULES;
/// Number of slots of the model's ring: two for entries, one for LOST.
pub(super) const RING: usize = 3;
/// Number of the first granule: the memory lies in two chunks of the bitmap.
pub(super) const BASE: u64 = CHUNK_GRANULES - 2;

/// A write: its moment, and the half granule.
pub(super) type Write = (u32, usize);
/// No writes.
pub(super) const NEVER: [Write; 2] = [(u32::MAX, 0); 2];

/// Properties of a device.
#[derive(Clone, Copy)]
pub(super) struct Setup {
    /// Log2 of the granule.
    pub(super) shift: u32,
    /// Number of granules of the model that are within the device's address bits.
    pub(super) reach: usize,
    /// Number of ranges that the device can track.
    pub(super) max_ranges: usize,
    /// Number of address bits, if `reach` is all granules.
    pub(super) iova_bits: u32,
    /// Number of SYNCs that the device answers with BUSY.
    pub(super) busy: u32,
    /// Number of SYNCs for which the driver has no memory.
    pub(super) starved: u32,
    /// The rule that the device breaks, to show that the tests notice.
    pub(super) broken: Broken,
}

impl Setup {
    /// A device with granules of 4 KiB that keeps all rules.
    pub(super) const PLAIN: Self = Self {
        shift: 12,
        reach: GRANULES,
        max_ranges: 64,
        iova_bits: 48,
        busy: 0,
        starved: 0,
        broken: Broken::Nothing,
    };

    /// Returns the range of `count` half granules from `first`.
    pub(super) fn halves(&self, first: u64, count: u64) -> Result<IovaRange> {
        let half = self.shift - 1;
        IovaRange::new((2 * BASE + first) << half, count << half)
    }

    /// Returns the limits of the device.
    pub(super) fn limits(&self) -> RingLimits {
        RingLimits {
            log: Limits {
                page_shift_min: self.shift,
                page_shift_max: self.shift,
                max_ranges: self.max_ranges,
                iova_bits: self.iova_bits,
            },
            order_min: 4,
            order_max: 4,
        }
    }
}

/// The rule that a device breaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The device breaks no rule.
    Nothing,
    /// The SYNC posts its marker a moment after it has cleared the filter (rule 3).
    LateMarker,
    /// The number of posted entries leaves out an entry that is not posted yet (rule 5).
    NoFlush,
    /// The device posts no LOST entry (rule 6).
    SilentLoss,
    /// A SYNC completes and posts no marker.
    NoMarker,
    /// The device breaks no rule: the driver submits each SYNC again, and the device executes it
    /// for the second time this number of moments after the first, or when there is room.
    Again(u32),
    /// Like [`Broken::Again`], but the device executes it once more than the driver submits it.
    TooOften(u32),
    /// Like [`Broken::Again`], but the driver does not submit it again.
    Unasked(u32),
    /// The device is gone.
    Gone,
}

/// Passes an entry to the sink of a drain.
pub(super) fn pass_on(entry: Entry, sink: &mut impl FnMut(Piece<'_>) -> Flow) -> Flow {
    match entry {
        Entry::Write(run) => sink(Piece::Writes(&[run])),
        Entry::Sync { cookie } => sink(Piece::Sync { cookie }),
        Entry::Lost => sink(Piece::Lost),
    }
}
