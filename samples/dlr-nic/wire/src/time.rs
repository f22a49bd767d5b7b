// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Time stamps for what happened on the wire.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970: what a test compares with the time stamps of QMP events.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
