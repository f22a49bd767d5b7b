// SPDX-License-Identifier: GPL-2.0

//! Dirty logging of a data function.
//!
//! The caller serialises these calls but for [`Function::posted`] (its log lock); the lock of the ring
//! itself is never held while a command is waited for.

use super::{
    command::Ticket,
    function::Function,
    log::{
        self,
        Drained,
        Flow,
        Ring,
        Until, //
    }, //
    ring::CHUNK,
};
use crate::{
    kext::completion::Wait,
    proto::{
        admin::{
            Command,
            LogStart, //
        },
        identify::Cap,
        Entry,
        Range,
        SyncScope, //
    },
};
use kernel::{
    dma::Coherent,
    prelude::*,
    sync::Arc,
    time::msecs_to_jiffies, //
};

/// How long [`Function::sync_wait`] sleeps before it lets the caller drain even without an interrupt, in
/// milliseconds.
const SYNC_POLL_MS: u32 = 20;

/// How to log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogConfig<'a> {
    /// What to track.
    pub(crate) ranges: &'a [Range],
    /// Log2 of the entries of the ring.
    pub(crate) ring_order: u32,
    /// Unconsumed entries that raise the interrupt.
    pub(crate) irq_threshold: u32,
    /// Log2 of the granule.
    pub(crate) page_shift: u32,
}

impl Function {
    /// Starts the log. Complete when every later DMA write in the ranges will be logged.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` when the function has no log, `EINVAL` for what it cannot do, `EBUSY` when a log is
    /// active.
    pub(crate) fn log_start(&self, config: &LogConfig<'_>) -> Result {
        let start = self.check(config)?;
        if self.channel.log.lock().active {
            return Err(EBUSY);
        }
        // A ring may be left of a log whose end we do not know.
        if self.channel.log.lock().ring.is_some() {
            self.log_stop()?;
        }
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
                // Frees the ring when the device confirms; else it stays until the next try.
                let _ = self.log_stop();
                Err(error)
            }
        }
    }

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
        })
    }

    /// Allocates the ring. It belongs to the channel before the device hears of it.
    fn place_ring(&self, mut start: LogStart) -> Result<Command> {
        let hw = self.service.queue.hw.enter().ok_or(ENOTCONN)?;
        let order = u32::from(start.ring_order);
        let memory =
            Coherent::<[u64; CHUNK]>::zeroed_slice(hw.device(), (1 << order) / CHUNK, GFP_KERNEL)?;
        start.ring = memory.dma_address();
        let mut log = self.channel.log.lock();
        if log.ring.is_some() {
            return Err(EBUSY);
        }
        log.ring = Some(Ring::new(memory, order));
        Ok(Command::log_start(self.channel.number, &start))
    }

    fn ranges(&self, ranges: &[Range]) -> Result<Arc<super::Buffer>> {
        let one = size_of_val(&ranges.first().ok_or(EINVAL)?.to_bytes());
        let buffer = self.alloc_buffer(ranges.len().checked_mul(one).ok_or(EINVAL)?)?;
        for (i, range) in ranges.iter().enumerate() {
            buffer.copy_in(i * one, &range.to_bytes())?;
        }
        Ok(buffer)
    }

    /// Tracks these ranges too. They may overlap what is tracked.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when the device cannot track so many.
    pub(crate) fn log_add(&self, ranges: &[Range]) -> Result {
        let buffer = self.ranges(ranges)?;
        let command = Command::log_add(self.channel.number);
        self.submit_buffer(command, &buffer, buffer.len())?
            .wait()
            .map(drop)
    }

    /// Stops the log and frees the ring. Success also when no log is active. Signals do not end the wait.
    pub(crate) fn log_stop(&self) -> Result {
        self.channel.log.lock().active = false;
        self.clean_up(Command::log_stop(self.channel.number))?;
        // Freed with the lock held, see `shut_down`.
        self.channel.log.lock().ring = None;
        Ok(())
    }

    /// Stops a log whose start or stop has failed, so that nobody knows whether the device still writes
    /// its ring. Nothing to do when there is none.
    pub(crate) fn log_settle(&self) -> Result {
        let unknown = {
            let log = self.channel.log.lock();
            log.ring.is_some() && !log.active
        };
        if unknown {
            self.log_stop()?;
        }
        Ok(())
    }

    /// Number of entries ever posted, modulo 2^31. One access to the device and no lock that sleeps. The
    /// entries of every DMA write that was visible before are in the ring when it returns.
    ///
    /// # Errors
    ///
    /// `EIO` when the log is not active or failed, `ENOTCONN`.
    pub(crate) fn posted(&self) -> Result<u32> {
        if self.is_gone() {
            return Err(ENOTCONN);
        }
        let hw = self.service.queue.hw.enter().ok_or(ENOTCONN)?;
        log::posted(&hw, self.channel.number)
    }

    /// Consumes log entries up to `until` or to where `sink` says stop.
    ///
    /// # Errors
    ///
    /// `EINVAL` when no log is active, `ENOTCONN`, `EIO` when the ring cannot be trusted; that stays until
    /// the log is stopped.
    pub(crate) fn drain(&self, until: Until, sink: impl FnMut(Entry) -> Flow) -> Result<Drained> {
        if self.is_gone() {
            return Err(ENOTCONN);
        }
        let queue = &self.service.queue;
        let hw = queue.hw.enter().ok_or(ENOTCONN)?;
        let number = self.channel.number;
        let mut log = self.channel.log.lock();
        let drained = log
            .active()?
            .drain(until, sink, |head| log::give_back(&hw, number, head));
        match &drained {
            Ok(done) => queue.stats.log_entries.add(done.entries.into()),
            Err(_) => queue.stats.log_garbage.count(),
        }
        drained
    }

    /// Asks for a SYNC; its marker carries `cookie`, of at most 52 bits.
    pub(crate) fn sync_submit(&self, scope: SyncScope, cookie: u64) -> Result<Ticket> {
        let command = Command::log_sync(self.channel.number, scope, cookie)?;
        let channel = Some(self.channel.clone());
        self.service.queue.submit(command, None, channel)
    }

    /// Waits until the SYNC is complete (`true`; its marker is in the ring) or until entries may have come
    /// (`false`): then drain and call again, because the device may wait for room to post the marker.
    ///
    /// # Errors
    ///
    /// `EBUSY` when the device had no room for the marker in time: nothing was synced.
    pub(crate) fn sync_wait(&self, ticket: &Ticket) -> Result<bool> {
        if !ticket.is_done() {
            let time = ticket
                .request
                .remaining()
                .min(msecs_to_jiffies(SYNC_POLL_MS));
            if time > 0 {
                if self.channel.event.wait_killable_timeout(time) == Wait::Killed {
                    self.service.queue.stats.killed.count();
                    return Err(EINTR);
                }
                if !ticket.is_done() {
                    return Ok(false);
                }
            }
        }
        ticket.wait().map(|_| true)
    }
}
