// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A virtio-net function in memory for the tests: registers, and a peer that echoes.

use std::{cell::RefCell, io};

use etherparse::{ArpOperation, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use vm_memory::{Bytes, GuestAddress};

use super::{
    memory::SharedMemory,
    transport::{Regions, F_EVENT_IDX},
};

const CONFIG: u32 = 7;
const BAR: u32 = 4;
pub(super) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

#[derive(Clone, Copy, Default)]
struct Ring {
    size: u16,
    enabled: u16,
    rings: [u64; 3],
    seen: u16,
    used: u16,
}

#[derive(Default)]
struct State {
    registers: Vec<u8>,
    queues: [Ring; 3],
    features: u64,
    status: u8,
    command: u16,
    backlog: Vec<Vec<u8>>,
}

/// The function.
pub(super) struct Model {
    memory: SharedMemory,
    state: RefCell<State>,
    /// Features that it offers.
    pub(super) offered: u64,
}

impl Model {
    pub(super) fn new(memory: SharedMemory) -> Self {
        let state = State {
            registers: vec![0; 0x100],
            ..State::default()
        };
        Self {
            memory,
            state: RefCell::new(state),
            offered: 1 << 32 | 1 << 33 | 1 << 15 | 1 << 5,
        }
    }

    /// The same function with other memory behind it.
    pub(super) fn moved(self, memory: SharedMemory) -> Self {
        Self { memory, ..self }
    }

    pub(super) fn features(&self) -> u64 {
        self.state.borrow().features
    }

    fn config(offset: u64) -> u8 {
        let mut space = [0u8; 256];
        space[6] = 0x10;
        space[0x34] = 0x40;
        // MSI-X first: a capability that is none of ours.
        space[0x40..0x42].copy_from_slice(&[0x11, 0x50]);
        for (at, kind, next, start, len) in [
            (0x50usize, 1u8, 0x64u8, 0u32, 0x38u32),
            (0x64, 2, 0x78, 0x1000, 0x100),
            (0x78, 4, 0, 0x2000, 0x10),
        ] {
            space[at] = 0x09;
            space[at + 1] = next;
            space[at + 2] = if kind == 2 { 20 } else { 16 };
            space[at + 3] = kind;
            space[at + 4] = BAR as u8;
            space[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
            space[at + 12..at + 16].copy_from_slice(&len.to_le_bytes());
            if kind == 2 {
                space[at + 16] = 4;
            }
        }
        space[offset as usize]
    }

    fn register(&self, state: &mut State, at: u64) -> u8 {
        let select = usize::from(state.registers[0x16]);
        let queue = state.queues.get(select).copied().unwrap_or_default();
        let word = |value: u16, start: u64| value.to_le_bytes()[(at - start) as usize];
        match at {
            4..8 => (self.offered >> (32 * u64::from(state.registers[0]))).to_le_bytes()
                [at as usize - 4],
            0x14 => state.status,
            0x18..0x1a if select < 3 => word(if queue.size == 0 { 64 } else { queue.size }, 0x18),
            0x1e..0x20 => word(select as u16, 0x1e),
            0x2000..0x2006 => [2, 0, 0, 0, 0, 1][at as usize - 0x2000],
            _ => state.registers.get(at as usize).copied().unwrap_or(0),
        }
    }

    fn put(&self, state: &mut State, at: u64, data: &[u8]) {
        let mut value = [0; 8];
        value[..data.len()].copy_from_slice(data);
        let value = u64::from_le_bytes(value);
        state.registers[at as usize..at as usize + data.len()].copy_from_slice(data);
        let select = usize::from(state.registers[0x16]);
        match at {
            0xc => {
                let shift = 32 * u64::from(state.registers[8]);
                state.features = state.features & !(0xffff_ffff << shift) | value << shift;
            }
            0x14 => {
                state.status = value as u8;
                if value == 0 {
                    state.queues = Default::default();
                }
            }
            0x18 => state.queues[select].size = value as u16,
            0x1c => state.queues[select].enabled = value as u16,
            0x20..0x38 => {
                let ring = &mut state.queues[select].rings[(at as usize - 0x20) / 8];
                let shift = (at % 8) * 8;
                *ring = *ring & !(0xffff_ffff << shift) | value << shift;
            }
            _ => {}
        }
    }

    /// Takes the next chain of a queue: head and its single buffer.
    fn pop(&self, ring: &mut Ring) -> Option<(u16, u64, u32)> {
        let m = self.memory.guest();
        let [desc, avail, _] = ring.rings;
        let index: u16 = m.read_obj(GuestAddress(avail + 2)).expect("index");
        if ring.enabled == 0 || index == ring.seen {
            return None;
        }
        let slot = u64::from(ring.seen % ring.size);
        let head: u16 = m
            .read_obj(GuestAddress(avail + 4 + 2 * slot))
            .expect("head");
        ring.seen = ring.seen.wrapping_add(1);
        let at = desc + 16 * u64::from(head);
        let iova: u64 = m.read_obj(GuestAddress(at)).expect("iova");
        let len: u32 = m.read_obj(GuestAddress(at + 8)).expect("len");
        Some((head, iova, len))
    }

    fn push(&self, ring: &mut Ring, head: u16, written: u32) {
        let m = self.memory.guest();
        let at = ring.rings[2] + 4 + 8 * u64::from(ring.used % ring.size);
        m.write_obj(u32::from(head), GuestAddress(at)).expect("id");
        m.write_obj(written, GuestAddress(at + 4)).expect("len");
        ring.used = ring.used.wrapping_add(1);
        m.write_obj(ring.used, GuestAddress(ring.rings[2] + 2))
            .expect("index");
    }

    fn work(&self, state: &mut State) {
        let m = self.memory.guest();
        while let Some((head, iova, len)) = self.pop(&mut state.queues[1]) {
            let mut frame = vec![0; len as usize - 12];
            m.read_slice(&mut frame, GuestAddress(iova + 12))
                .expect("frame");
            self.push(&mut state.queues[1], head, 0);
            state.backlog.extend(answer(&frame));
        }
        while let Some(frame) = state.backlog.first() {
            let mut bytes = vec![0; 12];
            bytes.extend_from_slice(frame);
            let ring = &mut state.queues[0];
            let seen = ring.seen;
            let Some((_, _, size)) = self.pop(ring) else {
                break;
            };
            ring.seen = seen;
            let count = bytes.len().div_ceil(size as usize);
            bytes[10..12].copy_from_slice(&(count as u16).to_le_bytes());
            let avail = state.queues[0].rings[1];
            let index: u16 = m.read_obj(GuestAddress(avail + 2)).expect("index");
            if usize::from(index.wrapping_sub(state.queues[0].seen)) < count {
                break;
            }
            for part in bytes.chunks(size as usize) {
                let (head, iova, _) = self.pop(&mut state.queues[0]).expect("a buffer");
                m.write_slice(part, GuestAddress(iova)).expect("written");
                self.push(&mut state.queues[0], head, part.len() as u32);
            }
            state.backlog.remove(0);
        }
        if state.queues[2].enabled != 0 {
            self.control(&mut state.queues[2]);
        }
        if state.features & F_EVENT_IDX != 0 {
            for ring in state.queues.iter().filter(|ring| ring.enabled != 0) {
                let event = ring.rings[2] + 4 + 8 * u64::from(ring.size);
                m.write_obj(ring.seen, GuestAddress(event)).expect("event");
            }
        }
    }

    /// Answers control commands: 0 into the last buffer.
    fn control(&self, ring: &mut Ring) {
        let m = self.memory.guest();
        while let Some((head, ..)) = self.pop(ring) {
            let mut at = ring.rings[0] + 16 * u64::from(head);
            while m.read_obj::<u16>(GuestAddress(at + 12)).expect("flags") & 1 != 0 {
                let next: u16 = m.read_obj(GuestAddress(at + 14)).expect("next");
                at = ring.rings[0] + 16 * u64::from(next);
            }
            let ack: u64 = m.read_obj(GuestAddress(at)).expect("iova");
            m.write_obj(0u8, GuestAddress(ack)).expect("answer");
            self.push(ring, head, 1);
        }
    }
}

fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let mut out = Vec::new();
    match (packet.net?, packet.transport) {
        (NetSlice::Arp(arp), _) => {
            let mut arp = arp.to_packet().try_eth_ipv4().ok()?;
            let to = arp.sender_mac;
            (arp.target_mac, arp.sender_mac) = (arp.sender_mac, PEER_MAC);
            (arp.target_ipv4, arp.sender_ipv4) = (arp.sender_ipv4, arp.target_ipv4);
            arp.operation = ArpOperation::REPLY;
            PacketBuilder::ethernet2(PEER_MAC, to)
                .arp(arp.into())
                .write(&mut out)
                .ok()?;
        }
        (NetSlice::Ipv4(ip), Some(TransportSlice::Udp(udp))) => {
            let header = ip.header();
            PacketBuilder::ethernet2(PEER_MAC, [2, 0, 0, 0, 0, 1])
                .ipv4(header.destination(), header.source(), 64)
                .udp(udp.destination_port(), udp.source_port())
                .write(&mut out, udp.payload())
                .ok()?;
        }
        _ => return None,
    }
    Some(out)
}

impl Regions for Model {
    fn read(&self, index: u32, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        for (at, byte) in buf.iter_mut().enumerate() {
            let at = offset + at as u64;
            *byte = match index {
                CONFIG => Self::config(at),
                BAR => self.register(&mut state, at),
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            };
        }
        Ok(())
    }

    fn write(&self, index: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        match (index, offset) {
            (CONFIG, 4) => state.command = u16::from_le_bytes([data[0], data[1]]),
            (BAR, 0..0x38) => self.put(&mut state, offset, data),
            (BAR, 0x1000 | 0x1004 | 0x1008) => self.work(&mut state),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(())
    }
}
