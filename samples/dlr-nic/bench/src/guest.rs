// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The data function and its driver: a receive queue of chains of two buffers, one for the header and
//! a page for the frame.

use std::sync::Arc;

use anyhow::{ensure, Result};
use dlr_core::{DataFunction, DmaMemory, Sabotage, WireTx};
use dlr_net::{Addresses, NetConfig, NetFunction, QueueSize};
use dlr_pci::{DmaSpace, PciFunction};

use crate::{
    host::Host,
    irq::NoInterrupt,
    memory::{map, memory},
};

pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// Frames between two refills: a chain of two buffers each, in a queue of 256.
pub(crate) const BATCH: u64 = 128;

/// Where the guest's memory lies for the function: a page each of descriptors and rings, one with the
/// headers, then the pages for frames.
const BASE: u64 = 1 << 20;
const DESCRIPTORS: u64 = BASE;
const AVAILABLE: u64 = BASE + 0x1000;
const USED: u64 = BASE + 0x2000;
const HEADERS: u64 = BASE + 0x3000;
const PAGES: u64 = BASE + 0x4000;
const HEADER: u64 = 12;
const PAGE: u64 = 4096;
/// Odd, so that it visits each page of a power of two.
const STRIDE: u64 = 0x9e37;

/// The common configuration of virtio, at the start of BAR 0.
const FEATURE_SELECT: u64 = 0x08;
const FEATURES: u64 = 0x0c;
const STATUS: u64 = 0x14;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_DESCRIPTORS: u64 = 0x20;
const QUEUE_AVAILABLE: u64 = 0x28;
const QUEUE_USED: u64 = 0x30;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
/// `VIRTIO_F_VERSION_1`, in the second word.
const VERSION_1: u32 = 1;

struct NoWire;

impl WireTx for NoWire {
    fn send(&self, _frame: &[u8]) {}
}

/// A data function with a driver.
pub(crate) struct Guest {
    pub(crate) net: Arc<NetFunction>,
    /// The memory as the guest's processor sees it: no log hears of its writes.
    memory: DmaSpace,
    bytes: u64,
    available: u16,
    /// Number of the next frame of the pass, of so many.
    next: u64,
    frames: u64,
}

impl Guest {
    /// A driver that is up, with memory for so many frames.
    pub(crate) fn new(host: &Host, frames: u64) -> Result<Self> {
        let bytes = PAGES - BASE + frames * PAGE;
        let file = memory(bytes)?;
        let space = Arc::new(DmaSpace::new(Arc::default(), Some(host.sink()?)));
        let memory = DmaSpace::new(Arc::default(), None);
        map(&space, BASE, bytes, &file)?;
        map(&memory, BASE, bytes, &file)?;
        let config = NetConfig {
            index: 0,
            addresses: Addresses::new([MAC]),
            queue_size: QueueSize::default(),
        };
        let net = NetFunction::new(
            config,
            space,
            Arc::new(NoInterrupt),
            Arc::new(NoWire),
            host.flow()?,
            host.events()?,
            Arc::<Sabotage>::default(),
        )?;
        net.bus_master(true);
        let data: Arc<dyn DataFunction> = net.clone();
        host.attach(&data);
        let mut guest = Self {
            net,
            memory,
            bytes,
            available: 0,
            next: 0,
            frames,
        };
        guest.start()?;
        Ok(guest)
    }

    /// The range that a log has to track.
    pub(crate) fn range(&self) -> (u64, u64) {
        (BASE, self.bytes)
    }

    fn put(&self, register: u64, data: &[u8]) {
        self.net.bar_write(0, register, data);
    }

    fn start(&mut self) -> Result<()> {
        self.put(STATUS, &[0]);
        self.put(STATUS, &[3]);
        self.put(FEATURE_SELECT, &1u32.to_le_bytes());
        self.put(FEATURES, &VERSION_1.to_le_bytes());
        self.put(STATUS, &[0x0b]);
        self.put(QUEUE_SELECT, &0u16.to_le_bytes());
        self.put(QUEUE_SIZE, &(2 * BATCH as u16).to_le_bytes());
        for (register, address) in [
            (QUEUE_DESCRIPTORS, DESCRIPTORS),
            (QUEUE_AVAILABLE, AVAILABLE),
            (QUEUE_USED, USED),
        ] {
            self.put(register, &(address as u32).to_le_bytes());
            self.put(register + 4, &((address >> 32) as u32).to_le_bytes());
        }
        self.put(QUEUE_ENABLE, &1u16.to_le_bytes());
        self.put(STATUS, &[0x0f]);
        // As a driver that polls: no interrupts.
        self.poke(AVAILABLE, &1u16.to_le_bytes())?;
        let mut status = [0];
        self.net.bar_read(0, STATUS, &mut status);
        ensure!(status == [0x0f], "the function is not up: {status:?}");
        Ok(())
    }

    fn poke(&self, at: u64, data: &[u8]) -> Result<()> {
        Ok(self.memory.write(at, data)?)
    }

    /// The next frame goes into the first page again.
    pub(crate) fn start_over(&mut self) {
        self.next = 0;
    }

    /// The page of the next frame. Each page has its turn in a pass, and hardly ever follows its
    /// neighbour: the log has no runs.
    fn page(&mut self) -> u64 {
        let number = self.next.wrapping_mul(STRIDE) % self.frames;
        self.next += 1;
        PAGES + number * PAGE
    }

    /// Gives a batch of buffers.
    pub(crate) fn offer(&mut self) {
        let mut table = Vec::with_capacity(32 * BATCH as usize);
        let mut heads = Vec::with_capacity(2 * BATCH as usize);
        for n in 0..BATCH as u16 {
            let header = HEADERS + u64::from(n) * HEADER;
            let page = self.page();
            for (address, length, flags, next) in [
                (header, HEADER as u32, WRITE | NEXT, 2 * n + 1),
                (page, PAGE as u32, WRITE, 0),
            ] {
                table.extend(address.to_le_bytes());
                table.extend(length.to_le_bytes());
                table.extend(flags.to_le_bytes());
                table.extend(next.to_le_bytes());
            }
            heads.extend((2 * n).to_le_bytes());
        }
        let first = u64::from(self.available) % (2 * BATCH);
        self.available = self.available.wrapping_add(BATCH as u16);
        // All of it lies in memory that was mapped: a write cannot fail.
        for (at, data) in [
            (DESCRIPTORS, &table[..]),
            (AVAILABLE + 4 + 2 * first, &heads),
            (AVAILABLE + 2, &self.available.to_le_bytes()),
        ] {
            let _ = self.poke(at, data);
        }
    }
}
