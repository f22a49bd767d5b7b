// SPDX-License-Identifier: GPL-2.0

//! Markers of earlier SYNCs that drains must skip.

/// Markers that may follow the one at which the drain of a SYNC has ended.
#[derive(Clone, Copy, Default)]
pub(super) struct Stale {
    cookie: u64,
    count: u32,
}

impl Stale {
    /// Expects `count` more markers of the SYNC with this cookie.
    pub(super) fn new(cookie: u64, count: u32) -> Self {
        Self { cookie, count }
    }

    /// Counts off a marker that was expected. Returns `false` for any other marker.
    pub(super) fn take(&mut self, cookie: u64) -> bool {
        let expected = self.count != 0 && cookie == self.cookie;
        self.count = self.count.saturating_sub(expected.into());
        expected
    }
}
