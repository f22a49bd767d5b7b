// SPDX-License-Identifier: GPL-2.0

//! Dirty logging of a data function by its log ring ("Dirty log" in
//! `Documentation/hardware/dlr-contract.rst`).
//!
//! The layer's [`RingTracker`] has the protocol of the ring: it decides when to SYNC, how far to
//! drain, and what to report after a loss. This file connects it to the commands of the function.

use crate::{
    ext::{
        cmdq::channel::Client,
        gfp, //
    },
    mgmt::{
        Function,
        LogConfig,
        Ticket, //
    },
    proto::{
        self,
        identify::Cap,
        COOKIE_BITS, //
    },
    trace,
    vfio::{
        dirty::{
            log::Log,
            ring::{
                device::{
                    Config,
                    Event,
                    LogDevice,
                    RingLimits,
                    SyncScope, //
                },
                memory::Until,
                piece::{
                    Flow,
                    Piece, //
                },
                tracker::RingTracker,
            },
            tracker::{
                Limits,
                Notify, //
            },
        },
        iova_bitmap::IovaRange,
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The tracker of a data function.
pub(crate) type FunctionRing = RingTracker<Function>;

/// The log of a data function.
pub(crate) type Logging = Log<FunctionRing>;

impl LogDevice for Function {
    type Ticket = Ticket;

    const COOKIE_BITS: u32 = COOKIE_BITS;

    fn limits(&self) -> Result<RingLimits> {
        let info = self.info();
        if !info.caps.contains(Cap::Log) {
            return Err(EOPNOTSUPP);
        }
        Ok(RingLimits {
            log: Limits {
                page_shift_min: info.page_shift_min,
                page_shift_max: info.page_shift_max,
                max_ranges: info.max_ranges as usize,
                iova_bits: info.iova_bits,
            },
            order_min: info.ring_order_min,
            order_max: info.ring_order_max,
        })
    }

    fn start(&self, config: &Config<'_>, notify: Option<Arc<dyn Notify>>) -> Result {
        let mut ranges = KVec::with_capacity(config.ranges.len(), gfp::USER)?;
        for range in config.ranges {
            ranges.push(to_device(*range), gfp::USER)?;
        }
        let client = match notify {
            Some(notify) => {
                let client: Arc<dyn Client> = Arc::new(Events(notify), gfp::USER)?;
                Some(client)
            }
            None => None,
        };
        // The client must be set before the device starts, so that the first interrupt finds it.
        self.set_client(client);
        let config = LogConfig {
            ranges: &ranges,
            ring_order: config.ring_order,
            irq_threshold: config.irq_threshold,
            page_shift: config.page_shift,
        };
        self.log_start(&config)
            .inspect_err(|_| self.set_client(None))
    }

    fn stop(&self) -> Result {
        self.set_client(None);
        self.log_stop()
    }

    fn settle(&self) -> Result {
        self.log_recover()
    }

    fn posted(&self) -> Result<u32> {
        Function::posted(self)
    }

    fn drain(&self, until: Until, sink: impl FnMut(Piece<'_>) -> Flow) -> Result<u32> {
        Function::drain(self, until, sink).map(|drained| drained.entries)
    }

    fn add(&self, range: IovaRange) -> Result {
        self.log_add(&[to_device(range)])
    }

    fn sync_submit(&self, scope: SyncScope, cookie: u64) -> Result<Ticket> {
        let scope = match scope {
            SyncScope::All => proto::SyncScope::All,
            SyncScope::Range(range) => proto::SyncScope::Range(to_device(range)),
        };
        Function::sync_submit(self, scope, cookie)
    }

    fn sync_wait(&self, ticket: &Ticket) -> Result<bool> {
        Function::sync_wait(self, ticket)
    }

    /// Retires the ticket. Each further submission may have posted one more marker.
    fn sync_found(&self, ticket: Ticket) -> u32 {
        ticket.retire()
    }

    fn trace(&self, name: &CStr, event: Event) {
        match event {
            Event::Sync { scope, latency_ns } => {
                let (iova, length, all) = match scope {
                    SyncScope::All => (0, 0, true),
                    SyncScope::Range(range) => (range.iova(), range.length(), false),
                };
                trace::log_sync(name, iova, length, all, latency_ns);
            }
            Event::Drain {
                entries,
                granules,
                irq,
            } => trace::log_drain(name, entries, granules, irq),
            Event::Lost { count } => trace::log_lost(name, count),
        }
    }
}

/// Passes the callbacks of the management function to the log.
struct Events(Arc<dyn Notify>);

impl Client for Events {
    /// Called in the interrupt thread when the ring has entries. Does not wait for a report.
    fn raised(&self) {
        self.0.ready();
    }

    /// Called when the management function was reset or suspended, which has ended the log.
    fn ended(&self) {
        self.0.poison();
    }

    /// Called when the management function is gone. There is nothing to do: the handle fails with
    /// `ENOTCONN`, and a report that was sleeping in it has been woken with the same error.
    fn lost(&self) {}
}

/// Converts a range of the layer to a range of the contract.
fn to_device(range: IovaRange) -> proto::Range {
    proto::Range {
        iova: range.iova(),
        length: range.length(),
    }
}
