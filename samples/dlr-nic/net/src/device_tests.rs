// SPDX-License-Identifier: Apache-2.0 OR MIT

use dlr_core::WireRx;
use dlr_pci::PciFunction;
use proptest::prelude::*;

use super::*;
use crate::testing::*;

#[test]
fn negotiation() {
    let rig = Rig::new();
    let offered = |half: u32| {
        rig.put(COMMON, &half.to_le_bytes());
        u32::from_le_bytes(rig.get(COMMON + 4))
    };
    assert_eq!(
        u64::from(offered(0)) | u64::from(offered(1)) << 32,
        FEATURES
    );
    assert_eq!(offered(2), 0);
    assert_eq!(rig.get::<2>(COMMON + 0x12), [3, 0]);
    assert_eq!(rig.get::<6>(DEVICE), MAC);
    // Without VERSION_1, without what another one needs, and with MTU, MQ, ORDER_PLATFORM and
    // SPEED_DUPLEX, which are not offered.
    let more = [3, 22, 36, 63].map(|bit| FEATURES | 1 << bit);
    for features in more.into_iter().chain([F_MAC, F_VERSION_1 | F_CTRL_RX]) {
        rig.start(features);
        assert_eq!(rig.status(), 3, "{features:#x}");
        assert_eq!(rig.get::<2>(COMMON + 0x1c), [0, 0]);
    }
    rig.start(FEATURES);
    assert_eq!(rig.status(), 0x0f);
    assert_eq!(rig.get::<2>(COMMON + 0x1c), [1, 0]);
    // Nothing of an enabled queue changes, nor do accepted features.
    rig.put(COMMON + 0x18, &4u16.to_le_bytes());
    rig.put(COMMON + 0x20, &[0; 4]);
    rig.put(COMMON + 0x0c, &[0; 4]);
    assert_eq!(rig.get::<2>(COMMON + 0x18), RING.to_le_bytes());
    assert_ne!(rig.get::<4>(COMMON + 0x20), [0; 4]);
    assert_ne!(rig.get::<4>(COMMON + 0x0c), [0; 4]);
    // A queue that is not there, a vector that is not there.
    rig.put(COMMON + 0x16, &3u16.to_le_bytes());
    assert_eq!(rig.get::<2>(COMMON + 0x18), [0, 0]);
    rig.put(COMMON + 0x10, &VECTORS.to_le_bytes());
    assert_eq!(rig.get::<2>(COMMON + 0x10), [0xff; 2]);
}

#[test]
fn each_queue_has_the_size_that_was_asked_for_until_the_driver_chooses_a_smaller_one() {
    let size = |rig: &Rig| u16::from_le_bytes(rig.get(COMMON + 0x18));
    for (rig, largest) in [
        (Rig::new(), 256),
        (Rig::sized(1024), 1024),
        (Rig::sized(1), 1),
    ] {
        for queue in 0..QUEUES as u16 {
            rig.put(COMMON + 0x16, &queue.to_le_bytes());
            assert_eq!(size(&rig), largest);
            for refused in [2 * largest, 0, 3] {
                rig.put(COMMON + 0x18, &refused.to_le_bytes());
                assert_eq!(size(&rig), largest, "{refused}");
            }
            let smaller = largest.div_ceil(2);
            rig.put(COMMON + 0x18, &smaller.to_le_bytes());
            assert_eq!(size(&rig), smaller);
        }
        rig.put(COMMON + 0x14, &[0]);
        rig.put(COMMON + 0x16, &1u16.to_le_bytes());
        assert_eq!(size(&rig), largest);
    }
}

#[test]
fn a_large_used_ring_is_written_to_its_last_element() {
    let rig = Rig::sized(1024);
    let mut queue = NetQueue::new(1024);
    (queue.desc, queue.avail, queue.used) = (BASE, BASE + 0x4000, BASE + 0x5000);
    queue.ring = Some(queue.build(false).unwrap());
    let done: Vec<(u16, u32)> = (0..1024).map(|n| (n, 7)).collect();
    queue.publish(&rig.space.lock(), &done).unwrap();
    assert_eq!(rig.peek16(queue.used + 2), 1024);
    assert_eq!(
        rig.peek(queue.used + 4 + 8 * 1023, 8),
        [255, 3, 0, 0, 7, 0, 0, 0]
    );
}

#[test]
fn unusable_queue_addresses() {
    for (register, value) in [(0x20, 8u32), (0x28, 0), (0x28, 1), (0x30, 2)] {
        let rig = Rig::new();
        rig.put(COMMON + 0x14, &[3]);
        rig.put(COMMON + 0x08, &1u32.to_le_bytes());
        rig.put(COMMON + 0x0c, &1u32.to_le_bytes());
        rig.put(COMMON + 0x14, &[0x0b]);
        for (at, address) in [(0x20, 0x1000u32), (0x28, 0x2000), (0x30, 0x3000)] {
            rig.put(COMMON + at, &address.to_le_bytes());
        }
        rig.put(COMMON + register, &value.to_le_bytes());
        rig.put(COMMON + 0x1c, &1u16.to_le_bytes());
        assert_eq!(rig.status(), 0x4b);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No access to the BAR and no content of guest memory does anything but work or ask
    /// for a reset.
    #[test]
    fn survives_anything(
        accesses in prop::collection::vec((0u64..0x4000, prop::collection::vec(any::<u8>(), 1..9)), 0..50),
        garbage in prop::collection::vec((0u64..0xa000, any::<u16>()), 0..200),
    ) {
        let rig = Rig::started(FEATURES);
        for (at, value) in &garbage {
            rig.poke(BASE + at, &value.to_le_bytes());
        }
        rig.net.deliver(&frame(1400));
        rig.ring(1);
        rig.ring(2);
        for (offset, data) in &accesses {
            rig.put(*offset, data);
            rig.net.bar_read(BAR, *offset, &mut [0; 8]);
            rig.net.deliver(&frame(60));
        }
        rig.start(FEATURES);
        prop_assert_eq!(rig.status() & 0x0f, 0x0f);
    }
}
