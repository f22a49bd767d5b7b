// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a log remembers between LOG_START and LOG_STOP.

use std::time::Instant;

use super::{
    check_range, granules,
    hold::Hold,
    ranges::{Filter, Ranges},
    ring::Ring,
    LogStats, SyncRange,
};
use crate::status::Status;

/// An active log.
pub(super) struct Session {
    pub(super) ring: Ring,
    pub(super) ranges: Ranges,
    pub(super) filter: Filter,
    pub(super) page_shift: u32,
    /// Granules already in the filter whose entry is not posted yet: a run may still grow.
    pub(super) open_run: Option<(u64, u64)>,
    pub(super) lost: bool,
    pub(super) hold: Hold,
    pub(super) error: bool,
    /// Nothing is logged before (sabotage only).
    pub(super) blind_until: Option<Instant>,
}

/// A log, active or not.
pub(super) struct Inner {
    pub(super) session: Option<Session>,
    pub(super) failed: bool,
    /// LOG_STOPs that are submitted and not yet executed.
    pub(super) stops: u32,
    /// Number of the session.
    pub(super) starts: u64,
    pub(super) stats: LogStats,
    pub(super) write_entries: u64,
}

impl Inner {
    /// The active, working log.
    pub(super) fn open_session(&mut self) -> Result<&mut Session, Status> {
        match self.session.as_mut() {
            None => Err(Status::InvalidState),
            Some(session) if session.error => Err(Status::Internal),
            Some(session) => Ok(session),
        }
    }
}

impl Session {
    /// Slots that WRITE entries of new granules may take: neither the one kept for LOST nor the
    /// one that the open run needs.
    pub(super) fn room(&self) -> u32 {
        let open = u32::from(self.open_run.is_some());
        self.ring.free().saturating_sub(1 + open)
    }

    /// At most [`Self::room`], even when the next write opens a run. 0 while a hold goes on or its
    /// time is up: it has to be told of all work then.
    pub(super) fn plenty(&self) -> u32 {
        if self.hold.is_idle() {
            self.ring.free().saturating_sub(2)
        } else {
            0
        }
    }

    /// From here on every granule of `range` is logged anew.
    pub(super) fn clear_filter(&mut self, range: SyncRange) -> Result<(), Status> {
        match range {
            SyncRange::All => self.filter.clear(),
            SyncRange::Part { iova, length } => {
                check_range(iova, length, self.page_shift)?;
                let (start, end) = granules(iova, length, self.page_shift);
                self.filter.remove(start, end);
            }
        }
        Ok(())
    }
}
