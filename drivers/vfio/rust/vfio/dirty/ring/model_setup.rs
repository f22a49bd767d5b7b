// SPDX-License-Identifier: GPL-2.0

//! What the device of the model is like, and the sizes of all that it has.

use super::device::RingLimits;
use crate::vfio::{
    dirty::{
        chunk::CHUNK_GRANULES,
        tracker::Limits, //
    },
    iova_bitmap::IovaRange,
};
use kernel::prelude::*;

/// Granules of the model's memory.
pub(super) const GRANULES: usize = 4;
/// The same memory in halves of granules.
pub(super) const HALVES: usize = 2 * GRANULES;
/// Slots of the model's ring: two entries and LOST.
pub(super) const RING: usize = 3;
/// Number of the first granule: the memory lies in two chunks of the bitmap.
pub(super) const BASE: u64 = CHUNK_GRANULES - 2;

/// A write: at which moment, to which half granule.
pub(super) type Write = (u32, usize);
/// No writes.
pub(super) const NEVER: [Write; 2] = [(u32::MAX, 0); 2];

/// What a device is like, and what is broken about it.
#[derive(Clone, Copy)]
pub(super) struct Setup {
    /// Log2 of the granule.
    pub(super) shift: u32,
    /// Granules that the device has address bits for, of those of the model.
    pub(super) reach: usize,
    /// Ranges that it can track.
    pub(super) max_ranges: usize,
    /// Address bits when `reach` is all granules.
    pub(super) iova_bits: u32,
    /// How many SYNCs it answers BUSY.
    pub(super) busy: u32,
    /// How many SYNCs the driver has no memory for.
    pub(super) starved: u32,
    /// Which rule it breaks, to see that the tests notice.
    pub(super) broken: Broken,
}

impl Setup {
    /// Granules of 4 KiB, nothing missing, nothing broken.
    pub(super) const PLAIN: Self = Self {
        shift: 12,
        reach: GRANULES,
        max_ranges: 64,
        iova_bits: 48,
        busy: 0,
        starved: 0,
        broken: Broken::Nothing,
    };

    /// Bytes from half granule `first` of the model's memory, `count` halves.
    pub(super) fn halves(&self, first: u64, count: u64) -> Result<IovaRange> {
        let half = self.shift - 1;
        IovaRange::new((2 * BASE + first) << half, count << half)
    }

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

/// Which rule a device breaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Nothing,
    /// The SYNC posts its marker a moment after it has cleared the filter.
    LateMarker,
    /// POSTED is answered without looking at writes on their way.
    NoFlush,
    /// LOST is not posted.
    SilentLoss,
    /// A SYNC completes and posts no marker.
    NoMarker,
    /// No rule: each SYNC is given again, and is executed for the second time so many moments after
    /// the first time, or when there is room.
    Again(u32),
    /// As [`Broken::Again`], but executed once more than it was given: a marker too many.
    TooOften(u32),
    /// As [`Broken::Again`], but the driver did not give it again.
    Unasked(u32),
    /// The management function is gone.
    Gone,
}
