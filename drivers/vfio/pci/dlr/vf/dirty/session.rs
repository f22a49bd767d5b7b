// SPDX-License-Identifier: GPL-2.0

//! An active log. The rules are those of Documentation/hardware/dlr-contract.rst.
//!
//! All methods run under the log lock. The comments say what becomes of a DMA write
//! W that comes at the worst moment; "reported" means that the user is told of its
//! granule no earlier than the write is in memory.

use super::{
    bitmap::DirtyBitmap,
    device::LogDevice,
    ranges::Tracked,
    span::{Span, MAX_GRANULE},
    stats::Rate,
    LogParams, LogStats, Snapshot,
};
use crate::{
    kext::trace,
    mgmt::{
        Flow,
        Function,
        LogConfig,
        Until, //
    },
    proto::{identify::Cap, Entry, FnInfo, Range, SyncScope, COOKIE_BITS},
    vfio::iova_bitmap::{DirtySink, IovaRange},
};
use kernel::{
    prelude::*,
    time::{Instant, Monotonic},
};

/// Device ranges that START leaves for reports about other parts (rule 9).
const SPARE_RANGES: usize = 4;
/// Intervals of wholly dirty granules, besides the one that always fits.
const MAX_INTERVALS: usize = 4096;
/// Runs that are collected before they are marked: neighbours share a look-up.
const BATCH: usize = 256;

/// See the module's page.
pub(super) struct Session<D: LogDevice> {
    device: D,
    shift: u32,
    ring_order: u32,
    /// One past the last granule that the device can track.
    top: u64,
    max_ranges: usize,
    /// Ranges the device has been told of, which may overlap.
    device_ranges: usize,
    tracked: Tracked,
    bitmap: DirtyBitmap,
    batch: KVec<Span>,
    cookie: u64,
    /// A LOST entry was consumed and the log not re-armed since.
    lost: bool,
    error: Option<Error>,
    rate: Rate,
}

impl Session<Function> {
    /// Tells the device. Every write after this is logged; what was written before is
    /// the user's business, who copies everything once after START.
    pub(super) fn start_device(&self) -> Result {
        let mut ranges = KVec::with_capacity(self.tracked.len(), GFP_KERNEL_ACCOUNT)?;
        for span in self.tracked.iter() {
            ranges.push(self.bytes(span), GFP_KERNEL_ACCOUNT)?;
        }
        self.device.log_start(&LogConfig {
            ranges: &ranges,
            ring_order: self.ring_order,
            // A quarter full: early enough that the rest lasts while the thread wakes.
            irq_threshold: (1u32 << self.ring_order) / 4,
            page_shift: self.shift,
        })
    }

    /// Ends the log on the device.
    pub(super) fn stop_device(self) -> Result {
        self.device.set_client(None);
        match self.device.log_stop() {
            // Gone with its log: stopped.
            Err(error) if error == ENOTCONN => Ok(()),
            result => result,
        }
    }
}

/// How a drain ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Nothing more in the ring, or the count reached.
    End,
    /// The marker that was looked for.
    Marker,
}

impl<D: LogDevice> Session<D> {
    /// Prepares everything that can fail for want of memory. The device is not asked.
    pub(super) fn new(
        device: D,
        info: &FnInfo,
        ranges: &[IovaRange],
        page_size: u64,
        params: LogParams,
    ) -> Result<Self> {
        if !info.caps.contains(Cap::Log) {
            return Err(EOPNOTSUPP);
        }
        if !page_size.is_power_of_two() {
            return Err(EINVAL);
        }
        // The hint, or what comes nearest (contract L6).
        let shift = page_size
            .trailing_zeros()
            .clamp(info.page_shift_min, info.page_shift_max);
        let top = 1u64
            .checked_shl(info.iova_bits.saturating_sub(shift))
            .map_or(MAX_GRANULE, |t| t.min(MAX_GRANULE));
        let mut wanted = KVec::with_capacity(ranges.len(), GFP_KERNEL_ACCOUNT)?;
        for range in ranges {
            let span = Span::covering(range.iova(), range.length(), shift).ok_or(EINVAL)?;
            if span.end() > top {
                return Err(EOPNOTSUPP);
            }
            wanted.push(span, GFP_KERNEL_ACCOUNT)?;
        }
        let max_ranges = info.max_ranges as usize;
        let spare = SPARE_RANGES.min(max_ranges / 2);
        let tracked = Tracked::combine(
            wanted.iter().copied(),
            max_ranges.saturating_sub(spare).max(1),
        )?;
        Ok(Self {
            device,
            shift,
            ring_order: params
                .ring_order
                .clamp(info.ring_order_min, info.ring_order_max),
            top,
            max_ranges,
            device_ranges: tracked.len(),
            tracked,
            bitmap: DirtyBitmap::new(usize::MAX, MAX_INTERVALS),
            batch: KVec::with_capacity(BATCH, GFP_KERNEL_ACCOUNT)?,
            cookie: 0,
            lost: false,
            error: None,
            rate: Rate::new(),
        })
    }

    /// The page size in use.
    pub(super) fn page_size(&self) -> u64 {
        1 << self.shift
    }

    /// For debugfs.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            shift: self.shift,
            ring_entries: 1 << self.ring_order,
            ranges: self.tracked.len(),
            memory: self.bitmap.memory(),
            waiting: self.bitmap.bits(),
            lost: self.lost,
            error: self.error.map_or(0, |e| e.to_errno()),
        }
    }

    /// Keeps `error` as the answer to all reports from here on: entries may have been
    /// consumed that nobody was told of (contract L18). The first one counts.
    pub(super) fn fail(&mut self, error: Error) {
        let kept = if error == ENOTCONN { ENOTCONN } else { EIO };
        self.error.get_or_insert(kept);
    }

    /// Runs `f` unless there has been an error, and keeps the one it returns.
    pub(super) fn checked(&mut self, f: impl FnOnce(&mut Self) -> Result) -> Result {
        if let Some(error) = self.error {
            return Err(error);
        }
        f(self).map_err(|error| {
            self.fail(error);
            match error {
                // The user who is being killed, or whose NIC is gone, is told why.
                e if e == EINTR || e == ENOTCONN => e,
                _ => EIO,
            }
        })
    }

    /// REPORT.
    pub(super) fn report(
        &mut self,
        range: IovaRange,
        dirty: &mut impl DirtySink,
        stats: &LogStats,
        name: &CStr,
    ) -> Result {
        let asked = Span::covering(range.iova(), range.length(), self.shift).ok_or(EIO)?;
        let whole = Span::inside(range.iova(), range.length(), self.shift);

        // Rule 5. W visible before this read: its entry is posted, within the count,
        // and drained below. W visible after it: the user asked too early for it; its
        // entry stays for the next report. There is one, because W's write is newer
        // than this call.
        let posted = self.device.posted()?;
        self.drain(Until::Count(posted), None, stats, name, false)?;

        // Rule 6. W not logged because the ring was full: the entry LOST, posted
        // before W came, is now consumed, here or in an earlier drain.
        let mut synced = false;
        if self.lost {
            self.rearm(stats, name)?;
            synced = true;
        }

        // Rule 9.
        self.extend(asked)?;

        if !self.bitmap.any(asked) {
            stats.clean_report();
            return Ok(());
        }

        // Bits in the range come from entries that this or an earlier drain consumed,
        // and the filter holds back more writes of those granules. If the bit were
        // handed out now, a W that comes after the user's copy and before the next
        // entry of the granule would be filtered and never reported. So the filter is
        // cleared first: W before the marker is visible now, and the user, who copies
        // after this report, copies it. W after the marker is logged anew, behind the
        // marker, where this hold of the lock does not look (rule 4).
        //
        // When the log was just re-armed, that SYNC was the one, and nothing was
        // consumed since.
        if !synced {
            if let Some(tracked) = asked.intersect(Span::new(0, self.top).ok_or(EIO)?) {
                self.sync(SyncScope::Range(self.bytes(tracked)), stats, name)?;
            }
            // The ring filled up before the marker.
            if self.lost {
                self.rearm(stats, name)?;
            }
        }

        // The bits go from the bitmap to the user here and in one step. A granule that
        // the range covers only in part is told and kept: the other part was not asked.
        let shift = self.shift;
        let mut granules = 0u64;
        self.bitmap.harvest(asked, whole, |run| {
            granules = granules.saturating_add(run.len());
            // OVERFLOW: a span ends at or below 1 << 52 granules of 4 KiB; with larger
            // granules `covering` made it from bytes. Only the very top may wrap, and
            // `set_run` saturates and clamps to the range.
            dirty.set_run(run.start() << shift, run.len().saturating_mul(1 << shift));
        });
        stats.dirty_report(granules << (shift - 12), &mut self.rate);
        Ok(())
    }

    /// The interrupt of the ring. Consumes whatever is there: none of it belongs to a
    /// report under way, as that would hold the lock. What stands behind the marker of
    /// an earlier report waits in the bitmap for the next.
    pub(super) fn drain_from_interrupt(&mut self, stats: &LogStats, name: &CStr) -> Result {
        self.drain(Until::Empty, None, stats, name, true)?;
        Ok(())
    }

    /// Adds what `asked` has outside of the tracked ranges, and marks it dirty.
    ///
    /// First LOG_ADD, then the mark: W before LOG_ADD completes may not be logged, but
    /// the mark, which comes later, covers it, and the user copies after the report
    /// that takes the mark. W after it is logged. In the other order a report could
    /// take the mark and W come before LOG_ADD. (Both orders are one hold of the lock
    /// here; the order still matters for a LOG_ADD that fails half way.)
    ///
    /// What cannot be tracked (beyond the device's address bits, or more ranges than
    /// it holds) is marked all the same, each time it is asked: always dirty.
    fn extend(&mut self, asked: Span) -> Result {
        let mut rest = Some(asked);
        while let Some(part) = rest.and_then(|r| self.tracked.first_outside(r)) {
            if self.can_add(part) {
                match self.device.log_add(self.bytes(part)) {
                    Ok(()) => {
                        self.device_ranges = self.device_ranges.saturating_add(1);
                        self.tracked.insert(part);
                    }
                    // Refused, with nothing changed.
                    Err(error) if error == ENOSPC => self.device_ranges = self.max_ranges,
                    Err(error) => return Err(error),
                }
            }
            self.bitmap.mark_whole(part);
            rest = Span::new(part.end(), asked.end());
        }
        Ok(())
    }

    fn can_add(&mut self, part: Span) -> bool {
        part.end() <= self.top
            && self.device_ranges < self.max_ranges
            && self.tracked.reserve().is_ok()
    }

    /// Rule 6, after LOST was consumed.
    ///
    /// SYNC of everything, drain to its marker, and only then mark. W before the
    /// marker was perhaps not logged: the mark is set later than W is visible, so
    /// whoever takes the mark sees W. W after the marker is logged again. Marking
    /// before the SYNC would leave out the W in between.
    fn rearm(&mut self, stats: &LogStats, name: &CStr) -> Result {
        trace::log_lost(name, stats.lost());
        self.sync(SyncScope::All, stats, name)?;
        self.lost = false;
        self.bitmap.mark_all(self.tracked.iter());
        Ok(())
    }

    /// SYNC, and drain exactly to its marker.
    ///
    /// The device may have to wait for room before it can post the marker, so this
    /// drains while it waits. Entries that a drain finds before the marker were logged
    /// under the old filter. The drain stops at the marker; nothing behind it is
    /// consumed before the lock is released.
    fn sync(&mut self, scope: SyncScope, stats: &LogStats, name: &CStr) -> Result {
        let begin = Instant::<Monotonic>::now();
        self.cookie = self.cookie.wrapping_add(1) & ((1 << COOKIE_BITS) - 1);
        let ticket = self.device.sync_submit(scope, self.cookie)?;
        loop {
            // In this order: when the command is complete its marker is posted, so a
            // drain that starts afterwards must find it.
            let complete = self.device.sync_wait(&ticket)?;
            match self.drain(Until::Empty, Some(self.cookie), stats, name, false)? {
                Found::Marker => break,
                Found::End if complete => return Err(EIO),
                Found::End => (),
            }
        }
        let ns = begin.elapsed().as_nanos();
        let ns = u64::try_from(ns).unwrap_or(0);
        stats.sync(ns);
        let (iova, length, all) = match scope {
            SyncScope::All => (0, 0, true),
            SyncScope::Range(range) => (range.iova, range.length, false),
        };
        trace::log_sync(name, iova, length, all, ns);
        Ok(())
    }

    /// Moves entries from the ring into the bitmap, up to the marker with `cookie`.
    fn drain(
        &mut self,
        until: Until,
        cookie: Option<u64>,
        stats: &LogStats,
        name: &CStr,
        irq: bool,
    ) -> Result<Found> {
        let Self {
            device,
            shift,
            tracked,
            bitmap,
            batch,
            lost,
            ..
        } = self;
        let mut found = Found::End;
        let mut bad = false;
        let mut granules = 0u64;
        batch.clear();
        let drained = device.drain(until, |entry| match entry {
            Entry::Write {
                iova,
                granules: run,
            } => {
                let span = u64::from(run)
                    .checked_shl(*shift)
                    .and_then(|length| Span::covering(iova, length, *shift))
                    .filter(|span| tracked.covers(*span));
                let Some(span) = span else {
                    // Never ours: what else may the device have got wrong?
                    bad = true;
                    return Flow::Stop;
                };
                granules = granules.saturating_add(span.len());
                if batch.len() >= BATCH {
                    bitmap.mark(batch.iter().copied());
                    batch.clear();
                }
                // There is room. Were there not, the bitmap takes it at once.
                if batch.push_within_capacity(span).is_err() {
                    bitmap.mark([span]);
                }
                Flow::Continue
            }
            Entry::Sync { cookie: seen } if Some(seen) == cookie => {
                found = Found::Marker;
                Flow::Stop
            }
            // A marker that nobody waits for: somebody's SYNC, and its filter, is lost.
            Entry::Sync { .. } => {
                bad = true;
                Flow::Stop
            }
            Entry::Lost => {
                *lost = true;
                Flow::Continue
            }
        });
        // Also after an error: what was consumed stays known.
        bitmap.mark(batch.iter().copied());
        batch.clear();
        let entries = drained?;
        if entries != 0 {
            stats.drained(entries, granules);
            trace::log_drain(name, entries, granules, irq);
        }
        if bad {
            return Err(EIO);
        }
        Ok(found)
    }

    fn bytes(&self, span: Span) -> Range {
        Range {
            iova: span.start() << self.shift,
            length: span.len() << self.shift,
        }
    }
}
