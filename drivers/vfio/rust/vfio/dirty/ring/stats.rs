// SPDX-License-Identifier: GPL-2.0

//! Counters of the log rings of a function. They are written under the log lock, and debugfs reads
//! them without it.

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// Counters since the function was bound.
pub(crate) struct RingStats {
    entries: Atomic<u64>,
    granules: Atomic<u64>,
    lost: Atomic<u64>,
    syncs: Atomic<u64>,
    sync_ns: Atomic<u64>,
    sync_max_ns: Atomic<u64>,
    sync_last_ns: Atomic<u64>,
}

/// Values of the counters.
pub(crate) struct RingCounts {
    /// Number of ring entries consumed.
    pub(crate) entries: u64,
    /// Number of granules that those entries named.
    pub(crate) granules: u64,
    /// Number of times that the log lost writes.
    pub(crate) lost: u64,
    /// Number of SYNC commands whose marker was found.
    pub(crate) syncs: u64,
    /// Mean time from the submission of a SYNC to its marker, in nanoseconds.
    pub(crate) sync_mean_ns: u64,
    /// Longest such time, in nanoseconds.
    pub(crate) sync_max_ns: u64,
    /// Latest such time, in nanoseconds.
    pub(crate) sync_last_ns: u64,
}

impl RingStats {
    /// Creates counters that are all zero.
    pub(super) fn new() -> Self {
        Self {
            entries: Atomic::new(0),
            granules: Atomic::new(0),
            lost: Atomic::new(0),
            syncs: Atomic::new(0),
            sync_ns: Atomic::new(0),
            sync_max_ns: Atomic::new(0),
            sync_last_ns: Atomic::new(0),
        }
    }

    /// Counts `entries` consumed entries that named `granules` granules.
    pub(super) fn drained(&self, entries: u32, granules: u64) {
        self.entries.add(u64::from(entries), Relaxed);
        self.granules.add(granules, Relaxed);
    }

    /// Counts a loss and returns the new count.
    pub(super) fn lost(&self) -> u64 {
        self.lost.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// Counts a SYNC that took `ns` nanoseconds.
    pub(super) fn sync(&self, ns: u64) {
        self.syncs.add(1, Relaxed);
        self.sync_ns.add(ns, Relaxed);
        self.sync_last_ns.store(ns, Relaxed);
        if ns > self.sync_max_ns.load(Relaxed) {
            // No other thread writes, because the caller holds the log lock.
            self.sync_max_ns.store(ns, Relaxed);
        }
    }

    /// Reads the counters.
    pub(crate) fn counts(&self) -> RingCounts {
        let syncs = self.syncs.load(Relaxed);
        RingCounts {
            entries: self.entries.load(Relaxed),
            granules: self.granules.load(Relaxed),
            lost: self.lost.load(Relaxed),
            syncs,
            sync_mean_ns: self.sync_ns.load(Relaxed).checked_div(syncs).unwrap_or(0),
            sync_max_ns: self.sync_max_ns.load(Relaxed),
            sync_last_ns: self.sync_last_ns.load(Relaxed),
        }
    }
}
