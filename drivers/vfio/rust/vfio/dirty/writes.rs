// SPDX-License-Identifier: GPL-2.0

//! A list of DMA writes, for a driver that learns of each write by itself.

use super::marks::Dirty;
use crate::vfio::iova_bitmap::IovaRange;
use kernel::prelude::*;

/// Number of writes that are kept between two reports. After more, all memory is dirty.
const MAX_WRITES: usize = 64;

/// The DMA writes of a device that keeps no log. Its driver knows each write, because it traps the
/// register that begins it.
///
/// The driver keeps this in a lock, which it holds for all accesses to that register:
///
/// * A write is noted here before the device gets the command. So each write that the device makes
///   is noted.
/// * A report reads from the device whether a write is under way and then calls [`Self::report`],
///   both with the lock held. A write that ends later is reported once more. In the opposite order,
///   a write that ends between the two would be lost.
///
/// The writes may end in any order. A driver whose device ends them in the order in which they
/// began, for example one that makes one write at a time, can call [`Self::report_in_order`]
/// instead. A device with several channels does not end them in order, unless the driver keeps one
/// `Writes` per channel.
///
/// # Examples
///
/// From `samples/vfio/edu.rs`:
///
/// ```ignore
///     fn collect(
///         &mut self,
///         cx: &OpenDevice<'_, Edu>,
///         _range: IovaRange,
///         dirty: &mut Dirty<'_>,
///     ) -> Result {
///         let mut bar = cx.bar(BAR)?;
///         let mut writes = cx.data().get_ref().writes.lock();
///         // Read before the marks are set: a copy that ends later is reported once more.
///         let running = is_running(&bar.hold()?)?;
///         // The device makes one copy at a time.
///         writes.report_in_order(usize::from(running), dirty);
///         Ok(())
///     }
/// ```
pub(crate) struct Writes {
    /// The writes, oldest first. Has capacity while a log is active, and none otherwise.
    noted: KVec<IovaRange>,
    /// A write was dropped that no report has told.
    overflow: bool,
}

impl Writes {
    /// Makes an empty list, which notes nothing before [`Self::start`].
    pub(crate) const fn new() -> Self {
        Self {
            noted: KVec::new(),
            overflow: false,
        }
    }

    /// Begins to note writes. Allocates all memory that the list needs until [`Self::stop`], so
    /// that no write is lost for want of it. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn start(&mut self) -> Result {
        self.noted = KVec::with_capacity(MAX_WRITES, GFP_KERNEL)?;
        self.overflow = false;
        Ok(())
    }

    /// Notes that the device is about to write to `range`. Does nothing while no log is active.
    pub(crate) fn begin(&mut self, range: IovaRange) {
        if self.noted.capacity() == 0 {
            return;
        }
        if self.noted.len() >= MAX_WRITES {
            // The oldest is the one that has most likely ended.
            let _ = self.noted.remove(0);
            self.overflow = true;
        }
        self.overflow |= self.noted.push_within_capacity(range).is_err();
    }

    /// Marks all noted writes in `dirty`. If `is_running`, a write may still be under way, and the
    /// next report marks all of them once more. Otherwise forgets them. If writes were dropped,
    /// all tracked memory is marked.
    ///
    /// So while the device always has a write under way, the list only grows, and once it is full
    /// each report marks all tracked memory.
    pub(crate) fn report(&mut self, is_running: bool, dirty: &mut Dirty<'_>) {
        self.mark(dirty);
        if !is_running {
            self.overflow = false;
            self.noted.clear();
        }
    }

    /// Like [`Self::report`], for a device that got each noted write and ends them in the order in
    /// which they began. Forgets those that have ended: all but the newest `running`, a number
    /// that may be too large but not too small. With any other device, a page of a write that is
    /// under way would be lost.
    pub(crate) fn report_in_order(&mut self, running: usize, dirty: &mut Dirty<'_>) {
        self.mark(dirty);
        // The dropped writes are older than all that are noted. One of them may still be under way
        // if more are than are noted.
        self.overflow &= running > self.noted.len();
        let mut ended = self.noted.len().saturating_sub(running);
        self.noted.retain(|_| {
            let is_running = ended == 0;
            ended = ended.saturating_sub(1);
            is_running
        });
    }

    /// Marks all noted writes in `dirty`, and all tracked memory if writes were dropped.
    fn mark(&self, dirty: &mut Dirty<'_>) {
        if self.overflow {
            dirty.mark_all();
        }
        for range in self.noted.iter() {
            dirty.mark_tracked(range.iova(), range.length());
        }
    }

    /// Forgets all writes and notes none any more.
    pub(crate) fn stop(&mut self) {
        *self = Self::new();
    }
}

#[kunit_tests(vfio_dirty_writes)]
mod tests {
    use super::{
        super::{
            bitmap::DirtyBitmap,
            ranges::Tracked,
            span::Span, //
        },
        *,
    };
    use crate::ext::memcg::Charge;

    /// Number of tracked pages.
    const PAGES: u64 = 256;

    /// Returns the pages that a report marks while a write is under way or not.
    fn report(writes: &mut Writes, is_running: bool) -> Result<KVec<u64>> {
        pages(|dirty| writes.report(is_running, dirty))
    }

    /// As [`report`], for a device that has `running` writes under way and ends them in order.
    fn report_in_order(writes: &mut Writes, running: usize) -> Result<KVec<u64>> {
        pages(|dirty| writes.report_in_order(running, dirty))
    }

    /// Returns the pages that `mark` marks.
    fn pages(mark: impl FnOnce(&mut Dirty<'_>)) -> Result<KVec<u64>> {
        let all = Span::new(0, PAGES);
        let tracked = Tracked::combine(all.into_iter(), 1)?;
        let mut bitmap = DirtyBitmap::new(usize::MAX, 16, Charge::none());
        mark(&mut Dirty::new(&tracked, &mut bitmap, 12));
        let mut pages = KVec::new();
        bitmap.tell(all.ok_or(EINVAL)?, |run| {
            for page in run.start()..run.end() {
                pages.push(page, GFP_KERNEL)?;
            }
            Ok(())
        })?;
        Ok(pages)
    }

    fn begin(writes: &mut Writes, pages: impl IntoIterator<Item = u64>) -> Result {
        for page in pages {
            writes.begin(IovaRange::new(page << 12, 0x1000)?);
        }
        Ok(())
    }

    /// A device with two channels: the write that began first ends last.
    #[test]
    fn a_write_that_ends_late_is_not_lost() -> Result {
        let mut writes = Writes::new();
        writes.start()?;
        begin(&mut writes, [1, 5])?;
        // The write to page 5 ends.
        for _ in 0..2 {
            assert_eq!(report(&mut writes, true)?[..], [1, 5]);
        }
        begin(&mut writes, [3])?;
        assert_eq!(report(&mut writes, false)?[..], [1, 3, 5]);
        assert!(report(&mut writes, false)?.is_empty());
        Ok(())
    }

    /// One of the writes that were dropped may be the last to end.
    #[test]
    fn a_dropped_write_that_ends_late_is_not_lost() -> Result {
        let mut writes = Writes::new();
        writes.start()?;
        begin(&mut writes, 0..MAX_WRITES as u64 + 1)?;
        for is_running in [true, true, false] {
            assert_eq!(report(&mut writes, is_running)?.len() as u64, PAGES);
        }
        assert!(report(&mut writes, false)?.is_empty());
        Ok(())
    }

    #[test]
    fn a_write_is_told_until_it_has_ended_in_order() -> Result {
        let mut writes = Writes::new();
        writes.start()?;
        begin(&mut writes, [1, 5, 3])?;
        assert_eq!(report_in_order(&mut writes, 2)?[..], [1, 3, 5]);
        assert_eq!(report_in_order(&mut writes, 1)?[..], [3, 5]);
        begin(&mut writes, [7])?;
        assert_eq!(report_in_order(&mut writes, 0)?[..], [3, 7]);
        assert!(report_in_order(&mut writes, 0)?.is_empty());
        // One that runs and that is no write, so that it was not noted.
        assert!(report_in_order(&mut writes, 1)?.is_empty());
        Ok(())
    }

    #[test]
    fn nothing_is_noted_without_a_log() -> Result {
        let mut writes = Writes::new();
        begin(&mut writes, 0..100)?;
        assert!(report_in_order(&mut writes, 0)?.is_empty());
        writes.start()?;
        begin(&mut writes, 0..100)?;
        writes.stop();
        assert!(report_in_order(&mut writes, 0)?.is_empty());
        begin(&mut writes, [1])?;
        assert!(report_in_order(&mut writes, 0)?.is_empty());
        Ok(())
    }

    #[test]
    fn a_full_list_marks_everything_once() -> Result {
        let max = MAX_WRITES as u64;
        let mut writes = Writes::new();
        writes.start()?;
        begin(&mut writes, 0..max)?;
        assert_eq!(report_in_order(&mut writes, 0)?.len(), MAX_WRITES);
        begin(&mut writes, 0..max + 2)?;
        assert_eq!(report_in_order(&mut writes, 1)?.len() as u64, PAGES);
        // The newest is not one of those that were dropped.
        assert_eq!(report_in_order(&mut writes, 0)?[..], [max + 1]);
        Ok(())
    }

    #[test]
    fn dropped_writes_that_still_run_keep_everything_dirty() -> Result {
        let max = MAX_WRITES as u64;
        let mut writes = Writes::new();
        writes.start()?;
        begin(&mut writes, 0..max + 1)?;
        for _ in 0..2 {
            assert_eq!(
                report_in_order(&mut writes, MAX_WRITES + 1)?.len() as u64,
                PAGES
            );
        }
        // The dropped one has ended, but no report has told it after its end.
        assert_eq!(
            report_in_order(&mut writes, MAX_WRITES)?.len() as u64,
            PAGES
        );
        assert_eq!(report_in_order(&mut writes, MAX_WRITES)?.len(), MAX_WRITES);
        Ok(())
    }
}
