// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use crate::testing::*;
use dlr_core::{DataFunction, FnState};
use zerocopy::{little_endian::U32, Immutable, KnownLayout};

/// An image of version 1.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct OldImage {
    base: Base,
    crc: U32,
}

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

/// The checksum of an image with room for it at its end.
fn crc(bytes: &[u8]) -> U32 {
    crc32c::crc32c(&bytes[..bytes.len() - 4]).into()
}

/// The image as version 1 wrote it.
fn old(bytes: &[u8], change: impl Fn(&mut Base)) -> Vec<u8> {
    let (mut base, _) = Base::read_from_prefix(bytes).unwrap();
    base.version = 1.into();
    base.size = (size_of::<OldImage>() as u32).into();
    base.driver_features = (base.driver_features.get() & offered(1)).into();
    change(&mut base);
    let mut image = OldImage {
        base,
        crc: 0.into(),
    };
    image.crc = crc(image.as_bytes());
    image.as_bytes().to_vec()
}

/// `change`s an image and repairs its checksum.
fn forged(change: impl Fn(&mut Image)) -> Vec<u8> {
    let mut image = Image::read_from_bytes(&image()).unwrap();
    change(&mut image);
    image.crc = crc(image.as_bytes());
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
    let corrupt: [fn(&mut Image); 23] = [
        |i| i.base.queues[0].size = 3.into(),
        |i| i.base.queues[0].size = 0.into(),
        |i| i.base.queues[1].vector = VECTORS.into(),
        |i| i.base.queues[1].avail = 0.into(),
        |i| i.base.queues[1].avail = 1.into(),
        |i| i.base.queues[1].used = (u64::MAX - 3).into(),
        |i| i.base.queues[2].enabled = 2.into(),
        |i| i.base.queues[2].next_avail = 99.into(),
        |i| i.base.queues[2].reserved = 1.into(),
        |i| i.base.config_vector = 77.into(),
        |i| i.base.status |= 0x10,
        |i| i.base.mode = 0x10,
        |i| i.base.unicast_count = 65.into(),
        // What is not in use, and would not be saved again.
        |i| i.base.unicast[63] = [2; 6],
        |i| i.base.multicast[63] = [3; 6],
        |i| {
            let queue = &mut i.base.queues[2];
            (queue.enabled, queue.next_avail, queue.next_used) = (0.into(), 1.into(), 1.into());
        },
        |i| i.base.size = 1.into(),
        |i| i.base.reserved[1] = 1,
        |i| i.more.permanent = [1; 6],
        |i| i.more.permanent = [0; 6],
        |i| i.more.link = 2,
        |i| i.more.guest_offloads = F_CSUM.into(),
        |i| i.more.reserved[7] = 1,
    ];
    for (n, change) in corrupt.into_iter().enumerate() {
        let result = rig.net.load(&forged(change));
        assert!(
            matches!(result, Err(LoadError::Corrupt(_))),
            "{n}: {result:?}"
        );
    }
    let foreign: [fn(&mut Image); 3] = [
        |i| i.base.version = 3.into(),
        |i| i.base.driver_features = (FEATURES | 1 << 22).into(),
        |i| i.base.driver_features = F_MAC.into(),
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

#[test]
fn an_image_of_larger_queues_is_refused_and_one_of_smaller_queues_taken() {
    let of = |size: u16| {
        let rig = Rig::sized(size);
        rig.net.suspend(FnState::Stopped);
        rig
    };
    let (small, large) = (of(256), of(1024));
    match small.net.load(&large.net.save()) {
        Err(LoadError::Incompatible(why)) => assert_eq!(
            why,
            "a queue of 1024 entries, this function offers at most 256"
        ),
        other => panic!("{other:?}"),
    }
    let image = small.net.save();
    large.net.load(&image).unwrap();
    assert_eq!(large.net.save(), image);
    // The guest has the queues that it knows until its driver resets the function.
    large.net.resume(FnState::Running);
    let size = || u16::from_le_bytes(large.get(COMMON + 0x18));
    assert_eq!(size(), 256);
    large.put(COMMON + 0x14, &[0]);
    assert_eq!(size(), 1024);
}

#[test]
fn an_old_image_is_taken() {
    let (new, rig) = (image(), target());
    let permanent = rig.net.save();
    rig.net.load(&old(&new, |_| ())).unwrap();
    let state = Image::read_from_bytes(&rig.net.save()).unwrap();
    // What it says, and what it does not say: the address of this function, this place's link,
    // all offloads that were negotiated.
    assert_eq!(state.base.driver_features.get(), FEATURES & offered(1));
    assert_eq!(state.base.version.get(), VERSION);
    let here = Image::read_from_bytes(&permanent).unwrap();
    assert_eq!(state.more.permanent, here.more.permanent);
    assert_eq!(state.more.guest_offloads.get(), F_GUEST_CSUM);
    let before = Image::read_from_bytes(&new).unwrap().base.generation;
    assert_eq!(state.base.generation, before.wrapping_add(1));
    // It cannot have what its version did not offer, nor the length of a new one.
    for bad in [
        old(&new, |b| b.driver_features = FEATURES.into()),
        [&old(&new, |_| ())[..], &[0; 32]].concat(),
    ] {
        assert!(rig.net.load(&bad).is_err());
    }
}

#[test]
fn what_is_offered_belongs_to_a_version() {
    assert_eq!((OLDEST, offered(OLDEST)), (1, 0x3_3087_8023));
    assert_eq!((VERSION, offered(VERSION)), (2, 0x3_3087_8027));
}
