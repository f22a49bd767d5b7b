// SPDX-License-Identifier: GPL-2.0

//! Counters of one management function. debugfs shows them.

use crate::kext::counters::counters;

counters! {
    /// Counters since the management function was bound. The driver's decisions do not depend on
    /// them.
    pub(crate) struct Stats {
        /// Commands submitted to the device.
        commands,
        /// Commands that the device completed with an error.
        errors,
        /// Commands that the device did not complete before their deadline.
        timeouts,
        /// Waits that a signal ended.
        killed,
        /// Completions that match no command in flight, or have an impossible consumer count.
        garbage,
        /// Aborts of one function's commands.
        aborts,
        /// Reset handshakes of the admin queue.
        resets,
        /// Outages: resets and suspends of the management function, which end logs and sessions.
        outages,
        /// Resets of the whole management function by the recovery of the queue.
        function_resets,
        /// Commands that the driver submitted again after the device had dropped them.
        again,
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
