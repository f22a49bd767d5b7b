// SPDX-License-Identifier: GPL-2.0

//! What the precopy ioctl answers: bytes of the initial image and of changes that the
//! user has still to read. Pure arithmetic on the status page and on stream positions.

use crate::{
    proto::StatusPage,
    vfio::migration_file::PrecopyInfo, //
};
use kernel::prelude::*;

/// Positions in the stream of one session.
#[derive(Default)]
pub(super) struct Accounting {
    /// Bytes that the device has delivered.
    fetched: u64,
    /// Bytes that the user has taken.
    taken: u64,
    /// Where the initial image ends, as far as is known.
    initial_end: u64,
    /// `reinit_count` of the image that `initial_end` belongs to.
    reinit: u32,
}

impl Accounting {
    /// At the start of a session.
    pub(super) fn begin(status: &StatusPage) -> Self {
        Self {
            initial_end: status.initial_bytes,
            reinit: status.reinit_count,
            ..Self::default()
        }
    }

    /// Bytes that the device still has.
    pub(super) fn pending(status: &StatusPage) -> u64 {
        status.initial_bytes.saturating_add(status.dirty_bytes)
    }

    /// The device delivered `bytes`.
    pub(super) fn fetched(&mut self, bytes: u64) {
        self.fetched = self.fetched.saturating_add(bytes);
    }

    /// The user took `bytes`.
    pub(super) fn took(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_add(bytes);
    }

    /// Bytes that the user took.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// The answer. `unread` bytes are delivered and not taken; `reading` tells that
    /// more are on their way, in nobody's count.
    pub(super) fn info(
        &mut self,
        status: &StatusPage,
        unread: u64,
        reading: bool,
        v2: bool,
    ) -> PrecopyInfo {
        let total = unread.saturating_add(Self::pending(status));
        let here = self.fetched.saturating_add(status.initial_bytes);
        let restarted = status.reinit_count != self.reinit;
        if restarted && v2 {
            // A new image begins, and its base is the user's position: all that is
            // unread belongs to it (contract D15). Told once: the user takes every
            // such answer as one more restart.
            self.reinit = status.reinit_count;
            self.initial_end = self.taken.saturating_add(total);
            return PrecopyInfo {
                initial_bytes: total.max(1),
                dirty_bytes: 0,
                reinit: true,
            };
        }
        if !restarted && !reading && status.initial_bytes != 0 {
            // The image is still being delivered: now its end is known exactly. A
            // restart that the user cannot be told of counts as changes.
            self.initial_end = here;
        }
        if self.fetched == 0 && !reading {
            // Nothing was read yet: changes cannot have come after the image (D14).
            let initial_bytes = status.initial_bytes.max(1);
            return PrecopyInfo {
                initial_bytes,
                dirty_bytes: 0,
                reinit: false,
            };
        }
        let left = self.initial_end.saturating_sub(self.taken);
        // What is on its way is in nobody's count: the image is not shorter for it.
        let initial_bytes = if reading { left } else { left.min(total) };
        let mut dirty_bytes = total.saturating_sub(initial_bytes);
        if reading && initial_bytes == 0 && dirty_bytes == 0 {
            // Both zero means that there is nothing to read.
            dirty_bytes = 1;
        }
        PrecopyInfo {
            initial_bytes,
            dirty_bytes,
            reinit: false,
        }
    }
}

#[kunit_tests(dlr_vf_precopy)]
mod tests {
    use super::*;

    #[test]
    fn first_answer_has_only_an_initial_image() {
        let mut a = Accounting::begin(&page(1000, 50, 0));
        let info = a.info(&page(1000, 50, 0), 0, false, true);
        assert_eq!(
            (info.initial_bytes, info.dirty_bytes, info.reinit),
            (1000, 0, false)
        );
    }

    #[test]
    fn initial_falls_to_zero() {
        let mut a = Accounting::begin(&page(1000, 0, 0));
        a.fetched(600);
        a.took(100);
        let info = a.info(&page(400, 0, 0), 500, false, true);
        assert_eq!((info.initial_bytes, info.dirty_bytes), (900, 0));
        a.fetched(400);
        a.took(900);
        let info = a.info(&page(0, 70, 0), 0, false, true);
        assert_eq!((info.initial_bytes, info.dirty_bytes), (0, 70));
        let info = a.info(&page(0, 0, 0), 0, false, true);
        assert_eq!((info.initial_bytes, info.dirty_bytes), (0, 0));
    }

    #[test]
    fn changes_behind_the_image_are_dirty() {
        let mut a = Accounting::begin(&page(100, 0, 0));
        a.fetched(100);
        a.fetched(30);
        let info = a.info(&page(0, 5, 0), 130, false, true);
        assert_eq!((info.initial_bytes, info.dirty_bytes), (100, 35));
    }

    #[test]
    fn an_image_that_grows() {
        let mut a = Accounting::begin(&page(100, 0, 0));
        a.fetched(90);
        a.took(90);
        let info = a.info(&page(60, 0, 0), 0, false, true);
        assert_eq!((info.initial_bytes, info.dirty_bytes), (60, 0));
    }

    #[test]
    fn restart_is_told_once_and_only_to_version_2() {
        let mut a = Accounting::begin(&page(100, 0, 3));
        a.fetched(100);
        a.took(90);
        let info = a.info(&page(100, 7, 4), 10, false, false);
        assert_eq!(
            (info.initial_bytes, info.dirty_bytes, info.reinit),
            (10, 107, false)
        );
        let info = a.info(&page(100, 7, 4), 10, false, true);
        assert_eq!(
            (info.initial_bytes, info.dirty_bytes, info.reinit),
            (117, 0, true)
        );
        a.took(10);
        let info = a.info(&page(100, 0, 4), 0, false, true);
        assert_eq!(
            (info.initial_bytes, info.dirty_bytes, info.reinit),
            (100, 0, false)
        );
    }

    #[test]
    fn a_read_in_flight_is_not_the_end() {
        let mut a = Accounting::begin(&page(100, 0, 0));
        let info = a.info(&page(0, 0, 0), 0, true, true);
        assert_eq!((info.initial_bytes, info.dirty_bytes), (100, 0));
        a.fetched(100);
        a.took(100);
        let info = a.info(&page(0, 0, 0), 0, true, true);
        assert_eq!((info.initial_bytes, info.dirty_bytes), (0, 1));
    }

    fn page(initial_bytes: u64, dirty_bytes: u64, reinit_count: u32) -> StatusPage {
        StatusPage {
            initial_bytes,
            dirty_bytes,
            reinit_count,
            ..StatusPage::default()
        }
    }
}
