// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The "guest": a network driver and an application that sends echo requests as fast as the
//! answers come, and checks every byte of them.

use std::{
    collections::HashMap,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};
use dlr_traffic::{Fault, Header, Tracker};
use vm_memory::{Bytes, GuestAddress};

use super::{
    buffers::Pool,
    control::{self, Control},
    counters::Counters,
    frames::{Addresses, Received, LONGEST},
    layout,
    memory::{GuestMemory, SharedMemory, PAGE},
    pulse::Pulse,
    queue::{Buffer, Queue},
    transport::{Doorbell, Features, Regions, VirtioPci, F_EVENT_IDX, NET_F_CTRL_VQ, NO_VECTOR},
};

/// Bytes of `struct virtio_net_hdr_v1`.
const NET_HEADER: usize = 12;
/// After this time the guest does not wait for an answer any more, so that the traffic never pauses.
const PATIENCE: Duration = Duration::from_millis(100);
/// Pause when there is nothing to do.
const IDLE: Duration = Duration::from_micros(300);
const SHORTEST: usize = 64;

/// A frame that is being put together from several buffers.
#[derive(Debug, Default)]
struct Assembly {
    left: u16,
    bytes: Vec<u8>,
}

/// Doorbells of one function.
#[derive(Clone, Copy, Debug)]
pub struct Doorbells {
    rx: Doorbell,
    tx: Doorbell,
    ctrl: Option<Doorbell>,
}

impl Doorbells {
    /// Those of `function`, whose queues `guest` has set up.
    ///
    /// # Errors
    ///
    /// A register cannot be accessed.
    pub fn of<R: Regions>(function: &VirtioPci<'_, R>, guest: &Guest) -> Result<Self> {
        let ctrl = guest
            .control
            .as_ref()
            .map(|_| function.doorbell(control::QUEUE));
        Ok(Self {
            rx: function.doorbell(0)?,
            tx: function.doorbell(1)?,
            ctrl: ctrl.transpose()?,
        })
    }
}

/// How a [`Guest`] sends and receives.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Decides the order of buffers and the lengths of frames.
    pub seed: u64,
    /// Echo requests on their way at one time, at most.
    pub window: usize,
    /// Pages of a receive buffer.
    pub buffer_pages: u32,
    /// Features to agree on.
    pub features: Features,
    /// MSI-X vector of the receive queue.
    pub vector: u16,
}

/// Driver and application.
pub struct Guest {
    memory: SharedMemory,
    addresses: Addresses,
    rx: Queue,
    tx: Queue,
    control: Option<Control>,
    pool: Pool,
    send_free: Vec<u64>,
    assembly: Assembly,
    stream: u32,
    next: u64,
    waiting: HashMap<u64, Instant>,
    tracker: Tracker,
    pulse: Arc<Pulse>,
    damaged: u64,
    urgent: Vec<Vec<u8>>,
    window: usize,
    buffer: u32,
}

impl Guest {
    /// Sets up `function` with queues in `memory`, which it can reach.
    ///
    /// # Errors
    ///
    /// The function is not one that this driver can drive.
    pub fn new<R: Regions>(
        function: &VirtioPci<'_, R>,
        memory: SharedMemory,
        mut addresses: Addresses,
        settings: Settings,
    ) -> Result<Self> {
        let Settings { seed, window, .. } = settings;
        let features = function.begin(settings.features)?;
        let event_idx = features & F_EVENT_IDX != 0;
        let rx_rings = layout::rx_rings(function.queue_limit(0)?);
        let tx_rings = layout::tx_rings(function.queue_limit(1)?);
        let rx = Queue::new(memory.guest(), rx_rings, event_idx)?;
        let tx = Queue::new(memory.guest(), tx_rings, event_idx)?;
        function.enable_queue(0, rx_rings, settings.vector)?;
        function.enable_queue(1, tx_rings, NO_VECTOR)?;
        let control = match features & NET_F_CTRL_VQ {
            0 => None,
            _ => Some(Control::new(function, memory.guest(), event_idx)?),
        };
        addresses.mac = function.mac()?;
        function.finish()?;
        let buffers = layout::receive_buffers(&memory.ranges(), settings.buffer_pages.into());
        Ok(Self {
            pool: Pool::new(buffers, seed),
            memory,
            addresses,
            rx,
            tx,
            control,
            send_free: layout::send_buffers(),
            assembly: Assembly::default(),
            stream: seed as u32,
            next: 0,
            waiting: HashMap::new(),
            tracker: Tracker::default(),
            pulse: Arc::default(),
            damaged: 0,
            urgent: Vec::new(),
            window,
            buffer: settings.buffer_pages * PAGE as u32,
        })
    }

    /// Our MAC.
    pub fn mac(&self) -> [u8; 6] {
        self.addresses.mac
    }

    /// How far the traffic has come.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Goes on in other memory: what a guest does not notice.
    pub fn move_to(&mut self, memory: SharedMemory) {
        self.memory = memory;
        // The time in which the machine stood still does not count.
        let now = Instant::now();
        self.waiting.values_mut().for_each(|sent| *sent = now);
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        let report = self.tracker.report();
        Counters {
            sent: self.next,
            received: report.received,
            missing: self.next.saturating_sub(report.received),
            duplicates: report.duplicates,
            corrupt: report.corrupt + self.damaged,
            commands: self.control.as_ref().map_or(0, Control::sent),
            faults: report.faults,
        }
    }

    /// Finds the peer.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub fn find_peer<R: Regions>(&mut self, regions: &R, bells: &Doorbells) -> Result<()> {
        for _ in 0..30 {
            let request = self.addresses.arp_request()?;
            self.urgent.push(request);
            let end = Instant::now() + Duration::from_millis(200);
            while Instant::now() < end {
                self.pump(regions, bells)?;
                if self.addresses.peer_mac.is_some() {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        bail!(
            "no answer to ARP from {}: is there a host with a UDP echo service on the function's \
             network? (--peer, --address)",
            self.addresses.peer_ip
        )
    }

    /// Runs until `stop`; the last thing is a burst, so that the function has work to do
    /// when it is stopped itself.
    ///
    /// # Errors
    ///
    /// The function or its memory is broken.
    pub fn run<R: Regions>(
        &mut self,
        regions: &R,
        bells: &Doorbells,
        stop: &AtomicBool,
    ) -> Result<()> {
        while !stop.load(Ordering::Acquire) {
            if !self.pump(regions, bells)? {
                std::thread::sleep(IDLE);
            }
        }
        self.waiting.clear();
        self.pump(regions, bells).map(drop)
    }

    /// One turn; `false` when there was nothing to do.
    ///
    /// # Errors
    ///
    /// The function or its memory is broken.
    pub fn pump<R: Regions>(&mut self, regions: &R, bells: &Doorbells) -> Result<bool> {
        let memory = SharedMemory::clone(&self.memory);
        let memory = memory.guest();
        let mut busy = self.receive(memory)?;
        if self.post(memory)? && self.rx.publish(memory)? {
            bells.rx.ring(regions)?;
        }
        busy |= self.reap(memory)?;
        if self.send(memory)? {
            if self.tx.publish(memory)? {
                bells.tx.ring(regions)?;
            }
            busy = true;
        }
        if let Some(control) = &mut self.control {
            let wrong = control.answers(memory).context("control queue")?;
            if control.send(memory)? {
                if let Some(bell) = &bells.ctrl {
                    bell.ring(regions)?;
                }
            }
            for _ in 0..wrong {
                self.damage("a wrong answer to a control command");
            }
        }
        Ok(busy)
    }

    fn receive(&mut self, memory: &GuestMemory) -> Result<bool> {
        let mut busy = false;
        while let Some(used) = self.rx.take(memory).context("receive queue")? {
            busy = true;
            let buffer = used.chain[0].iova;
            let mut bytes = vec![0; used.written.min(self.buffer) as usize];
            memory.read_slice(&mut bytes, GuestAddress(buffer))?;
            self.pool.give_back(buffer);
            if self.assembly.left == 0 {
                let count = bytes
                    .get(10..NET_HEADER)
                    .map(|n| u16::from_le_bytes([n[0], n[1]]));
                let Some(count @ 1..) = count else {
                    self.damage("a frame without a network header");
                    continue;
                };
                self.assembly.left = count;
                self.assembly.bytes.clear();
                bytes.drain(..NET_HEADER);
            }
            self.assembly.bytes.append(&mut bytes);
            self.assembly.left -= 1;
            if self.assembly.left == 0 {
                let frame = std::mem::take(&mut self.assembly.bytes);
                self.frame(&frame)?;
            }
        }
        Ok(busy)
    }

    fn damage(&mut self, what: &str) {
        log::warn!("received {what}");
        self.damaged += 1;
    }

    fn frame(&mut self, frame: &[u8]) -> Result<()> {
        match self.addresses.parse(frame) {
            Received::Echo(message) => self.echo(&message),
            Received::PeerIs(mac) => self.addresses.peer_mac = Some(mac),
            Received::WhereAreYou(mac, ip) => {
                let reply = self.addresses.arp_reply(mac, ip)?;
                self.urgent.push(reply);
            }
            Received::Other => {}
            Received::Damaged => self.damage("something that is no frame"),
        }
        Ok(())
    }

    fn echo(&mut self, message: &Result<Header, Fault>) {
        if let Ok(header) = message {
            if header.stream != self.stream {
                return;
            }
            self.waiting.remove(&header.seq);
            self.pulse.receives(header.seq);
        }
        self.tracker.enter(message);
    }

    /// Gives the function receive buffers.
    fn post(&mut self, memory: &GuestMemory) -> Result<bool> {
        let mut posted = false;
        while self.rx.free() > 0 {
            let Some(iova) = self.pool.take() else { break };
            let buffer = Buffer {
                iova,
                len: self.buffer,
            };
            posted |= self.rx.add(memory, &[buffer], true)?;
        }
        Ok(posted)
    }

    /// Takes send buffers back.
    fn reap(&mut self, memory: &GuestMemory) -> Result<bool> {
        let mut busy = false;
        while let Some(used) = self.tx.take(memory).context("send queue")? {
            self.send_free.push(used.chain[0].iova);
            busy = true;
        }
        Ok(busy)
    }

    fn send(&mut self, memory: &GuestMemory) -> Result<bool> {
        let mut sent = false;
        while let Some(frame) = self.urgent.pop() {
            sent |= self.send_one(memory, &frame)?;
        }
        if self.addresses.peer_mac.is_none() {
            return Ok(sent);
        }
        let now = Instant::now();
        self.waiting
            .retain(|_, at| now.duration_since(*at) < PATIENCE);
        while self.waiting.len() < self.window
            && self.tx.pending() < self.window
            && self.tx.free() > 0
            && !self.send_free.is_empty()
        {
            // Short ones for the rate, long ones for the pages.
            let limit = if self.pool.random(4) == 0 {
                512
            } else {
                LONGEST
            };
            let len = SHORTEST + self.pool.random(limit - SHORTEST);
            let frame = self.addresses.echo_request(self.stream, self.next, len)?;
            self.pulse.sends(self.next);
            if !self.send_one(memory, &frame)? {
                break;
            }
            self.waiting.insert(self.next, now);
            self.next += 1;
            sent = true;
        }
        Ok(sent)
    }

    fn send_one(&mut self, memory: &GuestMemory, frame: &[u8]) -> Result<bool> {
        let Some(iova) = self.send_free.pop() else {
            return Ok(false);
        };
        memory.write_slice(&[0; NET_HEADER], GuestAddress(iova))?;
        memory.write_slice(frame, GuestAddress(iova + NET_HEADER as u64))?;
        let len = (NET_HEADER + frame.len()) as u32;
        let added = self.tx.add(memory, &[Buffer { iova, len }], false)?;
        if !added {
            self.send_free.push(iova);
        }
        Ok(added)
    }
}

#[cfg(test)]
#[path = "traffic_tests.rs"]
mod tests;
