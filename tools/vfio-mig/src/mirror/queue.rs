// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The driver's half of a split virtqueue (virtio 1.2, section 2.7).
//!
//! The ring lies in guest memory, the bookkeeping (which descriptors are free, how far the
//! used ring was read) in this struct: it is what a guest keeps in its own memory and CPU,
//! and goes on with other guest memory after a migration.

use std::sync::atomic::Ordering;

use anyhow::{ensure, Context, Result};
use vm_memory::{Bytes, GuestAddress};

use super::memory::GuestMemory;

const DESC_F_NEXT: u16 = 1;
const DESC_F_WRITE: u16 = 2;
const AVAIL_F_NO_INTERRUPT: u16 = 1;

/// Where the three parts of a queue lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Number of descriptors, a power of two.
    pub size: u16,
    /// Descriptor table.
    pub desc: u64,
    /// Driver area ("available ring").
    pub avail: u64,
    /// Device area ("used ring").
    pub used: u64,
}

/// One buffer of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// First byte.
    pub iova: u64,
    /// Bytes.
    pub len: u32,
}

/// What the device has given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The chain as it was given.
    pub chain: Vec<Buffer>,
    /// Bytes that the device wrote into it.
    pub written: u32,
}

/// The driver's half.
#[derive(Debug)]
pub struct Queue {
    rings: Rings,
    free: Vec<u16>,
    /// By the head's number: the descriptors of the chain and the buffers.
    chains: Vec<Option<(Vec<u16>, Vec<Buffer>)>>,
    next_avail: u16,
    next_used: u16,
    /// `next_avail` when the device was last told.
    published: u16,
    event_idx: bool,
}

impl Queue {
    /// An empty queue; the rings are zeroed and interrupts are declined. With `event_idx` the device
    /// says when it wants a doorbell.
    ///
    /// # Errors
    ///
    /// The rings are not in memory.
    pub fn new(memory: &GuestMemory, rings: Rings, event_idx: bool) -> Result<Self> {
        ensure!(
            rings.size.is_power_of_two(),
            "queue size {} is no power of two",
            rings.size
        );
        let size = usize::from(rings.size);
        for (at, len) in [
            (rings.desc, 16 * size),
            (rings.avail, 6 + 2 * size),
            (rings.used, 6 + 8 * size),
        ] {
            memory
                .write_slice(&vec![0; len], GuestAddress(at))
                .context("queue not in memory")?;
        }
        // With EVENT_IDX the flags have to be 0, and there is no vector anyway.
        let flags = if event_idx { 0 } else { AVAIL_F_NO_INTERRUPT };
        memory.write_obj(flags.to_le(), GuestAddress(rings.avail))?;
        Ok(Self {
            rings,
            free: (0..rings.size).rev().collect(),
            chains: vec![None; size],
            next_avail: 0,
            next_used: 0,
            published: 0,
            event_idx,
        })
    }

    /// Descriptors that are free.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Chains that the device has.
    pub fn pending(&self) -> usize {
        self.chains.iter().flatten().count()
    }

    /// Offers a chain; the device sees it at the next [`Queue::publish`]. `false`: no room.
    ///
    /// # Errors
    ///
    /// The rings are not in memory.
    pub fn add(&mut self, memory: &GuestMemory, chain: &[Buffer], writable: bool) -> Result<bool> {
        let readable = if writable { 0 } else { chain.len() };
        self.add_mixed(memory, chain, readable)
    }

    /// Offers a chain whose first `readable` buffers the device reads, and writes the others.
    ///
    /// # Errors
    ///
    /// The rings are not in memory.
    pub fn add_mixed(
        &mut self,
        memory: &GuestMemory,
        chain: &[Buffer],
        readable: usize,
    ) -> Result<bool> {
        if chain.is_empty() || self.free.len() < chain.len() {
            return Ok(false);
        }
        let numbers = self.free.split_off(self.free.len() - chain.len());
        for (at, buffer) in chain.iter().enumerate() {
            let mut flags = if at < readable { 0 } else { DESC_F_WRITE };
            let next = numbers.get(at + 1).copied();
            if next.is_some() {
                flags |= DESC_F_NEXT;
            }
            let mut desc = [0; 16];
            desc[..8].copy_from_slice(&buffer.iova.to_le_bytes());
            desc[8..12].copy_from_slice(&buffer.len.to_le_bytes());
            desc[12..14].copy_from_slice(&flags.to_le_bytes());
            desc[14..].copy_from_slice(&next.unwrap_or(0).to_le_bytes());
            let place = self.rings.desc + 16 * u64::from(numbers[at]);
            memory.write_slice(&desc, GuestAddress(place))?;
        }
        let head = numbers[0];
        let slot = self.next_avail % self.rings.size;
        let place = self.rings.avail + 4 + 2 * u64::from(slot);
        memory.write_obj(head.to_le(), GuestAddress(place))?;
        self.next_avail = self.next_avail.wrapping_add(1);
        self.chains[usize::from(head)] = Some((numbers, chain.to_vec()));
        Ok(true)
    }

    /// Lets the device see what was added. Does it want its doorbell rung?
    ///
    /// # Errors
    ///
    /// The rings are not in memory.
    pub fn publish(&mut self, memory: &GuestMemory) -> Result<bool> {
        let place = GuestAddress(self.rings.avail + 2);
        memory.store(self.next_avail.to_le(), place, Ordering::Release)?;
        // A notification must not overtake the index.
        std::sync::atomic::fence(Ordering::SeqCst);
        let before = std::mem::replace(&mut self.published, self.next_avail);
        if !self.event_idx {
            return Ok(true);
        }
        let place = self.rings.used + 4 + 8 * u64::from(self.rings.size);
        let event = u16::from_le(memory.load(GuestAddress(place), Ordering::Relaxed)?);
        // vring_need_event() of the specification (2.7.10).
        let since = self.next_avail.wrapping_sub(event).wrapping_sub(1);
        Ok(since < self.next_avail.wrapping_sub(before))
    }

    /// Next chain that the device gave back.
    ///
    /// # Errors
    ///
    /// The device gave back something that it does not have: after a migration, a sign of
    /// lost memory.
    pub fn take(&mut self, memory: &GuestMemory) -> Result<Option<Used>> {
        let place = GuestAddress(self.rings.used + 2);
        let index = u16::from_le(memory.load(place, Ordering::Acquire)?);
        if index == self.next_used {
            return Ok(None);
        }
        let given = index.wrapping_sub(self.next_used);
        ensure!(
            given <= self.rings.size,
            "the used ring's index jumped from {} to {index}",
            self.next_used
        );
        let slot = self.next_used % self.rings.size;
        let place = self.rings.used + 4 + 8 * u64::from(slot);
        let id: u32 = memory.read_obj(GuestAddress(place))?;
        let written: u32 = memory.read_obj(GuestAddress(place + 4))?;
        let (id, written) = (u32::from_le(id), u32::from_le(written));
        let chain = usize::try_from(id)
            .ok()
            .and_then(|id| self.chains.get_mut(id)?.take());
        let (numbers, chain) = chain
            .with_context(|| format!("the used ring names chain {id}, which the device has not"))?;
        self.free.extend(numbers);
        self.next_used = self.next_used.wrapping_add(1);
        Ok(Some(Used { chain, written }))
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
