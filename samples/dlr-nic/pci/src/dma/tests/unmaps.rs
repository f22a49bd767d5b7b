// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Unmapping.

use std::{
    sync::{mpsc, Arc},
    thread,
    time::Duration,
};

use vm_memory::{Bytes, GuestAddress, Permissions};

use super::{byte, fd, file, space, PAGE};

#[test]
fn unmaps_of_all_kinds() {
    let (file, space) = (file(4), space());
    let map_all = || {
        space
            .map(0xfee0_0000, 4 * PAGE, fd(&file), 0, Permissions::Read)
            .unwrap();
    };
    // Of nothing, of nothing much, of far too much.
    space.unmap(0x1234_5000, PAGE);
    space.unmap(0, 0);
    map_all();
    space.unmap(0xfef0_0000, 0xffff_ffff_0110_0000);
    assert_eq!(byte(&space, 0xfee0_3000), Some(3));
    space.unmap(0xfee0_1000, PAGE);
    assert_eq!(byte(&space, 0xfee0_0fff), Some(0));
    assert_eq!(byte(&space, 0xfee0_1000), None);
    assert_eq!(byte(&space, 0xfee0_2000), Some(2));
    space.unmap(0, 0x2000_0000_0000);
    assert_eq!(byte(&space, 0xfee0_2000), None);
    map_all();
    space.unmap(0xfee0_2000, u64::MAX);
    assert_eq!(byte(&space, 0xfee0_1fff), Some(1));
    assert_eq!(byte(&space, 0xfee0_2000), None);
}

#[test]
fn unmap_waits_for_access_in_flight() {
    let (file, space) = (file(1), Arc::new(space()));
    space
        .map(0, PAGE, fd(&file), 0, Permissions::ReadWrite)
        .unwrap();
    let guard = space.lock();
    let (sender, done) = mpsc::channel();
    let other = Arc::clone(&space);
    let unmap = thread::spawn(move || {
        other.unmap(0, PAGE);
        sender.send(()).unwrap();
    });
    assert!(done.recv_timeout(Duration::from_millis(100)).is_err());
    guard.write_slice(&[7], GuestAddress(0)).unwrap();
    drop(guard);
    done.recv_timeout(Duration::from_secs(30)).unwrap();
    unmap.join().unwrap();
    assert_eq!(byte(&space, 0), None);
}
