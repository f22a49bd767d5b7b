// SPDX-License-Identifier: GPL-2.0

//! Counters of one management function. debugfs shows them.

use kernel::{
    fmt,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// Counters since the management function was bound. The driver's decisions do not depend on them.
pub(crate) struct Stats {
    /// Commands submitted to the device.
    pub(super) commands: Counter,
    /// Commands that the device completed with an error.
    pub(super) errors: Counter,
    /// Commands that the device did not complete before their deadline.
    pub(super) timeouts: Counter,
    /// Waits that a signal ended.
    pub(super) killed: Counter,
    /// Completions that match no command in flight, or have an impossible consumer count.
    pub(super) garbage: Counter,
    /// Aborts of one function's commands.
    pub(super) aborts: Counter,
    /// Reset handshakes of the admin queue.
    pub(super) resets: Counter,
    /// Outages: resets and suspends of the management function, which end logs and sessions.
    pub(super) outages: Counter,
    /// Resets of the whole management function by the recovery of the queue.
    pub(super) function_resets: Counter,
    /// Commands that the driver submitted again after the device had dropped them.
    pub(super) again: Counter,
    /// Log interrupts.
    pub(super) log_interrupts: Counter,
    /// Log entries that the driver consumed.
    pub(super) log_entries: Counter,
    /// Drains of a log ring that failed.
    pub(super) log_garbage: Counter,
    /// LOG_SYNC commands that succeeded.
    pub(super) syncs: Counter,
    /// Total time of these commands, from their creation to their completion, in nanoseconds.
    pub(super) sync_ns: Counter,
    /// Longest such time, in nanoseconds.
    pub(super) sync_max_ns: Counter,
}

/// A counter.
pub(crate) struct Counter(Atomic<i64>);

impl Counter {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Adds one.
    pub(super) fn count(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub(super) fn add(&self, n: i64) {
        self.0.add(n, Relaxed);
    }

    /// Raises the counter to `n`. If two threads race, the smaller of their values may win.
    pub(super) fn at_least(&self, n: i64) {
        if self.get() < n {
            self.0.store(n, Relaxed);
        }
    }

    /// Returns the count.
    pub(crate) fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

impl Stats {
    /// Creates counters that are all zero.
    pub(super) const fn new() -> Self {
        Self {
            commands: Counter::new(),
            errors: Counter::new(),
            timeouts: Counter::new(),
            killed: Counter::new(),
            garbage: Counter::new(),
            aborts: Counter::new(),
            resets: Counter::new(),
            outages: Counter::new(),
            function_resets: Counter::new(),
            again: Counter::new(),
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
    /// Writes one `name value` pair per line.
    pub(super) fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, counter) in [
            ("commands", &self.commands),
            ("errors", &self.errors),
            ("timeouts", &self.timeouts),
            ("killed", &self.killed),
            ("garbage", &self.garbage),
            ("aborts", &self.aborts),
            ("resets", &self.resets),
            ("outages", &self.outages),
            ("function_resets", &self.function_resets),
            ("again", &self.again),
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
