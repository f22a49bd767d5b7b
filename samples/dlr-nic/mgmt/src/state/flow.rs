// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The flow table: device state that grows stale with traffic.
//!
//! A direct-mapped cache of flows, 32 bytes each, keyed by a hash of the 5-tuple: a new flow
//! takes the slot of an old one. Blocks of [`BLOCK`] bytes are the unit of saving.

use dlr_core::FlowSink;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};

use crate::kick::Kick;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 4096;
/// Bytes of a flow's entry: hash, packets, bytes, direction bits; 8 bytes each.
const ENTRY: usize = 32;
/// Largest table, bytes.
pub(crate) const MAX_TABLE: u64 = 64 << 20;

/// A run of consecutive blocks and their content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Number of the first block.
    pub(crate) first: u32,
    /// `count * BLOCK` bytes.
    pub(crate) data: Vec<u8>,
}

#[derive(Debug)]
struct Inner {
    table: Vec<u8>,
    /// A save session is open.
    tracking: bool,
    /// Blocks below this have been taken as part of the initial image.
    taken: usize,
    /// Blocks below `taken` that changed since they were taken last.
    changed: std::collections::BTreeSet<u32>,
    packets: u64,
    /// Entries in use.
    used: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FlowTable {
    inner: Mutex<Inner>,
    blocks: usize,
    kick: Arc<Kick>,
}

impl FlowTable {
    /// A table of `bytes`, rounded up to blocks and capped at [`MAX_TABLE`].
    pub(crate) fn new(bytes: u64, kick: Arc<Kick>) -> Self {
        let blocks = (bytes.min(MAX_TABLE) as usize).div_ceil(BLOCK);
        Self {
            inner: Mutex::new(Inner {
                table: vec![0; blocks * BLOCK],
                tracking: false,
                taken: 0,
                changed: Default::default(),
                packets: 0,
                used: 0,
            }),
            blocks,
            kick,
        }
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> u32 {
        self.blocks as u32
    }

    /// Packets seen and entries in use, for the control socket.
    pub(crate) fn stats(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.packets, inner.used)
    }

    /// A save session begins: everything is to be taken.
    pub(crate) fn begin(&self) {
        let mut inner = self.inner.lock();
        inner.tracking = true;
        inner.taken = 0;
        inner.changed.clear();
    }

    /// The save session is over.
    pub(crate) fn end(&self) {
        let mut inner = self.inner.lock();
        inner.tracking = false;
        inner.taken = 0;
        inner.changed.clear();
    }

    /// As after reset. With a save session open everything is to be taken anew.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.lock();
        inner.table = vec![0; self.blocks * BLOCK];
        inner.used = 0;
        inner.taken = 0;
        inner.changed.clear();
    }

    /// Blocks of the initial image not taken yet, and changed blocks.
    pub(crate) fn remaining(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (self.blocks - inner.taken, inner.changed.len())
    }

    /// The next at most `max` blocks of the initial image.
    pub(crate) fn take_initial(&self, max: usize) -> Option<Run> {
        let mut inner = self.inner.lock();
        let count = max.min(self.blocks - inner.taken);
        if count == 0 {
            return None;
        }
        let first = inner.taken;
        inner.taken += count;
        Some(inner.run(first, count))
    }

    /// The lowest run of changed blocks, at most `max`.
    pub(crate) fn take_changed(&self, max: usize) -> Option<Run> {
        let mut inner = self.inner.lock();
        let first = inner.changed.pop_first()?;
        let mut count = 1;
        while count < max && inner.changed.remove(&(first + count as u32)) {
            count += 1;
        }
        Some(inner.run(first as usize, count))
    }

    /// Replaces the whole table by `blocks`; what is not in it becomes empty.
    pub(crate) fn install(&self, blocks: &BTreeMap<u32, Box<[u8; BLOCK]>>) {
        self.clear();
        let mut inner = self.inner.lock();
        for (&number, data) in blocks {
            let at = number as usize * BLOCK;
            if let Some(slot) = inner.table.get_mut(at..at + BLOCK) {
                slot.copy_from_slice(&data[..]);
            }
        }
        let used = inner.table.chunks_exact(ENTRY).filter(|e| word(e, 0) != 0);
        inner.used = used.count() as u64;
    }

    /// The whole table.
    #[cfg(test)]
    pub(crate) fn image(&self) -> Vec<u8> {
        self.inner.lock().table.clone()
    }

    fn count(&self, hash: u64, tx: bool, len: u64) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        inner.packets += 1;
        let entries = (self.blocks * BLOCK / ENTRY) as u64;
        if entries == 0 {
            return;
        }
        let slot = (hash % entries) as usize;
        let Some(entry) = inner.table.get_mut(slot * ENTRY..(slot + 1) * ENTRY) else {
            return;
        };
        let before = word(entry, 0);
        if before != hash {
            entry.fill(0);
            set_word(entry, 0, hash);
        }
        let (packets, bytes) = (word(entry, 1).wrapping_add(1), word(entry, 2));
        set_word(entry, 1, packets);
        set_word(entry, 2, bytes.wrapping_add(len));
        let seen = word(entry, 3) | 1 << u32::from(tx);
        set_word(entry, 3, seen);
        inner.used += u64::from(before == 0);
        let block = slot * ENTRY / BLOCK;
        if inner.tracking && block < inner.taken && inner.changed.insert(block as u32) {
            drop(guard);
            self.kick.kick();
        }
    }
}

impl Inner {
    fn run(&self, first: usize, count: usize) -> Run {
        let bytes = first * BLOCK..(first + count) * BLOCK;
        Run {
            first: first as u32,
            data: self.table.get(bytes).unwrap_or_default().to_vec(),
        }
    }
}

impl FlowSink for FlowTable {
    fn packet(&self, tx: bool, frame: &[u8]) {
        self.count(flow_hash(frame), tx, frame.len() as u64);
    }
}

fn word(entry: &[u8], n: usize) -> u64 {
    entry
        .get(n * 8..n * 8 + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

fn set_word(entry: &mut [u8], n: usize, value: u64) {
    if let Some(b) = entry.get_mut(n * 8..n * 8 + 8) {
        b.copy_from_slice(&value.to_le_bytes());
    }
}

/// Hash of the 5-tuple, the same in both directions; of the addresses where there is none.
/// Never 0, which marks an empty entry.
fn flow_hash(frame: &[u8]) -> u64 {
    let at = |from: usize, len: usize| frame.get(from..from + len).unwrap_or_default();
    let (a, b, proto) = match at(12, 2) {
        [0x08, 0x00] => {
            let l4 = 14 + usize::from(frame.get(14).copied().unwrap_or(5) & 15) * 4;
            let a = [at(26, 4), at(l4, 2)].concat();
            let b = [at(30, 4), at(l4 + 2, 2)].concat();
            (a, b, at(23, 1))
        }
        [0x86, 0xdd] => {
            let a = [at(22, 16), at(54, 2)].concat();
            let b = [at(38, 16), at(56, 2)].concat();
            (a, b, at(20, 1))
        }
        other => (at(0, 6).to_vec(), at(6, 6).to_vec(), other),
    };
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    // FNV-1a: stable across builds, since the hash travels with the state.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for &byte in low.iter().chain(&high).chain(proto) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(src: u16, dst: u16) -> Vec<u8> {
        let mut f = vec![0; 60];
        f[12..14].copy_from_slice(&[8, 0]);
        f[14] = 0x45;
        f[23] = 17;
        f[29] = 1;
        f[33] = 2;
        f[34..36].copy_from_slice(&src.to_be_bytes());
        f[36..38].copy_from_slice(&dst.to_be_bytes());
        f
    }

    fn reverse(f: &[u8]) -> Vec<u8> {
        let mut r = f.to_vec();
        r[26..30].copy_from_slice(&f[30..34]);
        r[30..34].copy_from_slice(&f[26..30]);
        r[34..36].copy_from_slice(&f[36..38]);
        r[36..38].copy_from_slice(&f[34..36]);
        r
    }

    #[test]
    fn both_directions_share_an_entry() {
        let t = FlowTable::new(8192, Arc::default());
        t.packet(true, &udp(1, 2));
        t.packet(false, &reverse(&udp(1, 2)));
        assert_eq!(t.stats(), (2, 1));
        t.packet(true, &udp(1, 3));
        t.packet(true, &[]);
        assert_eq!(t.stats(), (4, 3));
    }

    #[test]
    fn changes_are_tracked_only_behind_the_cursor() {
        let t = FlowTable::new(4 * BLOCK as u64, Arc::default());
        t.begin();
        for p in 0..2000 {
            t.packet(true, &udp(p, 7));
        }
        assert_eq!(t.remaining(), (4, 0), "nothing was taken yet");
        assert_eq!(t.take_initial(3).map(|r| r.data.len()), Some(3 * BLOCK));
        for p in 0..2000 {
            t.packet(true, &udp(p, 7));
        }
        assert_eq!(t.remaining(), (1, 3));
        assert_eq!(
            t.take_changed(2).map(|r| (r.first, r.data.len())),
            Some((0, 2 * BLOCK))
        );
        assert_eq!(t.take_changed(2).map(|r| r.first), Some(2));
        assert_eq!(t.take_changed(2), None);
        t.clear();
        assert_eq!(t.remaining(), (4, 0));
    }

    #[test]
    fn no_table_is_possible() {
        let t = FlowTable::new(0, Arc::default());
        t.begin();
        t.packet(true, &udp(1, 2));
        assert_eq!((t.remaining(), t.take_initial(9)), ((0, 0), None));
    }
}
