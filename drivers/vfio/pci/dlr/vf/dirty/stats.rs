// SPDX-License-Identifier: GPL-2.0

//! Counters of a log. Written under the log lock, read by debugfs without it.

use kernel::{
    sync::atomic::{Atomic, Relaxed},
    time::{Instant, Monotonic},
};

/// Counters since the function was bound, except for the rate.
pub(crate) struct LogStats {
    reports: Atomic<u64>,
    clean: Atomic<u64>,
    pages: Atomic<u64>,
    entries: Atomic<u64>,
    granules: Atomic<u64>,
    lost: Atomic<u64>,
    syncs: Atomic<u64>,
    sync_ns: Atomic<u64>,
    sync_max_ns: Atomic<u64>,
    sync_last_ns: Atomic<u64>,
    pages_per_second: Atomic<u64>,
}

/// Reported pages a second, over windows of at least a second. Under the log lock.
pub(super) struct Rate {
    since: Instant<Monotonic>,
    pages: u64,
}

/// The counters at one moment.
pub(crate) struct LogCounts {
    /// REPORTs.
    pub(crate) reports: u64,
    /// REPORTs that were answered without a command.
    pub(crate) clean: u64,
    /// Pages of 4 KiB reported dirty.
    pub(crate) pages: u64,
    /// Ring entries consumed.
    pub(crate) entries: u64,
    /// Granules that those entries named.
    pub(crate) granules: u64,
    /// Times the log lost entries.
    pub(crate) lost: u64,
    /// SYNC commands.
    pub(crate) syncs: u64,
    /// Mean time from a SYNC to its marker, ns.
    pub(crate) sync_mean_ns: u64,
    /// Longest such time, ns.
    pub(crate) sync_max_ns: u64,
    /// Latest such time, ns.
    pub(crate) sync_last_ns: u64,
    /// Reported pages a second.
    pub(crate) pages_per_second: u64,
}

impl LogStats {
    /// All zero.
    pub(super) fn new() -> Self {
        Self {
            reports: Atomic::new(0),
            clean: Atomic::new(0),
            pages: Atomic::new(0),
            entries: Atomic::new(0),
            granules: Atomic::new(0),
            lost: Atomic::new(0),
            syncs: Atomic::new(0),
            sync_ns: Atomic::new(0),
            sync_max_ns: Atomic::new(0),
            sync_last_ns: Atomic::new(0),
            pages_per_second: Atomic::new(0),
        }
    }

    /// A log was started: the rate begins anew.
    pub(super) fn begin(&self) {
        self.pages_per_second.store(0, Relaxed);
    }

    pub(super) fn clean_report(&self) {
        self.reports.add(1, Relaxed);
        self.clean.add(1, Relaxed);
    }

    pub(super) fn dirty_report(&self, pages: u64, rate: &mut Rate) {
        self.reports.add(1, Relaxed);
        self.pages.add(pages, Relaxed);
        if let Some(rate) = rate.add(pages) {
            self.pages_per_second.store(rate, Relaxed);
        }
    }

    pub(super) fn drained(&self, entries: u32, granules: u64) {
        self.entries.add(u64::from(entries), Relaxed);
        self.granules.add(granules, Relaxed);
    }

    /// Counts a loss; returns which one it is.
    pub(super) fn lost(&self) -> u64 {
        self.lost.fetch_add(1, Relaxed).wrapping_add(1)
    }

    pub(super) fn sync(&self, ns: u64) {
        self.syncs.add(1, Relaxed);
        self.sync_ns.add(ns, Relaxed);
        self.sync_last_ns.store(ns, Relaxed);
        if ns > self.sync_max_ns.load(Relaxed) {
            // Only the holder of the log lock writes.
            self.sync_max_ns.store(ns, Relaxed);
        }
    }

    /// What debugfs shows.
    pub(crate) fn counts(&self) -> LogCounts {
        let syncs = self.syncs.load(Relaxed);
        LogCounts {
            reports: self.reports.load(Relaxed),
            clean: self.clean.load(Relaxed),
            pages: self.pages.load(Relaxed),
            entries: self.entries.load(Relaxed),
            granules: self.granules.load(Relaxed),
            lost: self.lost.load(Relaxed),
            syncs,
            sync_mean_ns: self.sync_ns.load(Relaxed).checked_div(syncs).unwrap_or(0),
            sync_max_ns: self.sync_max_ns.load(Relaxed),
            sync_last_ns: self.sync_last_ns.load(Relaxed),
            pages_per_second: self.pages_per_second.load(Relaxed),
        }
    }
}

impl Rate {
    /// Begins now.
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            pages: 0,
        }
    }

    /// The rate, when a window is full.
    fn add(&mut self, pages: u64) -> Option<u64> {
        self.pages = self.pages.saturating_add(pages);
        let ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(0);
        if ms < 1000 {
            return None;
        }
        let rate = self.pages.saturating_mul(1000) / ms;
        *self = Self::new();
        Some(rate)
    }
}
