// SPDX-License-Identifier: GPL-2.0

//! The status page of a data function, which the device updates in memory.

use super::function::Function;
use crate::{
    ext::cmdq::ring::Words,
    proto::{
        identify::Cap,
        status_page,
        StatusPage, //
    }, //
};
use kernel::{
    prelude::*,
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// Longest time of an update of a status page ("Status page" in `dlr-contract.rst`).
const MAX_UPDATE: Delta = Delta::from_millis(1000);
/// Pause between two reads of a page that the device is updating.
const PAUSE: Delta = Delta::from_micros(50);

impl Function {
    /// Reads the status page from memory. Sleeps while the device is updating it, for up to a
    /// second.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the function has no status page, `EIO` if an update does not end or in an
    /// outage, `ENOTCONN`.
    pub(crate) fn status(&self) -> Result<StatusPage> {
        self.status_with(|| self.try_status())
    }

    /// Like [`Self::status`], for a caller that must read the page together with data of its own,
    /// under a lock: `look` takes the lock, calls [`Self::try_status`] and returns `None` if that
    /// does. This function sleeps only between calls to `look`.
    pub(crate) fn status_with<R>(&self, mut look: impl FnMut() -> Result<Option<R>>) -> Result<R> {
        if !self.info.caps.contains(Cap::StatusPage) {
            return Err(EOPNOTSUPP);
        }
        // Do not read the clock in the usual case: VMMs ask thousands of times a second, and the
        // device rarely updates the page meanwhile.
        if let Some(result) = look()? {
            return Ok(result);
        }
        let begin = Instant::<Monotonic>::now();
        loop {
            fsleep(PAUSE);
            // Read the clock first, so that one look follows the deadline.
            let late = begin.elapsed() > MAX_UPDATE;
            if let Some(result) = look()? {
                return Ok(result);
            }
            if late {
                return Err(EIO);
            }
        }
    }

    /// Reads the status page from memory; `None` while the device is updating it. Never sleeps.
    ///
    /// # Errors
    ///
    /// `EIO` in an outage or if the device has not taken the page since, `ENOTCONN`.
    pub(crate) fn try_status(&self) -> Result<Option<StatusPage>> {
        if self.is_gone() {
            return Err(ENOTCONN);
        }
        let hw = self.service.queue.enter()?;
        if !self.channel.is_page_live() {
            return Err(EIO);
        }
        let first = usize::from(self.channel.number) * status_page::WORDS;
        let pages = &hw.data().pages;
        // Each function has a page within bounds. 1 would be an odd sequence number, which gives no
        // snapshot.
        Ok(StatusPage::snapshot(|i| pages.get(first + i).unwrap_or(1)))
    }
}
