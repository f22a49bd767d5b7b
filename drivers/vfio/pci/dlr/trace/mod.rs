// SPDX-License-Identifier: GPL-2.0

//! Tracepoints of the driver.
//!
//! C header: `drivers/vfio/pci/dlr/trace/dlr_trace.h`, which documents the fields of the events.

use crate::ext::trace::declare_trace;
use kernel::prelude::*;

#[cfg(CONFIG_TRACEPOINTS)]
#[allow(warnings, clippy::all, unsafe_code, reason = "bindgen's declarations")]
mod raw {
    include!("events_generated.rs");
}

declare_trace! {
    use self::raw;

    /// A transition of the migration state machine has ended. `error` is 0 or a negative errno.
    pub(crate) fn migration_step => dlr_migration_step(dev: &CStr, from: u32, to: u32, error: i32);
    /// The driver has consumed the marker of a LOG_SYNC, `latency_ns` after it submitted the
    /// command. `all` is set if the SYNC covered every range; otherwise it covered `length` bytes
    /// at `iova`.
    pub(crate) fn log_sync => dlr_log_sync(
        dev: &CStr,
        iova: u64,
        length: u64,
        all: bool,
        latency_ns: u64,
    );
    /// The driver has consumed `entries` log entries, which name `granules` granules in total.
    /// `irq` is set if an interrupt asked for it, and clear in the harvest of a REPORT.
    pub(crate) fn log_drain => dlr_log_drain(dev: &CStr, entries: u32, granules: u64, irq: bool);
    /// A REPORT has found that the log lost writes, for the `count`th time.
    pub(crate) fn log_lost => dlr_log_lost(dev: &CStr, count: u64);
}
