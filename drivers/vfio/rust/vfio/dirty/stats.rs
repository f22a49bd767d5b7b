// SPDX-License-Identifier: GPL-2.0

//! Counters of the reports of a log, written with the log lock held and read by debugfs without it.

use kernel::{
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        Instant,
        Monotonic, //
    },
};

/// Counters since the function was bound, and the rate of the current log.
pub(crate) struct LogStats {
    reports: Atomic<u64>,
    clean: Atomic<u64>,
    pages: Atomic<u64>,
    pages_per_second: Atomic<u64>,
}

/// The rate of reported pages, over windows of at least a second. The log lock protects it.
pub(super) struct Rate {
    since: Instant<Monotonic>,
    pages: u64,
}

/// The counters at one moment.
pub(crate) struct LogCounts {
    /// Number of reports.
    pub(crate) reports: u64,
    /// Number of reports in which nothing was dirty.
    pub(crate) clean: u64,
    /// Number of pages of 4 KiB that were reported dirty.
    pub(crate) pages: u64,
    /// Pages of 4 KiB reported dirty per second.
    pub(crate) pages_per_second: u64,
}

impl LogStats {
    /// Creates counters of zero.
    pub(crate) fn new() -> Self {
        Self {
            reports: Atomic::new(0),
            clean: Atomic::new(0),
            pages: Atomic::new(0),
            pages_per_second: Atomic::new(0),
        }
    }

    /// Sets the rate to 0 when a log is started.
    pub(super) fn begin(&self) {
        self.pages_per_second.store(0, Relaxed);
    }

    /// Counts a report in which nothing was dirty.
    pub(super) fn clean_report(&self) {
        self.reports.add(1, Relaxed);
        self.clean.add(1, Relaxed);
    }

    /// Counts a report of `pages` dirty pages of 4 KiB.
    pub(super) fn dirty_report(&self, pages: u64, rate: &mut Rate) {
        self.reports.add(1, Relaxed);
        self.pages.add(pages, Relaxed);
        if let Some(rate) = rate.add(pages) {
            self.pages_per_second.store(rate, Relaxed);
        }
    }

    /// Returns the counters, for debugfs.
    pub(crate) fn counts(&self) -> LogCounts {
        LogCounts {
            reports: self.reports.load(Relaxed),
            clean: self.clean.load(Relaxed),
            pages: self.pages.load(Relaxed),
            pages_per_second: self.pages_per_second.load(Relaxed),
        }
    }
}

impl Rate {
    /// Begins a window now.
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            pages: 0,
        }
    }

    /// Adds `pages`; returns the rate at the end of a window.
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
