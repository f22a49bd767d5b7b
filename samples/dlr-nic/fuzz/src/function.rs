// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A data function, its memory and its surroundings, with a driver that is well-behaved.

use std::{
    fs::File,
    os::fd::OwnedFd,
    sync::{
        atomic::{AtomicUsize, Ordering},
        Arc,
    },
    thread,
    time::{Duration, Instant},
};

use dlr_core::{Delivery, DmaMemory, FlowSink, FunctionEvents, Sabotage, WireRx, WireTx};
use dlr_net::{pci_config, Addresses, NetConfig, NetFunction};
use dlr_pci::{FileCache, PciFunction, Port, ResetKind};
use rustix::fs::{memfd_create, MemfdFlags, SealFlags};
use vm_memory::Permissions;

/// Where the guest's memory lies for the function, and how long it is.
pub(crate) const BASE: u64 = 0x10_0000;
pub(crate) const SIZE: u64 = 0x4_0000;
/// Behind the rings.
pub(crate) const BUFFERS: u64 = BASE + 0x1_0000;
/// Entries of each queue.
pub(crate) const RING: u16 = 16;
/// Receive, transmit, control.
pub(crate) const QUEUES: u16 = 3;

/// The only BAR, and its pages: common configuration and doorbells (the function's capabilities say so).
pub(crate) const BAR: u8 = 0;
const COMMON: u64 = 0;
const NOTIFY: u64 = 0x3000;

/// All that is offered but event indices, by their bits (virtio 1.3, 5.1.3 and 6).
pub(crate) const FEATURES: u64 = {
    let bits = [0, 1, 2, 5, 15, 16, 17, 18, 23, 28, 32, 33];
    let (mut features, mut n) = (0, 0);
    while n < bits.len() {
        features |= 1 << bits[n];
        n += 1;
    }
    features
};

const ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 9];

#[derive(Default)]
pub(crate) struct Outside {
    sent: AtomicUsize,
}

impl WireTx for Outside {
    fn send(&self, _frame: &[u8]) {
        self.sent.fetch_add(1, Ordering::SeqCst);
    }
}

impl FlowSink for Outside {
    fn packet(&self, _tx: bool, _frame: &[u8]) {}
}

impl FunctionEvents for Outside {
    fn function_reset(&self) {}

    fn reconfigured(&self) {}
}

/// A sealed memory file of this length.
pub(crate) fn memory_file(len: u64) -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(memfd_create("fuzz", flags).unwrap());
    file.set_len(len).unwrap();
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    file
}

/// See the module.
pub(crate) struct Function {
    pub(crate) net: Arc<NetFunction>,
    pub(crate) port: Arc<Port>,
    outside: Arc<Outside>,
    file: File,
}

impl Function {
    /// In power-on state, with memory.
    pub(crate) fn new() -> Self {
        Self::on(memory_file(SIZE))
    }

    /// The same guest's memory, another function.
    pub(crate) fn twin(&self) -> Self {
        Self::on(self.file.try_clone().unwrap())
    }

    fn on(file: File) -> Self {
        let files = Arc::new(FileCache::default());
        let port = Port::new("fuzz", pci_config(1, 0), files, None);
        let outside: Arc<Outside> = Arc::default();
        let net = NetFunction::new(
            NetConfig {
                index: 0,
                addresses: Addresses::new([ADDRESS]),
            },
            port.memory(),
            port.interrupt(),
            outside.clone(),
            outside.clone(),
            outside.clone(),
            Arc::<Sabotage>::default(),
        )
        .unwrap();
        let function = Self {
            net,
            port,
            outside,
            file,
        };
        function.map();
        function.net.bus_master(true);
        function
    }

    /// Maps the guest's memory.
    pub(crate) fn map(&self) {
        let fd: OwnedFd = self.file.try_clone().unwrap().into();
        let perm = Permissions::ReadWrite;
        self.port.memory().map(BASE, SIZE, fd, 0, perm).unwrap();
    }

    /// Writes into the guest's memory as its processor does; what is not mapped is left alone.
    pub(crate) fn poke(&self, at: u64, data: &[u8]) {
        // Not mapped is no error of the function.
        let _ = self.port.memory().write(at, data);
    }

    pub(crate) fn put(&self, offset: u64, data: &[u8]) {
        self.net.bar_write(BAR, offset, data);
    }

    fn get16(&self, at: u64) -> u16 {
        let mut bytes = [0; 2];
        let _ = self.port.memory().read(at, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    /// The driver sets its device up.
    pub(crate) fn start(&self, features: u64) {
        for status in [0, 3] {
            self.put(COMMON + 0x14, &[status]);
        }
        for half in 0..2u32 {
            self.put(COMMON + 0x08, &half.to_le_bytes());
            self.put(
                COMMON + 0x0c,
                &((features >> (32 * half)) as u32).to_le_bytes(),
            );
        }
        self.put(COMMON + 0x14, &[0x0b]);
        for queue in 0..QUEUES {
            self.put(COMMON + 0x16, &queue.to_le_bytes());
            self.put(COMMON + 0x18, &RING.to_le_bytes());
            self.put(COMMON + 0x1a, &(queue + 1).to_le_bytes());
            let areas = [
                (0x20, desc(queue)),
                (0x28, avail(queue)),
                (0x30, used(queue)),
            ];
            for (register, address) in areas {
                self.put(COMMON + register, &(address as u32).to_le_bytes());
                self.put(COMMON + register + 4, &0u32.to_le_bytes());
            }
            self.put(COMMON + 0x1c, &1u16.to_le_bytes());
        }
        self.put(COMMON + 0x14, &[0x0f]);
    }

    /// Makes `head` available.
    pub(crate) fn offer(&self, queue: u16, head: u16) {
        let index = self.get16(avail(queue) + 2);
        let slot = avail(queue) + 4 + 2 * u64::from(index % RING);
        self.poke(slot, &head.to_le_bytes());
        self.poke(avail(queue) + 2, &index.wrapping_add(1).to_le_bytes());
    }

    /// Writes a descriptor into the table of `queue`.
    pub(crate) fn describe(
        &self,
        queue: u16,
        index: u16,
        addr: u64,
        len: u32,
        flags: u16,
        next: u16,
    ) {
        let mut raw = addr.to_le_bytes().to_vec();
        raw.extend_from_slice(&len.to_le_bytes());
        raw.extend_from_slice(&flags.to_le_bytes());
        raw.extend_from_slice(&next.to_le_bytes());
        self.poke(desc(queue) + 16 * u64::from(index % RING), &raw);
    }

    pub(crate) fn ring(&self, queue: u16) {
        self.put(NOTIFY + 4 * u64::from(queue), &queue.to_le_bytes());
    }

    /// Whatever has happened: after a reset a driver can use the function, and its thread lives.
    pub(crate) fn has_to_work(&self) {
        self.port.memory().unmap_all();
        self.map();
        self.net.set_link(true);
        PciFunction::reset(&*self.net, ResetKind::FunctionLevel);
        self.net.bus_master(true);
        self.poke(BASE, &vec![0; (BUFFERS - BASE) as usize]);
        self.start(FEATURES);
        self.describe(0, 0, BUFFERS, 2048, 2, 0);
        self.offer(0, 0);
        let mut frame = vec![0; 60];
        frame[..6].copy_from_slice(&ADDRESS);
        assert_eq!(self.net.deliver(&frame), Delivery::Accepted, "receive");
        let before = self.outside.sent.load(Ordering::SeqCst);
        self.describe(1, 0, BUFFERS + 4096, 72, 0, 0);
        self.poke(BUFFERS + 4096, &[0; 72]);
        self.offer(1, 0);
        self.ring(1);
        let end = Instant::now() + Duration::from_secs(20);
        while self.outside.sent.load(Ordering::SeqCst) == before {
            assert!(Instant::now() < end, "the function's thread does not send");
            thread::yield_now();
        }
    }
}

pub(crate) fn desc(queue: u16) -> u64 {
    BASE + u64::from(queue) * 0x3000
}

pub(crate) fn avail(queue: u16) -> u64 {
    desc(queue) + 0x1000
}

pub(crate) fn used(queue: u16) -> u64 {
    desc(queue) + 0x2000
}
