// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use crate::{
    mirror::memory::{HugePages, Memory, HUGE_PAGE},
    range::IovaRange,
};

const BASE: u64 = 1 << 30;
const RINGS: Rings = Rings {
    size: 4,
    desc: BASE,
    avail: BASE + 0x1000,
    used: BASE + 0x2000,
};

fn memory() -> Memory {
    let range = IovaRange {
        iova: BASE,
        length: HUGE_PAGE,
    };
    Memory::new(&[range], HugePages::Never).expect("memory")
}

/// IOVA, length, flags.
type Desc = (u64, u32, u16);

/// The device's half, as simple as can be.
struct Device {
    seen: u16,
    used: u16,
}

impl Device {
    /// The next chain: head and (iova, len, flags) of its descriptors.
    fn pop(&mut self, m: &GuestMemory) -> Option<(u16, Vec<Desc>)> {
        let index: u16 = m.read_obj(GuestAddress(RINGS.avail + 2)).expect("index");
        if index == self.seen {
            return None;
        }
        let slot = u64::from(self.seen % RINGS.size);
        let head: u16 = m
            .read_obj(GuestAddress(RINGS.avail + 4 + 2 * slot))
            .expect("head");
        self.seen = self.seen.wrapping_add(1);
        let (mut number, mut chain) = (head, Vec::new());
        loop {
            let at = RINGS.desc + 16 * u64::from(number);
            let iova: u64 = m.read_obj(GuestAddress(at)).expect("iova");
            let len: u32 = m.read_obj(GuestAddress(at + 8)).expect("len");
            let flags: u16 = m.read_obj(GuestAddress(at + 12)).expect("flags");
            chain.push((iova, len, flags));
            if flags & DESC_F_NEXT == 0 {
                return Some((head, chain));
            }
            number = m.read_obj(GuestAddress(at + 14)).expect("next");
        }
    }

    fn push(&mut self, m: &GuestMemory, head: u32, written: u32) {
        let at = RINGS.used + 4 + 8 * u64::from(self.used % RINGS.size);
        m.write_obj(head, GuestAddress(at)).expect("id");
        m.write_obj(written, GuestAddress(at + 4)).expect("len");
        self.used = self.used.wrapping_add(1);
        m.write_obj(self.used, GuestAddress(RINGS.used + 2))
            .expect("index");
    }
}

fn buffer(page: u64, len: u32) -> Buffer {
    Buffer {
        iova: BASE + 0x10_0000 + page * 4096,
        len,
    }
}

#[test]
fn chains_go_round_and_round() {
    let memory = memory();
    let m = memory.guest();
    let mut queue = Queue::new(m, RINGS, false).expect("queue");
    let mut device = Device { seen: 0, used: 0 };
    // More than 65536 chains, so that the indices wrap.
    for round in 0..40_000u64 {
        let chain = [buffer(round % 7, 100), buffer(round % 5, 200)];
        assert!(queue.add(m, &chain, round % 2 == 0).expect("added"));
        assert!(queue.add(m, &[buffer(9, 1)], true).expect("added"));
        queue.publish(m).expect("published");
        assert_eq!((queue.free(), queue.pending()), (1, 2));
        let (first, descs) = device.pop(m).expect("chain");
        let flags = if round % 2 == 0 { DESC_F_WRITE } else { 0 };
        let expected = [
            (chain[0].iova, 100, flags | DESC_F_NEXT),
            (chain[1].iova, 200, flags),
        ];
        assert_eq!(descs, expected);
        let (second, _) = device.pop(m).expect("chain");
        assert!(device.pop(m).is_none());
        // Out of order is allowed.
        device.push(m, second.into(), 1);
        device.push(m, first.into(), 300);
        let used = queue.take(m).expect("used").expect("one");
        assert_eq!((used.chain.len(), used.written), (1, 1));
        let used = queue.take(m).expect("used").expect("one");
        assert_eq!((used.chain, used.written), (chain.to_vec(), 300));
        assert_eq!(queue.take(m).expect("used"), None);
    }
}

#[test]
fn a_full_queue_takes_no_more() {
    let memory = memory();
    let m = memory.guest();
    let mut queue = Queue::new(m, RINGS, false).expect("queue");
    assert!(queue.add(m, &[buffer(0, 1); 3], true).expect("added"));
    assert!(!queue.add(m, &[buffer(0, 1); 2], true).expect("no room"));
    assert!(queue.add(m, &[buffer(0, 1)], true).expect("added"));
    assert!(!queue.add(m, &[], true).expect("nothing"));
}

#[test]
fn nonsense_from_the_device_is_an_error() {
    let memory = memory();
    let m = memory.guest();
    let mut queue = Queue::new(m, RINGS, false).expect("queue");
    assert!(queue.add(m, &[buffer(0, 1)], true).expect("added"));
    let mut device = Device { seen: 0, used: 0 };
    device.push(m, 7, 0);
    assert!(queue.take(m).is_err());
    m.write_obj(100u16, GuestAddress(RINGS.used + 2))
        .expect("index");
    assert!(queue
        .take(m)
        .expect_err("jump")
        .to_string()
        .contains("jumped"));
}

#[test]
fn it_goes_on_in_copied_memory() {
    let (source, shadow) = (memory(), memory());
    let mut queue = Queue::new(source.guest(), RINGS, false).expect("queue");
    queue
        .add(source.guest(), &[buffer(0, 64)], true)
        .expect("added");
    queue.publish(source.guest()).expect("published");
    shadow
        .copy_from(&source, 0, &source.take_cpu_dirty(0))
        .expect("copied");
    let mut device = Device { seen: 0, used: 0 };
    let (head, _) = device.pop(shadow.guest()).expect("chain");
    device.push(shadow.guest(), head.into(), 64);
    assert_eq!(queue.take(source.guest()).expect("nothing there"), None);
    assert!(queue.take(shadow.guest()).expect("used").is_some());
}

#[test]
fn the_doorbell_is_rung_where_the_device_wants_it() {
    let memory = memory();
    let m = memory.guest();
    let event = GuestAddress(RINGS.used + 4 + 8 * u64::from(RINGS.size));
    let mut queue = Queue::new(m, RINGS, true).expect("queue");
    let flags: u16 = m.read_obj(GuestAddress(RINGS.avail)).expect("flags");
    assert_eq!(flags, 0, "EVENT_IDX and flags");
    let mut add = |count: usize, wanted: u16| {
        m.write_obj(wanted, event).expect("avail_event");
        for _ in 0..count {
            assert!(queue.add(m, &[buffer(0, 1)], true).expect("added"));
        }
        queue.publish(m).expect("published")
    };
    // Index 0 is the first; then two at once, of which the second is wanted; then one too early.
    assert!(add(1, 0));
    assert!(add(2, 2));
    assert!(!add(1, 4));
    assert!(!add(0, 3));
}

#[test]
fn a_chain_is_read_first_and_written_then() {
    let memory = memory();
    let m = memory.guest();
    let mut queue = Queue::new(m, RINGS, false).expect("queue");
    let chain = [buffer(0, 2), buffer(1, 1), buffer(2, 1)];
    assert!(queue.add_mixed(m, &chain, 2).expect("added"));
    assert!(queue.publish(m).expect("published"));
    let (_, descs) = Device { seen: 0, used: 0 }.pop(m).expect("chain");
    let flags: Vec<u16> = descs.iter().map(|desc| desc.2).collect();
    assert_eq!(flags, [DESC_F_NEXT, DESC_F_NEXT, DESC_F_WRITE]);
}
