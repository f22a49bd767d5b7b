// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::{net::Ipv4Addr, sync::Arc};

use super::*;
use crate::mirror::{
    memory::{all_dirty, HugePages, Memory},
    model::{Model, PEER_MAC},
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

fn start(memory: &SharedMemory) -> (Model, Guest, Doorbells) {
    let model = Model::new(Arc::clone(memory));
    let function = VirtioPci::new(&model).expect("virtio");
    let guest = Guest::new(&function, Arc::clone(memory), addresses(), 5, 24).expect("guest");
    let bells = Doorbells::of(&function).expect("bells");
    (model, guest, bells)
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
    let memory = memory();
    let (model, mut guest, bells) = start(&memory);
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
fn unread_answers_in_pages_nobody_copied_are_found() {
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
