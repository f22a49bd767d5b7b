// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The NIC as the driver's ring tracker sees it. This stands for `vf/tracker.rs` and
//! `mgmt/function_log.rs` of the vendor driver, and for the NIC's queue of commands.

use std::{cell::Cell, ffi::CStr, sync::Arc, time::Duration};

use super::{
    event::Event,
    function::Gate,
    memory::RING,
    state::World,
    sync::{range, Attempt, Ticket},
};
use crate::{
    explore::choose,
    ext::dma_pool::Slice,
    nic::{LogParams, IOVA_BITS, MAX_RANGES, PAGE_SHIFTS},
    proto::dlr,
    stub::{
        dma::Coherent,
        error::{Result, EINVAL, EIO, ENOMEM},
    },
    vfio::{
        dirty::{
            ring::{
                device::{self, Config, LogDevice, RingLimits, SyncScope},
                memory::{LogRing, Until},
                piece::{Flow, Piece},
            },
            tracker::{Limits, Notify},
        },
        iova_bitmap::IovaRange,
    },
};

/// The handle of the device.
#[derive(Clone)]
pub(crate) struct Nic(pub(crate) Arc<World>);

/// `HOLD_US` of the driver.
const HOLD: Duration = Duration::from_micros(10_000);

fn pages(range: IovaRange) -> (u64, u64) {
    (range.iova() >> 12, range.length() >> 12)
}

impl LogDevice for Nic {
    type Ticket = Ticket;

    const COOKIE_BITS: u32 = dlr::DLR_LOG_COOKIE_BITS;

    fn limits(&self) -> Result<RingLimits> {
        Ok(RingLimits {
            log: Limits {
                page_shift_min: *PAGE_SHIFTS.start(),
                page_shift_max: *PAGE_SHIFTS.end(),
                max_ranges: MAX_RANGES,
                iova_bits: IOVA_BITS,
            },
            order_min: dlr::DLR_LOG_RING_MIN_ORDER,
            order_max: dlr::DLR_LOG_RING_MAX_ORDER,
        })
    }

    fn start(&self, config: &Config<'_>, notify: Option<Arc<dyn Notify>>) -> Result {
        let world = &*self.0;
        *world.notify.lock() = notify;
        let memory = Slice::new(Coherent::new(world.ring_memory.clone()));
        *world.ring.lock() = Some(LogRing::new(memory, config.ring_order));
        let ranges = config.ranges.iter();
        let params = LogParams {
            ring: RING,
            order: config.ring_order,
            vector: 0,
            threshold: config.irq_threshold,
            page_shift: config.page_shift,
            hold: if world.scenario.hold {
                HOLD
            } else {
                Duration::ZERO
            },
            ranges: ranges.map(|r| (r.iova(), r.length())).collect(),
        };
        let started = world.engine.start(Some(&Gate(world)), &params);
        started.map_err(World::errno)
    }

    fn stop(&self) -> Result {
        self.0.engine.stop();
        *self.0.notify.lock() = None;
        Ok(())
    }

    fn settle(&self) -> Result {
        Ok(())
    }

    fn posted(&self) -> Result<u32> {
        let world = &*self.0;
        world.moment();
        let posted = world.engine.posted(Some(&Gate(world)));
        world.event(Event::Posted(posted));
        world.device.lock().reporting = true;
        if posted & dlr::DLR_LOG_POSTED_ERROR != 0 {
            return Err(EIO);
        }
        Ok(posted)
    }

    fn drain(&self, until: Until, sink: impl FnMut(Piece<'_>) -> Flow) -> Result<u32> {
        let world = &*self.0;
        if world.is_endless() {
            return Err(EIO);
        }
        let mut ring = world.ring.lock();
        let ring = ring.as_mut().ok_or(EINVAL)?;
        let drained = ring.drain(until, sink, |head| {
            world.moment();
            world.event(Event::Head(head));
            world.slots_came_back(head);
        });
        drained.map(|drained| drained.entries)
    }

    fn add(&self, range: IovaRange) -> Result {
        let world = &*self.0;
        world.moment();
        world.execute_before(u64::MAX);
        let added = world.engine.add(range.iova(), range.length());
        let (page, pages) = pages(range);
        world.event(Event::Add { page, pages });
        added.map_err(World::errno)
    }

    fn sync_submit(&self, scope: SyncScope, cookie: u64) -> Result<Ticket> {
        let world = &*self.0;
        if world.device.lock().left.starved > 0 && choose(2) == 1 {
            world.device.lock().left.starved -= 1;
            world.event(Event::Starved);
            return Err(ENOMEM);
        }
        world.give(scope, cookie);
        Ok(Ticket {
            cookie,
            range: range(scope),
            again: Cell::new(0),
        })
    }

    fn sync_wait(&self, ticket: &Ticket) -> Result<bool> {
        let world = &*self.0;
        world.moment();
        world.execute_before(ticket.cookie);
        if !world.is_pending(ticket.cookie) {
            return world.forget(ticket);
        }
        // In the first wait, or later, or not before it is given again.
        let left = world.device.lock().left;
        let (late, again) = (left.late > 0, left.again > 0);
        match choose(1 + usize::from(late) + usize::from(again)) {
            0 => (),
            1 if late => {
                world.put_off();
                return Ok(false);
            }
            _ => {
                world.give_again(ticket);
                return Ok(false);
            }
        }
        match world.execute_first() {
            Some(Attempt::Done) => {
                world.moment();
                world.forget(ticket)
            }
            Some(Attempt::Failed(status)) => Err(World::errno(status)),
            _ => {
                if world.device.lock().left.busy > 0 && choose(2) == 1 {
                    return Err(world.answer_busy(ticket.cookie));
                }
                Ok(false)
            }
        }
    }

    fn sync_found(&self, ticket: Ticket) -> u32 {
        ticket.again.get()
    }

    fn trace(&self, _: &CStr, event: device::Event) {
        if matches!(event, device::Event::Lost { .. }) {
            self.0.event(Event::Lost);
        }
    }
}
