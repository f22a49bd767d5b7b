// SPDX-License-Identifier: GPL-2.0

//! Signals of the running thread.

use crate::bindings;

/// Returns whether SIGKILL is pending for the running thread. It stays pending.
pub(crate) fn fatal_pending() -> bool {
    // SAFETY: The helper only reads `current`.
    unsafe { bindings::rust_helper_vfio_fatal_signal_pending() }
}
