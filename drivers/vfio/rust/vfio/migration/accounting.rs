// SPDX-License-Identifier: GPL-2.0

//! The answers to `VFIO_MIG_GET_PRECOPY_INFO` and MIG_DATA_SIZE, computed from the pending bytes
//! that the device reports and from positions in the stream.
//!
//! C header: [`include/uapi/linux/vfio.h`](srctree/include/uapi/linux/vfio.h), `struct
//! vfio_precopy_info`

use crate::vfio::migration_file::PrecopyInfo;
use kernel::prelude::*;

/// Bytes of device state that have not been read, as the device reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Pending {
    /// Bytes of the initial image that have not been read.
    pub(crate) initial_bytes: u64,
    /// Bytes of changes after the initial image that have not been read.
    pub(crate) dirty_bytes: u64,
    /// Estimate of the bytes that a stop-copy would deliver if the function stopped now.
    pub(crate) total_bytes: u64,
    /// A number that changes when the device starts a new initial image within a session.
    pub(crate) generation: u32,
}

impl Pending {
    /// Returns the number of bytes that reads would deliver now.
    pub(crate) fn now(&self) -> u64 {
        self.initial_bytes.saturating_add(self.dirty_bytes)
    }
}

/// Positions in the stream of a save session.
#[derive(Default)]
pub(crate) struct Accounting {
    /// Bytes that the device has delivered.
    fetched: u64,
    /// Whether a read has ended, perhaps without data.
    begun: bool,
    /// Bytes that the user has read.
    taken: u64,
    /// Position of the end of the initial image, as far as it is known.
    initial_end: u64,
    /// [`Pending::generation`] of the image whose end is `initial_end`.
    generation: u32,
    /// The next `generation` and `initial_end`, if the last answer has `reinit`. They apply once
    /// the user has received that answer.
    restart: Option<(u32, u64)>,
}

impl Accounting {
    /// Starts the accounting of a session.
    pub(crate) fn begin(pending: &Pending) -> Self {
        Self {
            initial_end: pending.initial_bytes,
            generation: pending.generation,
            ..Self::default()
        }
    }

    /// Notes that a read has ended, with which the device has delivered `bytes`.
    pub(crate) fn fetched(&mut self, bytes: u64) {
        self.fetched = self.fetched.saturating_add(bytes);
        self.begun = true;
    }

    /// Notes that the user has read `bytes`.
    pub(crate) fn took(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_add(bytes);
    }

    /// Returns the number of bytes that the user has read.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Notes that the user has received the last answer of [`Self::info`].
    pub(crate) fn told(&mut self) {
        if let Some((generation, initial_end)) = self.restart.take() {
            self.generation = generation;
            self.initial_end = initial_end;
        }
    }

    /// Returns the answer for the user. `unread` is the number of bytes that are delivered but not
    /// read. `reading` is set while reads are in flight, whose bytes are neither in `pending` nor
    /// in `unread`.
    pub(crate) fn info(
        &mut self,
        pending: &Pending,
        unread: u64,
        reading: bool,
        v2: bool,
    ) -> PrecopyInfo {
        self.restart = None;
        let total = unread.saturating_add(pending.now());
        let here = self.fetched.saturating_add(pending.initial_bytes);
        let restarted = pending.generation != self.generation;
        if restarted && v2 {
            // The new image starts at the user's position, so all unread bytes belong to it
            // (contract D15). The user counts each answer with `reinit` as another restart, so
            // `told` ends it.
            self.restart = Some((pending.generation, self.taken.saturating_add(total)));
            return PrecopyInfo {
                initial_bytes: total.max(1),
                dirty_bytes: 0,
                reinit: true,
            };
        }
        if !restarted && !reading && pending.initial_bytes != 0 {
            // The device still delivers the image, so its end is known exactly. For a restart
            // without version 2 the end does not move: the new image counts as changes.
            self.initial_end = here;
        }
        if !self.begun && !reading {
            // Before the first read there are no changes after the image (contract D14).
            let initial_bytes = pending.initial_bytes.max(1);
            return PrecopyInfo {
                initial_bytes,
                dirty_bytes: 0,
                reinit: false,
            };
        }
        let left = self.initial_end.saturating_sub(self.taken);
        // `total` lacks the bytes of reads in flight, so it must not shorten the image.
        let initial_bytes = if reading { left } else { left.min(total) };
        let mut dirty_bytes = total.saturating_sub(initial_bytes);
        if reading && initial_bytes == 0 && dirty_bytes == 0 {
            // Two zeros would tell the user that there is nothing to read.
            dirty_bytes = 1;
        }
        PrecopyInfo {
            initial_bytes,
            dirty_bytes,
            reinit: false,
        }
    }
}

/// Returns the answer to MIG_DATA_SIZE: the bytes that a stop-copy would transfer if it started
/// now, of which `total` are in the device and `unread` in the driver's buffers.
///
/// At the end of a stream it returns 1, because VMMs take 0 for a device that cannot be migrated.
pub(crate) fn data_size(total: u64, unread: u64) -> u64 {
    total.saturating_add(unread).max(1)
}

#[kunit_tests(vfio_migration_accounting)]
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
        a.told();
        a.took(10);
        let info = a.info(&page(100, 0, 4), 0, false, true);
        assert_eq!(
            (info.initial_bytes, info.dirty_bytes, info.reinit),
            (100, 0, false)
        );
    }

    /// If the answer could not be written to user memory, the next answer has `reinit` again.
    #[test]
    fn l10_a_restart_is_told_until_the_user_has_it() {
        let mut a = Accounting::begin(&page(100, 0, 3));
        a.fetched(100);
        a.took(90);
        for _ in 0..3 {
            assert!(a.info(&page(100, 7, 4), 10, false, true).reinit);
        }
        a.told();
        assert!(!a.info(&page(100, 7, 4), 10, false, true).reinit);
        // The last answer had no `reinit`, so this has no effect.
        a.told();
        assert!(a.info(&page(100, 7, 5), 10, false, true).reinit);
    }

    /// MIG_DATA_SIZE is never 0 and never too small.
    #[test]
    fn data_size_is_what_is_left_and_never_zero() {
        assert_eq!(data_size(0, 0), 1);
        assert_eq!(data_size(100, 0), 100);
        assert_eq!(data_size(0, 7), 7);
        assert_eq!(data_size(100, 7), 107);
        assert_eq!(data_size(u64::MAX, 7), u64::MAX);
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

    fn page(initial_bytes: u64, dirty_bytes: u64, generation: u32) -> Pending {
        Pending {
            initial_bytes,
            dirty_bytes,
            generation,
            ..Pending::default()
        }
    }
}
