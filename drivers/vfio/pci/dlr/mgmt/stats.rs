// SPDX-License-Identifier: GPL-2.0

//! Counters of one management function, for debugfs.

use kernel::{
    fmt,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// Counts since the management function was bound. Only for people: nothing depends on them.
pub(crate) struct Stats {
    /// Commands given to the device.
    pub(super) commands: Counter,
    /// Commands that the device answered with an error.
    pub(super) errors: Counter,
    /// Commands that were not answered in time.
    pub(super) timeouts: Counter,
    /// Waits that a fatal signal ended.
    pub(super) killed: Counter,
    /// Completions that made no sense.
    pub(super) garbage: Counter,
    /// Reset handshakes of the admin queue.
    pub(super) resets: Counter,
    /// Log interrupts.
    pub(super) log_interrupts: Counter,
    /// Log entries consumed.
    pub(super) log_entries: Counter,
    /// Log entries that made no sense.
    pub(super) log_garbage: Counter,
    /// LOG_SYNC commands completed.
    pub(super) syncs: Counter,
    /// Nanoseconds that they took together.
    pub(super) sync_ns: Counter,
    /// Nanoseconds of the slowest.
    pub(super) sync_max_ns: Counter,
}

/// One of them.
pub(crate) struct Counter(Atomic<i64>);

impl Counter {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// One more.
    pub(super) fn count(&self) {
        self.add(1);
    }

    /// `n` more.
    pub(super) fn add(&self, n: i64) {
        self.0.add(n, Relaxed);
    }

    /// At least `n`. Two threads at once may keep the smaller of theirs.
    pub(super) fn at_least(&self, n: i64) {
        if self.get() < n {
            self.0.store(n, Relaxed);
        }
    }

    /// The count.
    pub(crate) fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

impl Stats {
    /// All zero.
    pub(super) const fn new() -> Self {
        Self {
            commands: Counter::new(),
            errors: Counter::new(),
            timeouts: Counter::new(),
            killed: Counter::new(),
            garbage: Counter::new(),
            resets: Counter::new(),
            log_interrupts: Counter::new(),
            log_entries: Counter::new(),
            log_garbage: Counter::new(),
            syncs: Counter::new(),
            sync_ns: Counter::new(),
            sync_max_ns: Counter::new(),
        }
    }
}

impl Stats {
    /// One `name value` pair a line.
    pub(super) fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, counter) in [
            ("commands", &self.commands),
            ("errors", &self.errors),
            ("timeouts", &self.timeouts),
            ("killed", &self.killed),
            ("garbage", &self.garbage),
            ("resets", &self.resets),
            ("log_interrupts", &self.log_interrupts),
            ("log_entries", &self.log_entries),
            ("log_garbage", &self.log_garbage),
            ("syncs", &self.syncs),
            ("sync_ns", &self.sync_ns),
            ("sync_max_ns", &self.sync_max_ns),
        ] {
            writeln!(f, "{name} {}", counter.get())?;
        }
        Ok(())
    }
}
