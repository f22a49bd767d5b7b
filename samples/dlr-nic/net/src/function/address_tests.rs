// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The guest's address moves with it and is announced; addresses of a NIC stay unique.

use std::sync::Arc;

use dlr_core::{DataFunction, FnState};
use dlr_pci::{PciFunction, ResetKind};

use super::tests::*;
use crate::{announce, regs::*, testing::*, Addresses, AssignError};

const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];

/// Two functions of one NIC.
fn pair() -> (Rig, Rig, Arc<Addresses>) {
    let addresses = Addresses::new([MAC, OTHER]);
    let one = Rig::function(memory(), 0, Arc::clone(&addresses));
    let two = one.sibling(1, &addresses);
    (one, two, addresses)
}

/// Moves the guest of a started `from`, up to the commit.
fn load(from: &Rig, to: &Rig) {
    from.net.suspend(FnState::Stopped);
    to.net.suspend(FnState::Stopped);
    to.net.load(&from.net.save()).unwrap();
}

fn address(rig: &Rig) -> [u8; 6] {
    rig.get(DEVICE)
}

fn flr(rig: &Rig) {
    PciFunction::reset(&*rig.net, ResetKind::FunctionLevel);
}

#[test]
fn the_permanent_address_moves_with_the_guest() {
    let (one, two, _) = pair();
    assert_eq!((address(&one), address(&two)), (MAC, OTHER));
    one.start(PLAIN);
    load(&one, &two);
    two.net.resume(FnState::Running);
    assert_eq!(address(&two), MAC);
    // The guest's driver is bound anew, then the guest reboots, first with the source as it was
    // left and then with the source in the hands of the next guest.
    two.put(COMMON + 0x14, &[0]);
    assert_eq!(address(&two), MAC, "after the driver's reset");
    flr(&two);
    assert_eq!(address(&two), MAC, "after a reboot");
    flr(&one);
    assert_eq!(address(&one), OTHER, "two guests with one address");
    flr(&two);
    assert_eq!((address(&one), address(&two)), (OTHER, MAC));
}

#[test]
fn a_migration_that_failed_leaves_addresses_alone() {
    let (one, two, _) = pair();
    one.start(PLAIN);
    load(&one, &two);
    // The target is closed, the source goes on.
    flr(&two);
    assert_eq!(address(&two), OTHER);
    one.net.resume(FnState::Running);
    assert_eq!(address(&one), MAC);
    // An image that was installed and taken back.
    load(&one, &two);
    DataFunction::reset(&*two.net);
    assert_eq!(address(&two), OTHER);
    one.net.resume(FnState::Running);
    flr(&one);
    assert_eq!(address(&one), MAC);
}

#[test]
fn management_assigns_addresses() {
    let (one, two, _) = pair();
    let new = [2, 0, 0, 0, 0, 0x55];
    assert_eq!(one.net.assign_address(OTHER), Err(AssignError::Taken(1)));
    assert_eq!(one.net.assign_address([1; 6]), Err(AssignError::Address));
    // At once where no driver is, at the next reset where one is.
    one.net.assign_address(new).unwrap();
    assert_eq!(address(&one), new);
    two.start(PLAIN);
    two.net.assign_address(MAC).unwrap();
    assert_eq!(address(&two), OTHER);
    two.put(COMMON + 0x14, &[0]);
    assert_eq!(
        address(&two),
        OTHER,
        "the driver's reset is not the function's"
    );
    flr(&two);
    assert_eq!(address(&two), MAC);
}

#[test]
fn a_guest_that_moved_is_announced() {
    let (one, two, _) = pair();
    one.start(PLAIN);
    let extra = [2, 0, 0, 0, 0, 0x33];
    let tables = [
        &[CTRL_CLASS_MAC, CTRL_MAC_TABLE_SET, 1, 0, 0, 0][..],
        &extra,
        &[0; 4],
    ]
    .concat();
    assert_eq!(command(&one, 0, &tables), CTRL_OK);
    let moved = [2, 0, 0, 0, 0, 0x44];
    let set = [&[CTRL_CLASS_MAC, CTRL_MAC_ADDR_SET][..], &moved].concat();
    assert_eq!(command(&one, 2, &set), CTRL_OK);
    load(&one, &two);
    assert_eq!(*two.seen.claimed.lock().unwrap(), [moved]);
    two.net.resume(FnState::RunningP2p);
    assert!(
        two.seen.sent.lock().unwrap().is_empty(),
        "a frame in RUNNING_P2P"
    );
    two.net.resume(FnState::Running);
    // Five times: one frame may be lost, and one from the old place may come later.
    eventually("five rounds", || two.seen.sent.lock().unwrap().len() >= 10);
    std::thread::sleep(std::time::Duration::from_millis(100));
    let all = std::mem::take(&mut *two.seen.sent.lock().unwrap());
    assert_eq!(all.len(), 10);
    let (sent, rest) = all.split_at(2);
    assert!(rest.chunks(2).all(|round| round == sent));
    let sources: Vec<_> = sent.iter().map(|f| f[6..12].to_vec()).collect();
    assert_eq!(sources, [moved, extra]);
    assert!(sent
        .iter()
        .all(|f| f[..6] == [0xff; 6] && f[12..14] == [0x80, 0x35]));
    assert_eq!(sent, announce::frames(&two.net.shared.gate.lock().device));
    // A guest that merely stood still has nothing to announce.
    two.net.suspend(FnState::Stopped);
    two.net.resume(FnState::Running);
    assert!(two.seen.sent.lock().unwrap().is_empty());
    // A reset ends the announcements of one that has moved.
    load(&two, &one);
    one.net.resume(FnState::Running);
    flr(&one);
    one.net.bus_master(true);
    one.start(PLAIN);
    let sent = one.seen.sent.lock().unwrap().len();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(one.seen.sent.lock().unwrap().len(), sent);
}

#[test]
fn nothing_is_announced_through_a_cable_that_is_pulled() {
    let (one, two, _) = pair();
    one.start(PLAIN);
    two.net.set_link(false);
    load(&one, &two);
    two.net.resume(FnState::Running);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(two.seen.sent.lock().unwrap().is_empty());
    // The guest is announced when it can be, and as often as ever.
    two.net.set_link(true);
    eventually("five rounds", || two.seen.sent.lock().unwrap().len() >= 5);
    let sent = std::mem::take(&mut *two.seen.sent.lock().unwrap());
    assert!(sent.iter().all(|frame| frame[6..12] == MAC));
    std::thread::sleep(std::time::Duration::from_millis(100));
    // Once: the cable of a guest that stays where it is may be pulled and plugged in.
    two.net.set_link(false);
    two.net.set_link(true);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(two.seen.sent.lock().unwrap().is_empty());
}

#[test]
fn a_source_that_goes_on_after_all_is_announced() {
    let (one, two, _) = pair();
    one.start(PLAIN);
    load(&one, &two);
    two.net.resume(FnState::Running);
    two.net.suspend(FnState::Stopped);
    // The target has run and failed: the wire believes that the guest is there.
    one.net.resume(FnState::Running);
    let sent = one.seen.sent.lock().unwrap().clone();
    assert_eq!(sent[0][6..12], MAC);
    flr(&two);
    assert_eq!((address(&one), address(&two)), (MAC, OTHER));
}

#[test]
fn a_source_that_is_woken_to_be_closed_is_not_announced() {
    let (one, two, _) = pair();
    one.start(PLAIN);
    load(&one, &two);
    two.net.resume(FnState::Running);
    // Cloud Hypervisor sets the source to RUNNING once more before it closes it.
    one.net.resume(FnState::Running);
    assert!(
        one.seen.sent.lock().unwrap().is_empty(),
        "the guest was announced at the place that it has left"
    );
    flr(&one);
    assert_eq!(address(&one), OTHER, "two guests with one address");
    flr(&two);
    assert_eq!((address(&one), address(&two)), (OTHER, MAC));
}

#[test]
fn the_target_that_is_closed_while_the_source_runs_gives_the_address_up() {
    let (one, two, _) = pair();
    one.start(PLAIN);
    load(&one, &two);
    two.net.resume(FnState::Running);
    one.net.resume(FnState::Running);
    flr(&two);
    assert_eq!((address(&one), address(&two)), (MAC, OTHER));
    flr(&one);
    assert_eq!((address(&one), address(&two)), (MAC, OTHER));
}

#[test]
fn a_guest_without_a_driver_is_not_announced() {
    let (one, two, _) = pair();
    load(&one, &two);
    two.net.resume(FnState::Running);
    assert!(two.seen.sent.lock().unwrap().is_empty());
}
