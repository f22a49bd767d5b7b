// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A driver in the guest of a data function: where its rings lie, how it sets the device up, and how
//! it makes buffers available. The tests of this crate and the fuzz targets, which take this file by
//! its path, share it.

use std::fs::File;

use rustix::fs::{fcntl_add_seals, memfd_create, MemfdFlags, SealFlags};

/// IOVA of the guest's memory.
pub(crate) const BASE: u64 = 0x10_0000;
/// IOVA of the first byte after the rings, free for buffers.
pub(crate) const BUFFERS: u64 = BASE + 0x1_0000;
/// Number of entries of each queue.
pub(crate) const RING: u16 = 16;
/// Number of queues: receive, transmit, control.
pub(crate) const QUEUES: u16 = 3;
/// The only BAR, and the pages in it of the common configuration and of the doorbells, as the
/// function's capabilities say.
pub(crate) const BAR: u8 = 0;
const COMMON: u64 = 0;
const NOTIFY: u64 = 0x3000;

/// Returns the IOVA of the descriptor table of a queue.
pub(crate) fn desc(queue: u16) -> u64 {
    BASE + u64::from(queue) * 0x3000
}

/// Returns the IOVA of the available ring of a queue.
pub(crate) fn avail(queue: u16) -> u64 {
    desc(queue) + 0x1000
}

/// Returns the IOVA of the used ring of a queue.
pub(crate) fn used(queue: u16) -> u64 {
    desc(queue) + 0x2000
}

/// Creates a sealed memory file of `len` bytes.
pub(crate) fn memory_file(len: u64) -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(memfd_create("guest", flags).unwrap());
    file.set_len(len).unwrap();
    fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    file
}

/// A guest's driver. The required methods reach the function and the guest's memory.
pub(crate) trait Guest {
    /// Writes to BAR [`BAR`].
    fn put(&self, offset: u64, data: &[u8]);

    /// Writes to the guest's memory as its processor does.
    fn poke(&self, iova: u64, data: &[u8]);

    /// Reads two bytes of the guest's memory.
    fn peek16(&self, iova: u64) -> u16;

    /// Sets the device up, with these features.
    fn start(&self, features: u64) {
        for status in [0, 3] {
            self.put(COMMON + 0x14, &[status]);
        }
        for half in 0..2u32 {
            self.put(COMMON + 0x08, &half.to_le_bytes());
            let word = (features >> (32 * half)) as u32;
            self.put(COMMON + 0x0c, &word.to_le_bytes());
        }
        self.put(COMMON + 0x14, &[0x0b]);
        self.put(COMMON + 0x10, &0u16.to_le_bytes());
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
                let (low, high) = (address as u32, (address >> 32) as u32);
                self.put(COMMON + register, &low.to_le_bytes());
                self.put(COMMON + register + 4, &high.to_le_bytes());
            }
            self.put(COMMON + 0x1c, &1u16.to_le_bytes());
        }
        self.put(COMMON + 0x14, &[0x0f]);
    }

    /// Writes descriptor `index` of the table at `table`.
    fn desc_at(&self, table: u64, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        let mut raw = addr.to_le_bytes().to_vec();
        raw.extend_from_slice(&len.to_le_bytes());
        raw.extend_from_slice(&flags.to_le_bytes());
        raw.extend_from_slice(&next.to_le_bytes());
        self.poke(table + 16 * u64::from(index), &raw);
    }

    /// Makes the chain that begins at descriptor `head` available.
    fn offer(&self, queue: u16, head: u16) {
        let index = self.peek16(avail(queue) + 2);
        let slot = avail(queue) + 4 + 2 * u64::from(index % RING);
        self.poke(slot, &head.to_le_bytes());
        self.poke(avail(queue) + 2, &index.wrapping_add(1).to_le_bytes());
    }

    /// Rings the doorbell of a queue.
    fn ring(&self, queue: u16) {
        self.put(NOTIFY + 4 * u64::from(queue), &queue.to_le_bytes());
    }
}
