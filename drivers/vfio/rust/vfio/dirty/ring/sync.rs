// SPDX-License-Identifier: GPL-2.0

//! SYNC and drain: the driver's side of the log ring, under the log lock.

use super::{
    device::{
        Event,
        LogDevice,
        SyncScope, //
    },
    format::PAGE_SHIFT,
    memory::Until,
    piece::{
        Flow,
        Piece, //
    },
    stale::Stale,
    tracker::RingTracker, //
};
use crate::vfio::dirty::{
    marks::Dirty,
    run::Run, //
};
use kernel::{
    prelude::*,
    time::{
        Instant,
        Monotonic, //
    },
};

/// Number of times that a SYNC is submitted to a device that answers BUSY. Each time the device has
/// waited for room for its command timeout, while the driver drained whenever
/// [`LogDevice::sync_wait`] returned `false`.
const SYNC_TRIES: u32 = 3;

/// Reason why a drain has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// The ring is empty, or the drain has reached its count.
    End,
    /// The drain has consumed the marker that it was looking for.
    Marker,
}

impl<D: LogDevice> RingTracker<D> {
    /// Consumes entries up to the number `posted` of entries (rule 5).
    pub(super) fn drain_to(&mut self, posted: u32, dirty: &mut Dirty<'_>) -> Result {
        self.consume(Until::Count(posted), None, dirty, false)?;
        Ok(())
    }

    /// Consumes all entries, after an interrupt. None of them belongs to a report under way,
    /// because a report holds the log lock. Entries behind the marker of an earlier report wait in
    /// the bitmap for the next report.
    pub(super) fn drain_from_interrupt(&mut self, dirty: &mut Dirty<'_>) -> Result {
        self.consume(Until::Empty, None, dirty, true)?;
        Ok(())
    }

    /// Submits a SYNC and drains exactly to its marker.
    ///
    /// A device that answers BUSY had no room for the marker and has changed nothing. The entries
    /// in the ring then belong to the old filter. They are drained, and the SYNC is submitted again
    /// with another cookie.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the command was not submitted for lack of memory. After any other error the
    /// driver does not know what the device did.
    pub(super) fn sync(&mut self, scope: SyncScope, dirty: &mut Dirty<'_>) -> Result {
        let mut tries = 1;
        loop {
            match self.sync_once(scope, dirty) {
                Err(error) if error == EBUSY && tries < SYNC_TRIES => tries += 1,
                result => return result,
            }
        }
    }

    /// Submits one SYNC and drains to its marker.
    ///
    /// The device may have to wait for room before it can post the marker, so this function drains
    /// while it waits. Entries before the marker were logged under the old filter. The drain stops
    /// at the marker, and nothing behind it is consumed before the log lock is released.
    ///
    /// If the answer to a command was lost, the command may have been submitted again with the same
    /// cookie, and the device may have executed it each time. The first marker is as good as the
    /// last one: it says that the filter was cleared at that point of the log. A DMA write W
    /// between two markers is logged behind the first one, where the drain does not look. The later
    /// execution clears the filter again, which only causes more entries. If it re-arms a log that
    /// has filled up again, the LOST entry is behind the first marker, too, and the next report
    /// re-arms the log again.
    ///
    /// The drain cannot go on to the last marker, because it does not know which one that is. An
    /// execution that never happened posts no marker, and a drain that looked for one would consume
    /// entries whose filter nothing clears. So the drain stops at the first marker, and later
    /// drains skip one more marker for each time that the command was submitted again. These
    /// markers come before the marker of the next SYNC, because the device executes the commands in
    /// order.
    fn sync_once(&mut self, scope: SyncScope, dirty: &mut Dirty<'_>) -> Result {
        let begin = Instant::<Monotonic>::now();
        self.cookie = self.cookie.wrapping_add(1) & ((1 << D::COOKIE_BITS) - 1);
        let ticket = self.device.sync_submit(scope, self.cookie)?;
        loop {
            // The order matters: when the command is complete, its marker has been posted, so a
            // drain that starts afterwards must find it.
            let complete = match self.device.sync_wait(&ticket) {
                // The device had no memory. ENOMEM means here that nothing was submitted.
                Err(error) if error == ENOMEM => return Err(EIO),
                Err(error) if error != EBUSY => return Err(error),
                complete => complete,
            };
            match self.consume(Until::Empty, Some(self.cookie), dirty, false)? {
                // This is right even if the command ends with BUSY: the device has executed it when
                // it was submitted for the first time.
                Found::Marker => break,
                Found::End if complete? => return Err(EIO),
                Found::End => (),
            }
        }
        self.stale = Stale::new(self.cookie, self.device.sync_found(ticket));
        let ns = begin.elapsed().as_nanos();
        let ns = u64::try_from(ns).unwrap_or(0);
        self.shared.stats.sync(ns);
        let event = Event::Sync {
            scope,
            latency_ns: ns,
        };
        self.device.trace(self.shared.name(), event);
        Ok(())
    }

    /// Moves entries from the ring to the bitmap, up to the marker with `cookie`. Pages of entries
    /// that were consumed before an error stay marked.
    fn consume(
        &mut self,
        until: Until,
        cookie: Option<u64>,
        dirty: &mut Dirty<'_>,
        irq: bool,
    ) -> Result<Found> {
        let Self {
            device,
            shift,
            stale,
            lost,
            shared,
            ..
        } = self;
        let mut found = Found::End;
        let mut bad = false;
        let mut granules = 0u64;
        let drained = device.drain(until, |piece| match piece {
            Piece::Writes(runs) => {
                let marked = if *shift == PAGE_SHIFT {
                    dirty.mark_runs(runs)
                } else {
                    mark(runs, *shift, dirty)
                };
                let Ok(marked) = marked else {
                    // The device logged an untracked granule, so the log is not trusted.
                    bad = true;
                    return Flow::Stop;
                };
                granules = granules.saturating_add(marked);
                Flow::Continue
            }
            Piece::Sync { cookie: seen } if Some(seen) == cookie => {
                found = Found::Marker;
                Flow::Stop
            }
            // A further marker of a SYNC that was submitted again.
            Piece::Sync { cookie: seen } if stale.take(seen) => Flow::Continue,
            // No SYNC of this log waits for this marker, so the log is not trusted.
            Piece::Sync { .. } => {
                bad = true;
                Flow::Stop
            }
            Piece::Lost => {
                *lost = true;
                Flow::Continue
            }
        });
        let entries = drained?;
        if entries != 0 {
            shared.stats.drained(entries, granules);
            let event = Event::Drain {
                entries,
                granules,
                irq,
            };
            device.trace(shared.name(), event);
        }
        if bad {
            return Err(EIO);
        }
        Ok(found)
    }
}

/// Marks runs of an entry whose granules are larger than its pages of 4 KiB. Returns the number of
/// granules.
///
/// # Errors
///
/// Those of [`Dirty::mark`].
fn mark(runs: &[Run], shift: u32, dirty: &mut Dirty<'_>) -> Result<u64> {
    let mut granules = 0u64;
    for run in runs {
        let more = run.more().saturating_add(1);
        let length = 1u64
            .checked_shl(shift)
            .and_then(|granule| granule.checked_mul(more))
            .ok_or(EIO)?;
        // OVERFLOW: The page number of an entry has 52 bits.
        dirty.mark(run.start() << PAGE_SHIFT, length)?;
        granules = granules.saturating_add(more);
    }
    Ok(granules)
}
