// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use crate::testing::*;
use dlr_core::{DataFunction, FnState};

fn image() -> Vec<u8> {
    let rig = Rig::started(FEATURES);
    rig.net.suspend(FnState::Stopped);
    rig.net.save()
}

fn target() -> Rig {
    let rig = Rig::new();
    rig.net.suspend(FnState::Stopped);
    rig
}

/// `change`s an image and repairs its checksum.
fn forged(change: impl Fn(&mut Image)) -> Vec<u8> {
    let mut image = Image::read_from_bytes(&image()).unwrap();
    change(&mut image);
    image.crc = crc32c::crc32c(&image.as_bytes()[..CRC_AT]).into();
    image.as_bytes().to_vec()
}

#[test]
fn every_flipped_bit_is_refused() {
    let (good, rig) = (image(), target());
    let before = rig.net.save();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(rig.net.load(&bad).is_err(), "bit {bit}");
    }
    assert_eq!(rig.net.save(), before);
    rig.net.load(&good).unwrap();
    assert_eq!(rig.net.save(), good);
}

#[test]
fn every_other_length_is_refused() {
    let (good, rig) = (image(), target());
    for len in 0..good.len() {
        assert!(rig.net.load(&good[..len]).is_err(), "length {len}");
    }
    assert!(rig.net.load(&[&good[..], &[0]].concat()).is_err());
}

#[test]
fn forged_images_are_refused() {
    let rig = target();
    let before = rig.net.save();
    let corrupt: [fn(&mut Image); 14] = [
        |i| i.queues[0].size = 3.into(),
        |i| i.queues[0].size = 512.into(),
        |i| i.queues[1].vector = VECTORS.into(),
        |i| i.queues[1].avail = 0.into(),
        |i| i.queues[1].avail = 1.into(),
        |i| i.queues[1].used = (u64::MAX - 3).into(),
        |i| i.queues[2].enabled = 2.into(),
        |i| i.queues[2].next_avail = 99.into(),
        |i| i.queues[2].reserved = 1.into(),
        |i| i.config_vector = 77.into(),
        |i| i.status |= 0x10,
        |i| i.mode = 0x10,
        |i| i.unicast_count = 65.into(),
        |i| i.size = 1.into(),
    ];
    for (n, change) in corrupt.into_iter().enumerate() {
        let result = rig.net.load(&forged(change));
        assert!(
            matches!(result, Err(LoadError::Corrupt(_))),
            "{n}: {result:?}"
        );
    }
    let foreign: [fn(&mut Image); 3] = [
        |i| i.version = 2.into(),
        |i| i.driver_features = (FEATURES | 1 << 22).into(),
        |i| i.driver_features = F_MAC.into(),
    ];
    for (n, change) in foreign.into_iter().enumerate() {
        let result = rig.net.load(&forged(change));
        assert!(
            matches!(result, Err(LoadError::Incompatible(_))),
            "{n}: {result:?}"
        );
    }
    assert_eq!(rig.net.save(), before);
}
