// SPDX-License-Identifier: GPL-2.0

//! Counters of the logs of one management function. debugfs shows them, behind those of its queue.

use crate::ext::counters::counters;

counters! {
    /// Counters since the management function was bound. The driver's decisions do not depend on
    /// them.
    pub(crate) struct Stats {
        /// Log interrupts.
        log_interrupts,
        /// Log entries that the driver consumed.
        log_entries,
        /// Drains of a log ring that failed.
        log_garbage,
        /// LOG_SYNC commands that succeeded.
        syncs,
        /// Total time of these commands, from their creation to their completion, in nanoseconds.
        sync_ns,
        /// Longest such time, in nanoseconds.
        sync_max_ns,
    }
}
