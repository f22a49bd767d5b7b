// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One virtqueue: its registers and its rings.
//!
//! Available side and descriptors are the crate `virtio-queue`'s. The used side is written
//! here: buffers of one frame have to become visible together, and the crate publishes each
//! by itself.

use std::sync::atomic::{fence, Ordering};

use dlr_core::Purpose;
use dlr_pci::FunctionMemory;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use crate::{
    chain::{Broken, Buffer},
    regs::NO_VECTOR,
};

const AVAIL_F_NO_INTERRUPT: u16 = 1;
const USED_F_NO_NOTIFY: u16 = 1;

/// A queue as the driver set it up, and how far both sides have come.
#[derive(Debug)]
pub(crate) struct NetQueue {
    pub(crate) desc: u64,
    pub(crate) avail: u64,
    pub(crate) used: u64,
    pub(crate) size: u16,
    pub(crate) vector: u16,
    /// Enabled by the driver.
    pub(crate) ring: Option<Queue>,
    /// Used index at the last decision about an interrupt.
    pub(crate) signalled: u16,
    /// The driver was told to give buffers without doorbells.
    pub(crate) quiet: bool,
}

impl NetQueue {
    /// A queue as it is before a driver comes.
    pub(crate) fn new(size: u16) -> Self {
        Self {
            desc: 0,
            avail: 0,
            used: 0,
            size,
            vector: NO_VECTOR,
            ring: None,
            signalled: 0,
            quiet: false,
        }
    }

    /// The ring that the registers describe, at its beginning.
    pub(crate) fn build(&self, event_idx: bool) -> Result<Queue, Broken> {
        let setup = || -> Result<Queue, virtio_queue::Error> {
            let mut ring = Queue::new(self.size)?;
            ring.try_set_desc_table_address(GuestAddress(self.desc))?;
            ring.try_set_avail_ring_address(GuestAddress(self.avail))?;
            ring.try_set_used_ring_address(GuestAddress(self.used))?;
            ring.set_event_idx(event_idx);
            ring.set_ready(true);
            Ok(ring)
        };
        // virtio-queue takes an available ring at 0 for a queue that was reset. The ends of
        // the rings are computed without overflow checks everywhere else.
        let size = u64::from(self.size);
        let inside = |start: u64, len: u64| start.checked_add(len).is_some();
        if self.avail == 0
            || !inside(self.desc, 16 * size)
            || !inside(self.avail, 6 + 2 * size)
            || !inside(self.used, 6 + 8 * size)
        {
            return Err(Broken::Setup);
        }
        setup().map_err(|_| Broken::Setup)
    }

    /// Enabled and ready to work.
    pub(crate) fn enabled(&self) -> bool {
        self.ring.is_some()
    }

    /// The next buffer and its id, `None` when the driver has given no more.
    pub(crate) fn pop(&mut self, memory: &FunctionMemory) -> Result<Option<(u16, Buffer)>, Broken> {
        let Some(ring) = &mut self.ring else {
            return Ok(None);
        };
        let avail = ring
            .avail_idx(memory, Ordering::Acquire)
            .map_err(|_| Broken::Fault)?;
        if avail.0 == ring.next_avail() {
            return Ok(None);
        }
        let mut heads = ring.iter(memory).map_err(|_| Broken::Index)?;
        let chain = heads.next().ok_or(Broken::Fault)?;
        let head = chain.head_index();
        if head >= self.size {
            return Err(Broken::Chain);
        }
        Ok(Some((head, Buffer::parse(chain, self.size)?)))
    }

    /// Takes back the last `count` pops.
    pub(crate) fn unpop(&mut self, count: u16) {
        if let Some(ring) = &mut self.ring {
            ring.set_next_avail(ring.next_avail().wrapping_sub(count));
        }
    }

    /// Returns buffers, given by id and bytes written, all at once.
    pub(crate) fn publish(
        &mut self,
        memory: &FunctionMemory,
        done: &[(u16, u32)],
    ) -> Result<(), Broken> {
        let Some(ring) = &mut self.ring else {
            return Ok(());
        };
        let _purpose = Purpose::UsedRing.begin();
        let mut next = ring.next_used();
        for (head, len) in done {
            let mut element = [0; 8];
            element[..4].copy_from_slice(&u32::from(*head).to_le_bytes());
            element[4..].copy_from_slice(&len.to_le_bytes());
            let at = self.used + 4 + 8 * u64::from(next % self.size);
            memory
                .write_slice(&element, GuestAddress(at))
                .map_err(|_| Broken::Fault)?;
            next = next.wrapping_add(1);
        }
        memory
            .store(next.to_le(), GuestAddress(self.used + 2), Ordering::Release)
            .map_err(|_| Broken::Fault)?;
        ring.set_next_used(next);
        Ok(())
    }

    /// Takes the next `count` used slots without writing them, and returns the first
    /// (sabotage only).
    pub(crate) fn claim_used(&mut self, count: u16) -> Option<u16> {
        let ring = self.ring.as_mut()?;
        let used = ring.next_used();
        ring.set_next_used(used.wrapping_add(count));
        Some(used)
    }

    /// Buffers that the driver has given and that are not taken yet.
    pub(crate) fn available(&self, memory: &FunctionMemory) -> u16 {
        self.ring.as_ref().map_or(0, |ring| {
            ring.avail_idx(memory, Ordering::Acquire)
                .map_or(0, |avail| avail.0.wrapping_sub(ring.next_avail()))
        })
    }

    /// How far both sides have come, for people.
    pub(crate) fn json(&self, memory: &FunctionMemory) -> serde_json::Value {
        match &self.ring {
            Some(ring) => serde_json::json!({
                "size": self.size,
                "vector": self.vector,
                "taken": ring.next_avail(),
                "returned": ring.next_used(),
                "signalled": self.signalled,
                "available": self.available(memory),
            }),
            None => serde_json::Value::Null,
        }
    }

    /// Whether the driver wants an interrupt for what has been returned since it was asked
    /// last (virtio 1.3, 2.7.7).
    pub(crate) fn wants_interrupt(&mut self, memory: &FunctionMemory) -> Result<bool, Broken> {
        let Some(ring) = &self.ring else {
            return Ok(false);
        };
        let new = ring.next_used();
        let old = std::mem::replace(&mut self.signalled, new);
        if new == old {
            return Ok(false);
        }
        // The index must be visible before the driver's wish is read.
        fence(Ordering::SeqCst);
        let load = |addr| -> Result<u16, Broken> {
            memory
                .load::<u16>(GuestAddress(addr), Ordering::Relaxed)
                .map(u16::from_le)
                .map_err(|_| Broken::Fault)
        };
        if ring.event_idx_enabled() {
            let event = load(self.avail + 4 + 2 * u64::from(self.size))?;
            let since = new.wrapping_sub(old);
            Ok(new.wrapping_sub(event).wrapping_sub(1) < since)
        } else {
            Ok(load(self.avail)? & AVAIL_F_NO_INTERRUPT == 0)
        }
    }

    /// Asks the driver for a doorbell at the next buffer. `true` when there is one already.
    pub(crate) fn want_doorbell(&mut self, memory: &FunctionMemory) -> Result<bool, Broken> {
        let _purpose = Purpose::Event.begin();
        match &mut self.ring {
            // Without event indices doorbells were never turned off.
            Some(ring) if ring.event_idx_enabled() => {
                ring.enable_notification(memory).map_err(|_| Broken::Fault)
            }
            _ => Ok(false),
        }
    }

    /// Tells the driver to give buffers without a doorbell. With event indices nothing has
    /// to be said: the index stays where it is.
    pub(crate) fn refuse_doorbells(&mut self, memory: &FunctionMemory) -> Result<(), Broken> {
        let _purpose = Purpose::Event.begin();
        match &self.ring {
            Some(ring) if !self.quiet && !ring.event_idx_enabled() => {
                self.quiet = true;
                memory
                    .store(
                        USED_F_NO_NOTIFY.to_le(),
                        GuestAddress(self.used),
                        Ordering::Relaxed,
                    )
                    .map_err(|_| Broken::Fault)
            }
            _ => Ok(()),
        }
    }
}
