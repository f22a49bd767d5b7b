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
use dlr_net::{pci_config, Addresses, NetConfig, NetFunction, QueueSize};
use dlr_pci::{FileCache, PciFunction, Port, ResetKind};
use vm_memory::Permissions;

use crate::guest::{desc, memory_file, Guest, BAR, BASE, BUFFERS, RING};

/// Length of the guest's memory, from [`BASE`].
pub(crate) const SIZE: u64 = 0x4_0000;

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

/// A data function with a driver.
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
                queue_size: QueueSize::default(),
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
        self.desc_at(desc(queue), index % RING, addr, len, flags, next);
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

impl Guest for Function {
    fn put(&self, offset: u64, data: &[u8]) {
        self.net.bar_write(BAR, offset, data);
    }

    /// Leaves memory alone that is not mapped: that is no error of the function.
    fn poke(&self, iova: u64, data: &[u8]) {
        let _ = self.port.memory().write(iova, data);
    }

    fn peek16(&self, iova: u64) -> u16 {
        let mut bytes = [0; 2];
        let _ = self.port.memory().read(iova, &mut bytes);
        u16::from_le_bytes(bytes)
    }
}
