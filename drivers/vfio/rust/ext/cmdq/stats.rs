// SPDX-License-Identifier: GPL-2.0

//! Counters of a command queue. debugfs shows them.

use crate::ext::counters::counters;

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
        /// Reset handshakes of the queue.
        resets,
        /// Outages: resets and suspends of the management function, which end all that it does for
        /// its functions.
        outages,
        /// Resets of the whole management function by the recovery of the queue.
        function_resets,
        /// Commands that the driver submitted again after the device had dropped them.
        again,
    }
}
