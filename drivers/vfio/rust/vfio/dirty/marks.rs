// SPDX-License-Identifier: GPL-2.0

//! The destination of what the hardware has logged.

use super::{
    bitmap::DirtyBitmap,
    ranges::Tracked,
    run::Run,
    span::Span, //
};
use crate::vfio::iova_bitmap::IovaRange;
use kernel::prelude::*;

/// The granules that are dirty and not reported yet, as a [`Tracker`](super::tracker::Tracker) gets
/// them during one call. The log lock is held.
///
/// What was marked stays marked if the call fails.
pub(crate) struct Dirty<'a> {
    tracked: &'a Tracked,
    bitmap: &'a mut DirtyBitmap,
    shift: u32,
}

impl<'a> Dirty<'a> {
    /// Creates the view of a tracker on a log with granules of `1 << shift` bytes.
    pub(super) fn new(tracked: &'a Tracked, bitmap: &'a mut DirtyBitmap, shift: u32) -> Self {
        Self {
            tracked,
            bitmap,
            shift,
        }
    }

    /// Marks `runs` of granules. This is the fastest way to mark, best with a hundred or more runs
    /// at once. Returns their number of granules; a granule in two runs counts twice.
    ///
    /// # Errors
    ///
    /// `EIO` if the hardware has logged a granule that is not tracked. Nothing is marked.
    #[inline]
    pub(crate) fn mark_runs(&mut self, runs: &[Run]) -> Result<u64> {
        let granules = self.tracked.covers_all(runs).ok_or(EIO)?;
        self.bitmap.mark(runs);
        Ok(granules)
    }

    /// Marks the granules that `length` bytes at `iova` touch.
    ///
    /// # Errors
    ///
    /// `EIO` if `length` is 0 or the hardware has logged a granule that is not tracked. Nothing is
    /// marked.
    pub(crate) fn mark(&mut self, iova: u64, length: u64) -> Result {
        let span = Span::covering(iova, length, self.shift)
            .filter(|span| self.tracked.covers(*span))
            .ok_or(EIO)?;
        self.bitmap.mark_span(span);
        Ok(())
    }

    /// Marks the tracked granules that `length` bytes at `iova` touch, for hardware that also logs
    /// untracked ones. A range that goes on after the last address marks all tracked granules.
    pub(crate) fn mark_tracked(&mut self, iova: u64, length: u64) {
        let Some(span) = Span::covering(iova, length, self.shift) else {
            if length != 0 {
                self.mark_all();
            }
            return;
        };
        let tracked = self.tracked;
        for part in tracked.iter().filter_map(|t| t.intersect(span)) {
            self.bitmap.mark_span(part);
        }
    }

    /// Marks all tracked granules, when log entries were lost.
    pub(crate) fn mark_all(&mut self) {
        self.bitmap.mark_all(self.tracked.iter());
    }

    /// Returns whether a granule of `range` is marked.
    pub(crate) fn any(&self, range: IovaRange) -> bool {
        // An invalid range counts as dirty.
        Span::covering(range.iova(), range.length(), self.shift)
            .is_none_or(|span| self.bitmap.any(span))
    }

    /// Returns the size of a granule in bytes.
    pub(crate) fn granule(&self) -> u64 {
        1 << self.shift
    }
}

#[kunit_tests(vfio_dirty_marks)]
mod tests {
    use super::*;
    use crate::ext::memcg::Charge;

    /// Runs `f` on a log that tracks pages 0x10 to 0x1f and 0x30 to 0x3f; returns the dirty pages.
    fn dirty(f: impl FnOnce(&mut Dirty<'_>) -> Result) -> Result<KVec<u64>> {
        let spans = [Span::new(0x10, 0x20), Span::new(0x30, 0x40)];
        let tracked = Tracked::combine(spans.into_iter().flatten(), 8)?;
        let mut bitmap = DirtyBitmap::new(usize::MAX, 16, Charge::none());
        let mut dirty = Dirty::new(&tracked, &mut bitmap, 12);
        f(&mut dirty)?;
        let mut pages = KVec::new();
        bitmap.tell(Span::new(0, 0x100).ok_or(EINVAL)?, |run| {
            for page in run.start()..run.end() {
                pages.push(page, GFP_KERNEL)?;
            }
            Ok(())
        })?;
        Ok(pages)
    }

    #[test]
    fn marks_what_bytes_touch() -> Result {
        let pages = dirty(|d| {
            d.mark(0x10_fff, 2)?;
            d.mark(0x3f_000, 0x1000)
        })?;
        assert_eq!(&*pages, &[0x10, 0x11, 0x3f]);
        Ok(())
    }

    #[test]
    fn what_is_not_tracked_is_an_error_and_marks_nothing() -> Result {
        let pages = dirty(|d| {
            for (iova, length) in [(0xf_fff, 2), (0x1f_000, 0x1001), (0x10_000, 0), (0, 1)] {
                assert_eq!(d.mark(iova, length), Err(EIO));
            }
            assert_eq!(d.mark(u64::MAX, 2), Err(EIO));
            assert!(!d.any(IovaRange::new(0, 0x10_0000)?));
            Ok(())
        })?;
        assert!(pages.is_empty());
        Ok(())
    }

    #[test]
    fn hardware_that_logs_more_marks_what_is_tracked() -> Result {
        let pages = dirty(|d| {
            d.mark_tracked(0x1f_000, 0x12_000);
            d.mark_tracked(0, 0x1000);
            d.mark_tracked(0x10_000, 0);
            Ok(())
        })?;
        assert_eq!(&*pages, &[0x1f, 0x30]);
        Ok(())
    }

    /// No hardware writes such a range, so it is not known which granules were written.
    #[test]
    fn a_range_that_wraps_marks_all_that_is_tracked() -> Result {
        for (iova, length) in [(u64::MAX, 2), (0x1f_000, u64::MAX)] {
            let pages = dirty(|d| {
                d.mark_tracked(iova, length);
                Ok(())
            })?;
            assert_eq!(pages.len(), 32);
        }
        Ok(())
    }

    #[test]
    fn runs_are_marked_all_or_none() -> Result {
        let good = [
            Run::one(0x1f),
            Run::of(Span::new(0x30, 0x32).ok_or(EINVAL)?).ok_or(EINVAL)?,
        ];
        for bad in [0xf, 0x20, 0x3f_ffff_ffff_ffff] {
            let pages = dirty(|d| {
                assert_eq!(d.mark_runs(&[Run::one(0x10), Run::one(bad)]), Err(EIO));
                assert!(!d.any(IovaRange::new(0x10_000, 0x1000)?));
                assert_eq!(d.mark_runs(&good), Ok(3));
                Ok(())
            })?;
            assert_eq!(&*pages, &[0x1f, 0x30, 0x31]);
        }
        Ok(())
    }

    #[test]
    fn marks_are_seen_at_once() -> Result {
        let pages = dirty(|d| {
            for _ in 0..300 {
                d.mark(0x12_000, 1)?;
            }
            d.mark(0x14_000, 1)?;
            assert!(d.any(IovaRange::new(0x14_000, 1)?));
            assert!(!d.any(IovaRange::new(0x13_000, 0x1000)?));
            Ok(())
        })?;
        assert_eq!(&*pages, &[0x12, 0x14]);
        Ok(())
    }

    #[test]
    fn a_loss_marks_all_that_is_tracked() -> Result {
        let pages = dirty(|d| {
            d.mark_all();
            Ok(())
        })?;
        assert_eq!(pages.len(), 32);
        assert_eq!((pages[0], pages[31]), (0x10, 0x3f));
        Ok(())
    }
}
