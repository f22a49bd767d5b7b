// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The control queue (virtio 1.3, section 5.1.6.5): one command after the other that changes nothing
//! for the traffic. What counts is where the function writes: each answer is a byte of its own, which
//! is written once, and the queue's rings have pages of their own. A log that forgets such a write has
//! nothing else that would hide it.

use std::time::{Duration, Instant};

use anyhow::Result;
use vm_memory::{Bytes, GuestAddress};

use super::{
    layout,
    memory::GuestMemory,
    queue::{Buffer, Queue},
    transport::{Regions, VirtioPci, NO_VECTOR},
};

/// Number of the control queue of a function with one pair of queues.
pub const QUEUE: u16 = 2;
const CLASS_RX: u8 = 0;
/// `VIRTIO_NET_CTRL_RX_ALLMULTI`: nobody sends multicast here.
const RX_ALLMULTI: u8 = 1;
const OK: u8 = 0;
/// What stands where an answer is to come.
const UNANSWERED: u8 = 0xff;
/// Time between two commands.
const PACE: Duration = Duration::from_millis(2);

/// The driver of the control queue.
#[derive(Debug)]
pub struct Control {
    queue: Queue,
    sent: u64,
    next: Instant,
}

impl Control {
    /// Sets the queue up.
    ///
    /// # Errors
    ///
    /// The function has none.
    pub fn new<R: Regions>(
        function: &VirtioPci<'_, R>,
        memory: &GuestMemory,
        event_idx: bool,
    ) -> Result<Self> {
        let rings = layout::ctrl_rings(function.queue_limit(QUEUE)?);
        let queue = Queue::new(memory, rings, event_idx)?;
        let (_, acks) = layout::command(0);
        let bytes = vec![UNANSWERED; layout::ACK_LIMIT as usize];
        memory.write_slice(&bytes, GuestAddress(acks))?;
        function.enable_queue(QUEUE, rings, NO_VECTOR)?;
        Ok(Self {
            queue,
            sent: 0,
            next: Instant::now(),
        })
    }

    /// Commands that were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Answers that were wrong since the last call; they are taken off the queue.
    ///
    /// # Errors
    ///
    /// The queue is broken.
    pub fn answers(&mut self, memory: &GuestMemory) -> Result<u64> {
        let mut wrong = 0;
        while let Some(used) = self.queue.take(memory)? {
            let ack = used.chain.last().map(|buffer| buffer.iova);
            let answer: u8 = match ack {
                Some(iova) => memory.read_obj(GuestAddress(iova))?,
                None => UNANSWERED,
            };
            wrong += u64::from(answer != OK || used.written != 1);
        }
        Ok(wrong)
    }

    /// Sends a command when it is time for one. Is the doorbell to be rung?
    ///
    /// # Errors
    ///
    /// The queue is broken.
    pub fn send(&mut self, memory: &GuestMemory) -> Result<bool> {
        let now = Instant::now();
        if self.sent == layout::ACK_LIMIT || self.queue.pending() > 0 || now < self.next {
            return Ok(false);
        }
        let (command, ack) = layout::command(self.sent);
        let on = (self.sent & 1) as u8;
        memory.write_slice(&[CLASS_RX, RX_ALLMULTI, on], GuestAddress(command))?;
        let buffer = |iova, len| Buffer { iova, len };
        let chain = [buffer(command, 2), buffer(command + 2, 1), buffer(ack, 1)];
        if !self.queue.add_mixed(memory, &chain, 2)? {
            return Ok(false);
        }
        self.sent += 1;
        self.next = now + PACE;
        self.queue.publish(memory)
    }
}
