// SPDX-License-Identifier: GPL-2.0

//! Dirty logging of a data function.
//!
//! The caller serialises these calls by its log lock, except for [`Function::posted`]. The lock of
//! the ring itself is never held across a wait for a command.

use super::{
    device::Ticket,
    function::Function,
    log::{
        self,
        Ring, //
    },
};
use crate::{
    ext::{
        cmdq::buffer::Buffer,
        gfp::USER,
        patience::Patience, //
    },
    proto::{
        admin::{
            Command,
            LogStart, //
        },
        dlr,
        identify::Cap,
        Range,
        SyncScope, //
    },
    vfio::dirty::ring::{
        memory::{
            Drained,
            Until, //
        },
        piece::{
            Flow,
            Piece, //
        },
        CHUNK,
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Interval at which [`Function::sync_wait`] returns to the caller for a drain even without an
/// interrupt, in milliseconds.
const SYNC_POLL_MS: u32 = 20;

/// Parameters of a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogConfig<'a> {
    /// Ranges to track.
    pub(crate) ranges: &'a [Range],
    /// Log2 of the number of entries of the ring.
    pub(crate) ring_order: u32,
    /// Number of unconsumed entries at which the device raises the interrupt.
    pub(crate) irq_threshold: u32,
    /// Log2 of the granule in bytes.
    pub(crate) page_shift: u32,
}

/// Time for which a device with `DLR_FN_CAP_HOLD` holds DMA back at a full ring, in microseconds:
/// several times the latency of the log's interrupt thread.
const HOLD_US: u32 = 10_000;

static_assert!(HOLD_US <= dlr::DLR_LOG_MAX_HOLD_US);

impl Function {
    /// Starts the log. When this succeeds, the device logs every later DMA write in the ranges.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the function has no log, `EINVAL` if it does not support the parameters,
    /// `EBUSY` if a log is active.
    pub(crate) fn log_start(&self, config: &LogConfig<'_>) -> Result {
        let start = self.check(config)?;
        if self.channel.log.lock().active {
            return Err(EBUSY);
        }
        self.log_recover()?;
        let ranges = self.ranges(config.ranges)?;
        let command = self.place_ring(start)?;
        let started = self
            .submit_buffer(command, &ranges, ranges.len())
            .and_then(|ticket| ticket.wait());
        match started {
            Ok(_) => {
                self.channel.log.lock().active = true;
                Ok(())
            }
            Err(error) => {
                // Frees the ring if the device confirms; otherwise the ring stays until the next
                // attempt.
                let _ = self.log_stop();
                Err(error)
            }
        }
    }

    /// Checks the parameters of a log against the limits of the function.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the function has no log, `EINVAL` for a parameter beyond its limits.
    fn check(&self, config: &LogConfig<'_>) -> Result<LogStart> {
        let info = &self.info;
        if !info.caps.contains(Cap::Log) {
            return Err(EOPNOTSUPP);
        }
        let orders = info.ring_order_min..=info.ring_order_max;
        let shifts = info.page_shift_min..=info.page_shift_max;
        if !orders.contains(&config.ring_order) || !shifts.contains(&config.page_shift) {
            return Err(EINVAL);
        }
        let size = 1u32.checked_shl(config.ring_order).ok_or(EINVAL)?;
        if !(1..=size).contains(&config.irq_threshold)
            || config.ranges.is_empty()
            || config.ranges.len() > info.max_ranges as usize
            || !config
                .ranges
                .iter()
                .all(|r| r.is_valid(config.page_shift, info.iova_bits))
        {
            return Err(EINVAL);
        }
        Ok(LogStart {
            ring: 0,
            ring_order: u16::try_from(config.ring_order)?,
            vector: self.service.log_vector(self.channel.number),
            irq_threshold: config.irq_threshold,
            num_ranges: u16::try_from(config.ranges.len())?,
            page_shift: u16::try_from(config.page_shift)?,
            hold_us: if info.caps.contains(Cap::Hold) {
                HOLD_US
            } else {
                0
            },
        })
    }

    /// Allocates the ring. The channel owns it before the device knows its address.
    fn place_ring(&self, mut start: LogStart) -> Result<Command> {
        let hw = self.service.queue.enter()?;
        let order = u32::from(start.ring_order);
        let memory = hw.alloc::<[u64; CHUNK]>((1 << order) / CHUNK, USER)?;
        start.ring = memory.dma_address();
        let mut log = self.channel.log.lock();
        if log.ring.is_some() {
            return Err(EBUSY);
        }
        log.ring = Some(Ring::new(memory, order));
        Ok(Command::log_start(self.channel.number, &start))
    }

    /// Allocates a buffer that holds `ranges` as LOG_START and LOG_ADD take them.
    fn ranges(&self, ranges: &[Range]) -> Result<Arc<Buffer>> {
        let one = size_of_val(&ranges.first().ok_or(EINVAL)?.to_bytes());
        let buffer = self.alloc_buffer(ranges.len().checked_mul(one).ok_or(EINVAL)?)?;
        for (i, range) in ranges.iter().enumerate() {
            buffer.copy_in(i * one, &range.to_bytes())?;
        }
        Ok(buffer)
    }

    /// Adds ranges to those that the device tracks. They may overlap.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the device cannot track that many.
    pub(crate) fn log_add(&self, ranges: &[Range]) -> Result {
        let buffer = self.ranges(ranges)?;
        let command = Command::log_add(self.channel.number);
        self.submit_buffer(command, &buffer, buffer.len())?
            .wait()
            .map(drop)
    }

    /// Stops the log and frees the ring; succeeds also if no log is active. Ignores signals and
    /// takes no longer than one [`Budget`](crate::ext::budget::Budget).
    pub(crate) fn log_stop(&self) -> Result {
        let stop = Command::log_stop(self.channel.number);
        self.channel.end_log(|| self.clean_up(stop, &self.budget()))
    }

    /// Stops a log whose start or stop has failed, because the device may still write its ring.
    /// Does nothing if there is no such log.
    pub(crate) fn log_recover(&self) -> Result {
        let unknown = {
            let log = self.channel.log.lock();
            log.ring.is_some() && !log.active
        };
        if unknown {
            self.log_stop()?;
        }
        Ok(())
    }

    /// Reads LOG_POSTED: returns the number of entries posted since LOG_START, modulo 2^31. When it
    /// returns, the ring holds the entries of every DMA write that was visible before the call.
    /// This is one access to the device, and does not sleep.
    ///
    /// # Errors
    ///
    /// `EIO` if the log is not active or has failed, or in an outage; `ENOTCONN`.
    pub(crate) fn posted(&self) -> Result<u32> {
        if self.is_gone() {
            return Err(ENOTCONN);
        }
        let hw = self.service.queue.enter()?;
        log::posted(&hw, self.channel.number)
    }

    /// Consumes log entries up to `until`, or until `sink` stops the drain.
    ///
    /// # Errors
    ///
    /// `EINVAL` if no log is active, `ENOTCONN`, `EIO` in an outage or if the ring cannot be
    /// trusted. In the last case all later drains fail until the log is stopped.
    pub(crate) fn drain(
        &self,
        until: Until,
        sink: impl FnMut(Piece<'_>) -> Flow,
    ) -> Result<Drained> {
        if self.is_gone() {
            return Err(ENOTCONN);
        }
        let queue = &self.service.queue;
        let hw = queue.enter()?;
        let number = self.channel.number;
        let mut log = self.channel.log.lock();
        let drained = log
            .active()?
            .drain(until, sink, |head| log::give_back(&hw, number, head));
        match &drained {
            Ok(done) => queue.device.stats.log_entries.add(done.entries.into()),
            Err(_) => queue.device.stats.log_garbage.count(),
        }
        drained
    }

    /// Submits a LOG_SYNC, whose marker carries `cookie` of at most 52 bits.
    pub(crate) fn sync_submit(&self, scope: SyncScope, cookie: u64) -> Result<Ticket> {
        let command = Command::log_sync(self.channel.number, scope, cookie)?;
        self.submit(command, None, Some(&self.channel), Patience::Killable)
    }

    /// Waits until the SYNC is complete, so that its marker is in the ring (`true`), or until
    /// entries may have come (`false`). In the second case the caller drains and calls again,
    /// because the device may need room to post the marker.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the device had no room for the marker in time: it has not cleared the filter.
    pub(crate) fn sync_wait(&self, ticket: &Ticket) -> Result<bool> {
        if !ticket.wait_a_while(&self.channel, SYNC_POLL_MS)? {
            return Ok(false);
        }
        ticket.wait().map(|_| true)
    }
}
