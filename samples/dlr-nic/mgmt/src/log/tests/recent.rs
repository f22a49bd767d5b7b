// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Pages that are written again and again, which the log finds without its lock.

use super::*;

/// Often enough that the last one is not looked for in the filter.
fn again(b: &Bench, page: u64) {
    for _ in 0..3 {
        b.write(page, 1);
    }
}

#[test]
fn it_is_logged_once_after_each_sync() {
    let mut b = Bench::new(8, 64);
    let mut posted = 0;
    again(&b, 3);
    for range in [
        SyncRange::All,
        SyncRange::Part {
            iova: 3 * PAGE,
            length: PAGE,
        },
        SyncRange::Part {
            iova: 0,
            length: 64 * PAGE,
        },
    ] {
        assert_eq!(b.log.posted(None), posted + 1);
        b.sync(range).unwrap();
        // The marker, and then the page.
        posted += 2;
        again(&b, 3);
    }
    assert_eq!(b.log.posted(None), posted + 1);
}

#[test]
fn it_is_logged_once_after_a_start() {
    let b = Bench::new(6, 64);
    again(&b, 3);
    b.log.stop();
    again(&b, 3);
    let params = LogParams {
        ring: RING,
        order: 6,
        vector: 3,
        threshold: 32,
        page_shift: 12,
        hold: Duration::ZERO,
        ranges: vec![(0, 64 * PAGE)],
    };
    b.log.start(None, &params).unwrap();
    again(&b, 3);
    assert_eq!(b.log.posted(None), 1);
}

#[test]
fn after_lost_it_is_counted_and_then_logged_again() {
    let mut b = Bench::new(4, 512);
    again(&b, 3);
    for page in 10..30 {
        b.write(page * 2, 1);
    }
    assert_ne!(b.log.state() & abi::DLR_LOG_STATE_LOST, 0);
    let unlogged = b.log.stats().unlogged;
    again(&b, 3);
    assert_eq!(b.log.stats().unlogged, unlogged + 3);
    let posted = b.log.posted(None);
    while b.consume().is_some() {}
    b.sync(SyncRange::All).unwrap();
    again(&b, 3);
    assert_eq!(b.log.posted(None), posted + 2);
}

#[test]
fn pages_of_one_granule_and_untracked_ones() {
    let mut b = Bench::of_granules(6, 4, 21);
    again(&b, 5);
    again(&b, 6);
    assert_eq!(b.log.posted(None), 1);
    b.sync(SyncRange::All).unwrap();
    again(&b, 6);
    assert_eq!(b.log.posted(None), 3);
    let mut b = Bench::new(6, 4);
    again(&b, 10);
    b.log.add(10 * PAGE, PAGE).unwrap();
    again(&b, 10);
    assert_eq!(b.log.posted(None), 1);
    // Two pages at once are never found without the lock.
    b.sync(SyncRange::All).unwrap();
    b.log.add(11 * PAGE, PAGE).unwrap();
    for _ in 0..3 {
        b.write(10, 2);
    }
    assert_eq!(b.log.posted(None), 3);
    assert_eq!(b.slot(2) >> 4 & 255, 1, "a run of two");
}
