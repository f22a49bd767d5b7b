// SPDX-License-Identifier: GPL-2.0

//! An active log, from START to STOP: the tracked granules, the dirty granules, and their report.
//!
//! The log lock is held during all methods. In the comments, W is a DMA write at the worst moment.
//! W is reported if a report that marks its granule ends after W is visible in memory.

use super::{
    bitmap::DirtyBitmap,
    limits::{
        memory_limit,
        top, //
    },
    marks::Dirty,
    ranges::Tracked,
    span::Span,
    stats::{
        LogStats,
        Rate, //
    },
    tracker::{
        Limits,
        Notify,
        Start,
        Tracker, //
    },
};
use crate::{
    ext::{
        gfp,
        memcg::Charge, //
    },
    vfio::iova_bitmap::{
        DirtySink,
        IovaRange, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Number of ranges that START leaves free for reports about other granules.
const SPARE_RANGES: usize = 4;
/// Limit of coarse intervals, besides the one that needs no memory.
const MAX_INTERVALS: usize = 4096;

/// The result of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// The user has all of the report.
    All,
    /// The user has a part of the report or nothing. Nothing was cleared in the bitmap.
    Cut(Error),
}

/// State of an active log, for debugfs.
#[derive(Clone, Copy)]
pub(crate) struct Snapshot<S> {
    /// Log2 of the granule in bytes.
    pub(crate) shift: u32,
    /// Number of disjoint tracked ranges.
    pub(crate) ranges: usize,
    /// Memory of the bitmap in bytes.
    pub(crate) memory: usize,
    /// The error with which all reports fail, as a negative errno, or 0.
    pub(crate) error: i32,
    /// The state of the tracker.
    pub(crate) tracker: S,
}

/// An active log.
pub(crate) struct Session<T: Tracker> {
    tracker: T,
    /// Log2 of the granule in bytes.
    shift: u32,
    /// The number after the last granule that the hardware can track.
    top: u64,
    /// Maximum number of ranges of the hardware.
    max_ranges: usize,
    /// Number of ranges that the hardware has.
    device_ranges: usize,
    tracked: Tracked,
    bitmap: DirtyBitmap,
    error: Option<Error>,
    rate: Rate,
    memory_mib: u32,
}

impl<T: Tracker> Session<T> {
    /// Allocates all memory, and then starts the log of the hardware. `page_size` is the user's
    /// hint; [`Self::page_size`] returns the page size in use.
    ///
    /// Every write after this is logged. For earlier writes the user copies all memory once after
    /// START.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the page size or a range is invalid. `EOPNOTSUPP`: a range is beyond
    /// [`Limits::iova_bits`]. `ENOMEM`, and those of [`Tracker::start`].
    pub(crate) fn start(
        cx: &T::Context<'_>,
        limits: &Limits,
        ranges: &[IovaRange],
        page_size: u64,
        memory_mib: u32,
        notify: Option<Arc<dyn Notify>>,
    ) -> Result<Self> {
        if !page_size.is_power_of_two() {
            return Err(EINVAL);
        }
        // The hint, clamped to the limits of the hardware.
        let shift = page_size
            .trailing_zeros()
            .min(limits.page_shift_max)
            .max(limits.page_shift_min);
        let top = top(limits.iova_bits, shift);
        // Widen the ranges to granules before merging them, because widened ranges may touch.
        let mut wanted = KVec::with_capacity(ranges.len(), gfp::USER)?;
        for range in ranges {
            let span = Span::covering(range.iova(), range.length(), shift).ok_or(EINVAL)?;
            if span.end() > top {
                return Err(EOPNOTSUPP);
            }
            wanted.push(span, gfp::USER)?;
        }
        let spare = SPARE_RANGES.min(limits.max_ranges / 2);
        let tracked = Tracked::combine(
            wanted.iter().copied(),
            limits.max_ranges.saturating_sub(spare).max(1),
        )?;
        let mut ranges = KVec::with_capacity(tracked.len(), gfp::USER)?;
        for span in tracked.iter() {
            ranges.push(bytes(span, shift)?, gfp::USER)?;
        }
        let bitmap = DirtyBitmap::new(
            memory_limit(memory_mib, &tracked),
            MAX_INTERVALS,
            Charge::current(),
        );
        let start = Start {
            ranges: &ranges,
            page_shift: shift,
            notify,
        };
        Ok(Self {
            tracker: T::start(cx, &start)?,
            shift,
            top,
            max_ranges: limits.max_ranges,
            device_ranges: tracked.len(),
            bitmap,
            tracked,
            error: None,
            rate: Rate::new(),
            memory_mib,
        })
    }

    /// Stops the log of the hardware.
    ///
    /// # Errors
    ///
    /// Those of [`Tracker::stop`].
    pub(crate) fn stop(self, cx: &T::Context<'_>) -> Result {
        self.tracker.stop(cx)
    }

    /// Returns the page size in use.
    pub(crate) fn page_size(&self) -> u64 {
        1 << self.shift
    }

    /// Returns the state of the session, for debugfs.
    pub(crate) fn snapshot(&self) -> Snapshot<T::Snapshot> {
        Snapshot {
            shift: self.shift,
            ranges: self.tracked.len(),
            memory: self.bitmap.memory(),
            error: self.error.map_or(0, |e| e.to_errno()),
            tracker: self.tracker.snapshot(),
        }
    }

    /// Makes all later reports fail with `ENOTCONN` if `error` is that, else with `EIO`: entries of
    /// the hardware's log may be lost. Only the first error is kept.
    pub(crate) fn fail(&mut self, error: Error) {
        let kept = if error == ENOTCONN { ENOTCONN } else { EIO };
        self.error.get_or_insert(kept);
    }

    /// Runs `f` unless there was an error before, and keeps the error of `f`.
    ///
    /// # Errors
    ///
    /// `EINTR` if `f` was ended by a fatal signal, `ENOTCONN` if the hardware is gone, `EIO` for
    /// every other error. After an error, the error that [`Self::fail`] has kept.
    pub(crate) fn checked<R>(&mut self, f: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        if let Some(error) = self.error {
            return Err(error);
        }
        f(self).map_err(|error| {
            self.fail(error);
            match error {
                // The caller gets these two errors unchanged.
                e if e == EINTR || e == ENOTCONN => e,
                _ => EIO,
            }
        })
    }

    /// Moves what the hardware has logged to the bitmap, for the next report. No report is active,
    /// because it would hold the lock.
    ///
    /// # Errors
    ///
    /// Those of [`Tracker::drain`].
    pub(crate) fn drain(&mut self) -> Result {
        self.with_dirty(|tracker, dirty| tracker.drain(dirty))
    }

    /// Handles REPORT of `range`.
    ///
    /// # Errors
    ///
    /// Any error means that the log is incomplete. A report that cannot be completed in user memory
    /// is not an error but [`Told::Cut`]; it clears nothing.
    pub(crate) fn report(
        &mut self,
        cx: &T::Context<'_>,
        range: IovaRange,
        user: &mut impl DirtySink,
        stats: &LogStats,
    ) -> Result<Told> {
        let asked = Span::covering(range.iova(), range.length(), self.shift).ok_or(EIO)?;
        let whole = Span::inside(range.iova(), range.length(), self.shift);
        self.extend(cx, asked)?;

        // If W is visible before this, it is marked when `collect` returns. If W becomes visible
        // later, it is newer than this report, and the `collect` of the next report marks it.
        let mut collected = Ok(());
        if let Some(part) = self.trackable(asked) {
            let part = bytes(part, self.shift)?;
            collected = self.with_dirty(|tracker, dirty| tracker.collect(cx, part, dirty));
        }
        match collected {
            // There is no memory for the commands to the hardware. Mark all of `asked`, and do not
            // clear it below: the hardware may filter a W after this.
            Err(error) if error == ENOMEM => self.bitmap.mark_whole(asked),
            result => result?,
        }
        if !self.bitmap.any(asked) {
            stats.clean_report();
            return Ok(Told::All);
        }

        // Clear only after the whole report is in user memory, with the lock held throughout: a
        // report that a signal or missing user memory ends early clears nothing.
        let shift = self.shift;
        let mut granules = 0u64;
        let told = self.bitmap.tell(asked, |run| {
            granules = granules.saturating_add(run.len());
            // OVERFLOW: `covering` made the span from bytes, so its start in bytes is an address.
            // Only the end of the last granule may wrap, and `set_run` clamps the run to the range.
            user.set_run(run.start() << shift, run.len().saturating_mul(1 << shift))
        });
        if let Err(error) = told.and_then(|()| user.finish()) {
            return Ok(Told::Cut(error));
        }
        // A granule that the range covers only in part is reported but not cleared, because the
        // other part was not reported.
        if let (Some(whole), Ok(())) = (whole, collected) {
            self.bitmap.clear(whole);
        }
        let pages = granules.saturating_mul(1 << shift.saturating_sub(12));
        stats.dirty_report(pages, &mut self.rate);
        Ok(Told::All)
    }

    /// Tracks the parts of `asked` that are not tracked yet, and marks them dirty.
    ///
    /// Mark a part after `add` has returned. A W before `add` completes may not be logged, but the
    /// later mark covers it, and the user copies the page after the report with the mark. A W after
    /// `add` is logged.
    ///
    /// What the hardware cannot track, for lack of address bits or of ranges, is marked on each
    /// report and so is always dirty.
    fn extend(&mut self, cx: &T::Context<'_>, asked: Span) -> Result {
        let mut rest = Some(asked);
        while let Some(part) = rest.and_then(|r| self.tracked.first_outside(r)) {
            // The part that the hardware can track, or the whole if it can track nothing of it.
            let part = self
                .trackable(part)
                .filter(|t| t.start() == part.start())
                .unwrap_or(part);
            if self.can_add(part) {
                match self.tracker.add(cx, bytes(part, self.shift)?) {
                    Ok(()) => {
                        self.device_ranges = self.device_ranges.saturating_add(1);
                        self.tracked.insert(part);
                        self.bitmap
                            .set_limit(memory_limit(self.memory_mib, &self.tracked));
                    }
                    // The hardware has refused the range and changed nothing. Add no more ranges.
                    Err(error) if error == ENOSPC => self.device_ranges = self.max_ranges,
                    // There was no memory for the command. The part is dirty now, and the next
                    // report tries again.
                    Err(error) if error == ENOMEM => (),
                    Err(error) => return Err(error),
                }
            }
            self.bitmap.mark_whole(part);
            rest = Span::new(part.end(), asked.end());
        }
        Ok(())
    }

    /// Returns the part of `span` for which the hardware has address bits.
    fn trackable(&self, span: Span) -> Option<Span> {
        span.intersect(Span::new(0, self.top)?)
    }

    /// Returns whether the hardware may take `part` as another range, and reserves memory for it.
    fn can_add(&mut self, part: Span) -> bool {
        part.end() <= self.top
            && self.device_ranges < self.max_ranges
            && self.tracked.reserve().is_ok()
    }

    /// Runs `f` on the tracker and the granules to mark. What `f` marks stays marked if it fails.
    fn with_dirty<R>(&mut self, f: impl FnOnce(&mut T, &mut Dirty<'_>) -> R) -> R {
        let mut dirty = Dirty::new(&self.tracked, &mut self.bitmap, self.shift);
        f(&mut self.tracker, &mut dirty)
    }
}

/// Converts `span` to bytes. Its end is at or below `top`, so nothing wraps.
///
/// # Errors
///
/// `EOVERFLOW` if the end wraps nevertheless.
fn bytes(span: Span, shift: u32) -> Result<IovaRange> {
    // OVERFLOW: Start and length are in bytes at most `top` in bytes, which fits in 64 bits.
    IovaRange::new(span.start() << shift, span.len() << shift)
}
