// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A data function with a driver that lives in the test.

use std::{
    fs::File,
    sync::{
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
        Arc, Mutex,
    },
    thread,
    time::{Duration, Instant},
};

use dlr_core::{
    DirtySink, DmaMemory, FlowSink, FunctionEvents, Interrupt, Purpose, Sabotage, WireTx,
};
use dlr_pci::{DmaSpace, PciFunction};
use vm_memory::Permissions;

use crate::{regs::*, Addresses, NetConfig, NetFunction, QueueSize};

mod guest;

pub(crate) use guest::{avail, desc, memory_file, used, Guest, BASE, BUFFERS, RING};

pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// Length of the guest's memory, from [`BASE`].
pub(crate) const SIZE: u64 = 0x10_0000;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) dirty: Mutex<Vec<(u64, u64)>>,
    /// What the log says to work that wants to begin, and what the work asked for.
    pub(crate) hold: Mutex<Option<Instant>>,
    pub(crate) asked: Mutex<Vec<u32>>,
    /// What each of them was for.
    pub(crate) purposes: Mutex<Vec<Purpose>>,
    pub(crate) sent: Mutex<Vec<Vec<u8>>>,
    /// Where frames go, too.
    pub(crate) wire: Mutex<Option<Arc<dyn WireTx>>>,
    pub(crate) claimed: Mutex<Vec<[u8; 6]>>,
    pub(crate) flows: AtomicUsize,
    pub(crate) interrupts: Mutex<Vec<u16>>,
    pub(crate) held: AtomicBool,
    pub(crate) resets: AtomicU32,
    pub(crate) reconfigured: AtomicU32,
}

impl DirtySink for Recorder {
    fn hold_until(&self, entries: u32) -> Option<Instant> {
        self.asked.lock().unwrap().push(entries);
        *self.hold.lock().unwrap()
    }

    fn dirty(&self, iova: u64, len: u64) {
        self.dirty.lock().unwrap().push((iova, len));
        self.purposes.lock().unwrap().push(Purpose::now());
    }
}

impl FlowSink for Recorder {
    fn packet(&self, _tx: bool, _frame: &[u8]) {
        self.flows.fetch_add(1, Ordering::SeqCst);
    }
}

impl WireTx for Recorder {
    fn send(&self, frame: &[u8]) {
        self.sent.lock().unwrap().push(frame.to_vec());
        if let Some(wire) = &*self.wire.lock().unwrap() {
            wire.send(frame);
        }
    }

    fn claim(&self, mac: [u8; 6]) {
        self.claimed.lock().unwrap().push(mac);
    }
}

impl Interrupt for Recorder {
    fn trigger(&self, vector: u16) {
        self.interrupts.lock().unwrap().push(vector);
    }

    fn hold(&self, on: bool) {
        self.held.store(on, Ordering::SeqCst);
    }
}

impl FunctionEvents for Recorder {
    fn function_reset(&self) {
        self.resets.fetch_add(1, Ordering::SeqCst);
    }

    fn reconfigured(&self) {
        self.reconfigured.fetch_add(1, Ordering::SeqCst);
    }
}

/// A function, its memory and its surroundings.
pub(crate) struct Rig {
    pub(crate) net: Arc<NetFunction>,
    pub(crate) space: Arc<DmaSpace>,
    /// The same memory as the guest's processor sees it: nobody hears of its writes.
    pub(crate) guest: DmaSpace,
    pub(crate) seen: Arc<Recorder>,
    pub(crate) sabotage: Arc<Sabotage>,
    file: File,
}

pub(crate) fn memory() -> File {
    memory_file(SIZE)
}

fn map(space: &DmaSpace, file: &File) {
    let fd = file.try_clone().unwrap().into();
    space
        .map(BASE, SIZE, fd, 0, Permissions::ReadWrite)
        .unwrap();
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::on(memory())
    }

    /// A function that reaches `file`, alone on its NIC.
    pub(crate) fn on(file: File) -> Self {
        Self::function(file, 0, Addresses::new([MAC]))
    }

    /// A function whose queues have this size.
    pub(crate) fn sized(size: u16) -> Self {
        Self::of(
            memory(),
            NetConfig {
                index: 0,
                addresses: Addresses::new([MAC]),
                queue_size: size.try_into().unwrap(),
            },
        )
    }

    /// Function `index` of a NIC with these addresses.
    pub(crate) fn function(file: File, index: u16, addresses: Arc<Addresses>) -> Self {
        let queue_size = QueueSize::default();
        let config = NetConfig {
            index,
            addresses,
            queue_size,
        };
        Self::of(file, config)
    }

    fn of(file: File, config: NetConfig) -> Self {
        let seen: Arc<Recorder> = Arc::default();
        let sabotage: Arc<Sabotage> = Arc::default();
        let space = Arc::new(DmaSpace::new(Arc::default(), Some(seen.clone())));
        let guest = DmaSpace::new(Arc::default(), None);
        map(&space, &file);
        map(&guest, &file);
        let net = NetFunction::new(
            config,
            Arc::clone(&space),
            seen.clone(),
            seen.clone(),
            seen.clone(),
            seen.clone(),
            Arc::clone(&sabotage),
        )
        .unwrap();
        net.bus_master(true);
        Self {
            net,
            space,
            guest,
            seen,
            sabotage,
            file,
        }
    }

    /// Function `index` of this NIC, for the same guest.
    pub(crate) fn sibling(&self, index: u16, addresses: &Arc<Addresses>) -> Self {
        let file = self.file.try_clone().unwrap();
        Self::function(file, index, Arc::clone(addresses))
    }

    /// Another function for the same guest, on another NIC.
    pub(crate) fn twin(&self) -> Self {
        Self::on(self.file.try_clone().unwrap())
    }

    /// A rig whose driver is up.
    pub(crate) fn started(features: u64) -> Self {
        let rig = Self::new();
        rig.start(features);
        rig
    }

    pub(crate) fn get<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut data = [0; N];
        self.net.bar_read(BAR, offset, &mut data);
        data
    }

    pub(crate) fn status(&self) -> u8 {
        self.get::<1>(COMMON + 0x14)[0]
    }

    pub(crate) fn peek(&self, iova: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.guest.read(iova, &mut data).unwrap();
        data
    }

    /// Makes a chain of (address, length, device writes) available, its head at `head`.
    pub(crate) fn give(&self, queue: u16, head: u16, parts: &[(u64, u32, bool)]) {
        for (i, (addr, len, write)) in parts.iter().enumerate() {
            let at = head + i as u16;
            let next = if i + 1 < parts.len() { NEXT } else { 0 };
            let write = if *write { WRITE } else { 0 };
            self.desc_at(desc(queue), at, *addr, *len, next | write, at + 1);
        }
        self.offer(queue, head);
    }

    /// What the function returned: (id, length) each.
    pub(crate) fn returned(&self, queue: u16) -> Vec<(u32, u32)> {
        let index = self.peek16(used(queue) + 2);
        (0..index)
            .map(|i| {
                let raw = self.peek(used(queue) + 4 + 8 * u64::from(i % RING), 8);
                let word = |at: usize| u32::from_le_bytes(raw[at..at + 4].try_into().unwrap());
                (word(0), word(4))
            })
            .collect()
    }

    pub(crate) fn stats(&self) -> serde_json::Value {
        use dlr_core::DataFunction;
        serde_json::from_str(&self.net.stats_json()).unwrap()
    }
}

impl Guest for Rig {
    fn put(&self, offset: u64, data: &[u8]) {
        self.net.bar_write(BAR, offset, data);
    }

    fn poke(&self, iova: u64, data: &[u8]) {
        self.guest.write(iova, data).unwrap();
    }

    fn peek16(&self, iova: u64) -> u16 {
        u16::from_le_bytes(self.peek(iova, 2).try_into().unwrap())
    }
}

/// Waits for the engine.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "never happened: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A frame for the guest with a recognisable payload.
pub(crate) fn frame(len: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|i| (i * 31 + len) as u8).collect();
    frame[..6].copy_from_slice(&MAC);
    frame
}

/// A UDP datagram over IPv4 for the function, whose checksum is right if `good`.
pub(crate) fn datagram(good: bool) -> Vec<u8> {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2([4; 6], MAC)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(7, 9)
        .write(&mut frame, &[1, 2, 3, 4])
        .unwrap();
    if !good {
        *frame.last_mut().unwrap() = 5;
    }
    frame
}

/// All that the device offers but event indices, which most tests do without.
pub(crate) const PLAIN: u64 = FEATURES & !F_EVENT_IDX;

#[test]
fn the_guest_finds_the_registers_where_they_are() {
    assert_eq!((guest::BAR, guest::QUEUES), (BAR, QUEUES as u16));
    let rig = Rig::started(PLAIN);
    assert_eq!(rig.status(), 0x0f);
}
