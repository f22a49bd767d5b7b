// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::{net::Ipv4Addr, sync::Arc};

use super::*;
use crate::mirror::{
    memory::{all_dirty, HugePages, Memory},
    model::{Model, PEER_MAC},
    transport::NET_F_CTRL_RX,
};

fn memory() -> SharedMemory {
    let ranges = layout::ranges(8 << 20).expect("size");
    Arc::new(Memory::new(&ranges, HugePages::Never).expect("memory"))
}

fn addresses() -> Addresses {
    Addresses {
        mac: [0; 6],
        ip: Ipv4Addr::new(10, 9, 0, 2),
        peer_ip: Ipv4Addr::new(10, 9, 0, 1),
        peer_mac: None,
    }
}

const SETTINGS: Settings = Settings {
    seed: 5,
    window: 24,
    buffer_pages: 1,
    features: Features::Basic,
    vector: NO_VECTOR,
};

fn start_with(memory: &SharedMemory, settings: Settings) -> (Model, Guest, Doorbells) {
    let mut model = Model::new(Arc::clone(memory));
    if settings.features == Features::Full {
        model.offered |= F_EVENT_IDX | NET_F_CTRL_VQ | NET_F_CTRL_RX;
    }
    let function = VirtioPci::new(&model).expect("virtio");
    let guest = Guest::new(&function, Arc::clone(memory), addresses(), settings);
    let guest = guest.expect("guest");
    let bells = Doorbells::of(&function, &guest).expect("bells");
    (model, guest, bells)
}

fn start(memory: &SharedMemory) -> (Model, Guest, Doorbells) {
    start_with(memory, SETTINGS)
}

fn pump_until(model: &Model, guest: &mut Guest, bells: &Doorbells, received: u64) {
    for _ in 0..100_000 {
        if guest.counters().received >= received {
            return;
        }
        guest.pump(model, bells).expect("pumped");
    }
    panic!("no traffic: {:?}", guest.counters());
}

#[test]
fn every_answer_is_right() {
    every_answer_is_right_in(1);
}

#[test]
fn every_answer_is_right_in_buffers_of_several_pages() {
    every_answer_is_right_in(2);
    every_answer_is_right_in(3);
}

fn every_answer_is_right_in(buffer_pages: u32) {
    let memory = memory();
    let (model, mut guest, bells) = start_with(
        &memory,
        Settings {
            buffer_pages,
            ..SETTINGS
        },
    );
    guest.find_peer(&model, &bells).expect("peer");
    assert_eq!(guest.addresses.peer_mac, Some(PEER_MAC));
    pump_until(&model, &mut guest, &bells, 3000);
    let counters = guest.counters();
    assert_eq!((counters.corrupt, counters.duplicates), (0, 0));
}

#[test]
fn it_goes_on_in_copied_memory() {
    let (source, shadow) = (memory(), memory());
    let (model, mut guest, bells) = start(&source);
    guest.find_peer(&model, &bells).expect("peer");
    pump_until(&model, &mut guest, &bells, 500);
    for (index, pages) in all_dirty(&source.ranges()).iter().enumerate() {
        shadow.copy_from(&source, index, pages).expect("copied");
    }
    let model = model.moved(Arc::clone(&shadow));
    guest.move_to(Arc::clone(&shadow));
    pump_until(&model, &mut guest, &bells, 1500);
    assert_eq!(guest.counters().corrupt, 0);
    assert_ne!(shadow.compare(&source).expect("compared"), []);
}

#[test]
fn unread_answers_in_pages_that_were_not_copied_are_found() {
    let (source, shadow) = (memory(), memory());
    let (model, mut guest, bells) = start(&source);
    guest.find_peer(&model, &bells).expect("peer");
    pump_until(&model, &mut guest, &bells, 100);
    // Answers lie unread; the page with the last one is not copied.
    let request = guest
        .addresses
        .echo_request(guest.stream, guest.next, 64)
        .expect("frame");
    guest.next += 1;
    while guest.receive(source.guest()).expect("received") {}
    assert!(guest.send_one(source.guest(), &request).expect("sent"));
    guest.tx.publish(source.guest()).expect("published");
    bells.tx.ring(&model).expect("rung");
    for (index, pages) in all_dirty(&source.ranges()).iter().enumerate() {
        let mut pages = pages.clone();
        if index == 1 {
            pages.words_mut().fill(0);
        }
        shadow.copy_from(&source, index, &pages).expect("copied");
    }
    guest.move_to(Arc::clone(&shadow));
    let _ = guest.receive(shadow.guest());
    let low = shadow.compare(&source).expect("compared");
    assert!(low.iter().all(|page| page.iova >= layout::HIGH) && !low.is_empty());
}

/// Pages of `shadow` that differ, by name, when all but those that `left_out` names are copied after
/// some traffic.
fn lost(left_out: &str) -> Vec<&'static str> {
    let (source, shadow) = (memory(), memory());
    let (model, mut guest, bells) = start_with(
        &source,
        Settings {
            features: Features::Full,
            ..SETTINGS
        },
    );
    guest.find_peer(&model, &bells).expect("peer");
    for (index, pages) in all_dirty(&source.ranges()).iter().enumerate() {
        shadow.copy_from(&source, index, pages).expect("copied");
        source.take_cpu_dirty(index);
    }
    let before = guest.counters();
    for _ in 0..50_000 {
        guest.pump(&model, &bells).expect("pumped");
        let now = guest.counters();
        if now.received >= before.received + 300 && now.commands >= before.commands + 5 {
            break;
        }
    }
    let now = guest.counters();
    assert!(now.commands >= before.commands + 5, "{now:?}");
    assert_eq!((now.corrupt, now.duplicates), (0, 0));
    for (index, range) in source.ranges().into_iter().enumerate() {
        let mut pages = all_dirty(&source.ranges())[index].clone();
        let clean =
            (0..pages.pages()).filter(|p| layout::describe(range.iova + p * PAGE) == left_out);
        let clean: Vec<u64> = clean.collect();
        for page in clean {
            pages.words_mut()[(page / 64) as usize] &= !(1 << (page % 64));
        }
        shadow.copy_from(&source, index, &pages).expect("copied");
    }
    let pages = shadow.compare(&source).expect("compared");
    pages
        .iter()
        .map(|page| layout::describe(page.iova))
        .collect()
}

#[test]
fn what_only_the_control_queue_and_event_idx_write_is_compared() {
    assert_eq!(lost(""), Vec::<&str>::new());
    for name in [
        "send avail_event",
        "control used ring",
        "answers to control commands",
    ] {
        let found = lost(name);
        assert!(!found.is_empty(), "{name} is not found when it is lost");
        assert!(found.iter().all(|page| *page == name), "{name}: {found:?}");
    }
}
