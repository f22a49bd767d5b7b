// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The rules one by one, kept and broken.

use super::*;
use crate::testing::TestFunction;

#[test]
fn repeats_are_filtered_until_a_sync_covers_them() {
    let mut b = Bench::new(6, 64);
    let mut bits = BTreeSet::new();
    b.write(3, 1);
    b.write(9, 1);
    b.write(3, 1);
    assert_eq!(b.log.posted(None), 2);
    b.drain(&mut bits);
    b.sync(SyncRange::Part {
        iova: 3 * PAGE,
        length: PAGE,
    })
    .unwrap();
    b.consume_to_marker(&mut bits);
    b.write(9, 1);
    assert_eq!(b.log.posted(None), 3, "9 is still filtered");
    b.write(3, 1);
    assert_eq!(b.log.posted(None), 4);
}

#[test]
fn what_was_written_before_a_sync_stands_before_its_marker() {
    let mut b = Bench::new(6, 64);
    b.write(1, 1);
    b.sync(SyncRange::All).unwrap();
    b.write(2, 1);
    // Nothing but the ring is looked at: no POSTED pushes an entry.
    assert_eq!(b.consume(), Some((abi::DLR_LOG_WRITE, 1, 1)));
    assert_eq!(b.consume(), Some((abi::DLR_LOG_SYNC, b.cookie, 1)));
    assert_eq!(b.consume(), None);
}

#[test]
fn entries_of_large_granules_say_where_they_are() {
    for shift in [12u32, 16, 21] {
        let mut b = Bench::of_granules(6, 1 << 30 >> shift, shift);
        // Three neighbours, and one further up.
        b.log.dirty((5 << shift) + 1, (2 << shift) + 7);
        b.log.dirty((100 << shift) + 4095, 1);
        assert_eq!(b.log.posted(None), 2);
        let page = |granule: u64| granule << (shift - 12);
        assert_eq!(b.consume(), Some((abi::DLR_LOG_WRITE, page(5), 3)));
        assert_eq!(b.consume(), Some((abi::DLR_LOG_WRITE, page(100), 1)));
    }
}

#[test]
fn runs_are_merged_and_split_at_256() {
    let b = Bench::new(6, 4096);
    for page in 0..300 {
        b.write(page, 1);
    }
    assert_eq!(b.log.posted(None), 2);
    assert_eq!(b.slot(0) >> 4 & 255, 255);
    assert_eq!((b.slot(1) >> 12, b.slot(1) >> 4 & 255), (256, 43));
}

#[test]
fn the_last_slot_is_kept_for_lost() {
    let mut b = Bench::new(4, 512);
    for page in 0..20 {
        b.write(page * 2, 1);
    }
    assert_eq!(b.log.posted(None), 16);
    assert_eq!(b.slot(15) >> 1 & 7, u64::from(abi::DLR_LOG_LOST));
    assert_ne!(b.log.state() & abi::DLR_LOG_STATE_LOST, 0);
    assert_eq!(b.log.health(), (1, false));
    // A marker does not take the last slot either.
    assert_eq!(b.sync(SyncRange::All), Err(Status::Busy));
    b.consume().unwrap();
    assert_eq!(b.sync(SyncRange::All), Err(Status::Busy));
    b.consume().unwrap();
    // A sync of a part does not re-arm.
    b.sync(SyncRange::Part {
        iova: 0,
        length: PAGE,
    })
    .unwrap();
    b.write(100, 1);
    assert_eq!(b.log.posted(None), 17);
    while b.consume().is_some() {}
    b.sync(SyncRange::All).unwrap();
    b.write(100, 1);
    assert_eq!(b.log.posted(None), 19);
}

#[test]
fn a_held_marker_is_posted_when_the_driver_consumes() {
    let mut b = Bench::new(4, 512);
    for page in 0..15 {
        b.write(page * 2, 1);
    }
    b.log.flush();
    std::thread::scope(|scope| {
        let log = &b.log;
        let waiting = scope.spawn(move || {
            let deadline = Instant::now() + Duration::from_secs(10);
            log.sync(None, SyncRange::All, 7, deadline, &|| true)
        });
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(log.stats().syncs, 0);
        log.set_head(1);
        assert_eq!(waiting.join().unwrap(), Ok(()));
    });
    b.head = 1;
    assert_eq!(b.slot(15) >> 12, 7);
    // The queue's reset ends the wait.
    let sync = b.log.sync(
        None,
        SyncRange::All,
        8,
        Instant::now() + Duration::from_secs(60),
        &|| false,
    );
    assert_eq!(sync, Err(Status::Busy));
}

/// It would log again what the driver has been told of: more than it has to.
#[test]
fn a_sync_that_is_busy_clears_no_filter() {
    let mut b = Bench::new(4, 512);
    for page in 0..15 {
        b.write(page * 2, 1);
    }
    b.log.flush();
    assert_eq!(b.sync(SyncRange::All), Err(Status::Busy));
    while b.consume().is_some() {}
    b.write(4, 1);
    assert_eq!(b.log.posted(None), 15);
    b.sync(SyncRange::All).unwrap();
    b.write(4, 1);
    assert_eq!(b.log.posted(None), 17);
}

#[test]
fn ring_fault_kills_the_log_and_says_so() {
    let memory = TestMemory::new(0x1000);
    let interrupt = Arc::new(TestInterrupt::default());
    let log = LogEngine::new(memory, interrupt.clone(), Arc::default(), Arc::default());
    assert_eq!(log.posted(None), abi::DLR_LOG_POSTED_ERROR, "not active");
    let params = LogParams {
        ring: 0x1000,
        order: 4,
        vector: 1,
        threshold: 16,
        page_shift: 12,
        hold: Duration::ZERO,
        ranges: vec![(0, 1 << 20)],
    };
    log.start(None, &params).unwrap();
    assert_eq!(log.start(None, &params), Err(Status::Busy));
    log.dirty(0, 1);
    assert_eq!(log.posted(None), abi::DLR_LOG_POSTED_ERROR);
    assert_eq!(log.health(), (0, true));
    assert_eq!(interrupt.count(1), 1);
    let late = Instant::now();
    assert_eq!(
        log.sync(None, SyncRange::All, 1, late, &|| true),
        Err(Status::Internal)
    );
    log.stop();
    assert_eq!(log.add(0, PAGE), Err(Status::InvalidState));
}

#[test]
fn interrupt_at_threshold_and_lost() {
    let mut b = Bench::new(4, 512);
    for page in 0..9 {
        b.write(page * 2, 1);
    }
    assert_eq!(b.interrupt.count(3), 1, "eight posted, one open");
    for page in 9..30 {
        b.write(page * 2, 1);
    }
    assert_eq!(b.interrupt.count(3), 2, "LOST");
    b.consume().unwrap();
    assert_eq!(b.interrupt.count(3), 3, "still above the threshold");
}

#[test]
fn added_ranges_are_tracked_and_bounded() {
    let mut b = Bench::new(6, 4);
    b.write(10, 1);
    assert_eq!(b.log.posted(None), 0);
    b.log.add(10 * PAGE, PAGE).unwrap();
    b.write(10, 1);
    assert_eq!(b.log.posted(None), 1);
    b.drain(&mut BTreeSet::new());
    assert_eq!(b.log.add(1, PAGE), Err(Status::InvalidField));
    for n in 2..MAX_RANGES as u64 {
        b.log.add(n * 100 * PAGE, PAGE).unwrap();
    }
    assert_eq!(b.log.add(PAGE << 30, PAGE), Err(Status::NoResource));
    b.log.add(0, PAGE).unwrap();
}

#[test]
fn posted_and_sync_wait_for_the_function() {
    let b = Bench::new(6, 64);
    let df = TestFunction::new(&[]);
    b.write(1, 1);
    assert_eq!(b.log.posted(Some(&*df)), 1);
    let late = Instant::now();
    b.log
        .sync(Some(&*df), SyncRange::All, 9, late, &|| true)
        .unwrap();
    assert_eq!(b.log.stats().syncs, 1);
}

/// Runs one round per sabotage; true when the model notices.
fn noticed(kind: SabotageKind, n: u64, order: u32) -> bool {
    let mut b = Bench::new(order, 512);
    b.sabotage.set(kind, n);
    let mut bits = BTreeSet::new();
    let mut noticed = false;
    for _ in 0..3 {
        let mut model = BTreeSet::new();
        for page in 0..20 {
            b.write(page * 3, 1);
            model.insert(page * 3);
        }
        noticed |= !model.is_subset(&b.report(&mut bits));
    }
    noticed
}

#[test]
fn sabotage_loses_pages() {
    assert!(!noticed(SabotageKind::DropLogEntry, 1000, 8));
    assert!(noticed(SabotageKind::DropLogEntry, 3, 8));
    assert!(noticed(SabotageKind::FilterNotCleared, 1, 8));
    assert!(noticed(SabotageKind::LostNotPosted, 1, 4));
}

#[test]
fn marker_too_early_puts_new_entries_before_the_marker() {
    let mut b = Bench::new(6, 64);
    b.sabotage.set(SabotageKind::MarkerTooEarly, 80);
    let mut bits = BTreeSet::new();
    b.write(1, 1);
    b.drain(&mut bits);
    b.cookie += 1;
    std::thread::scope(|scope| {
        let (log, cookie) = (&b.log, b.cookie);
        let sync = scope.spawn(move || {
            let deadline = Instant::now() + Duration::from_secs(5);
            log.sync(None, SyncRange::All, cookie, deadline, &|| true)
        });
        std::thread::sleep(Duration::from_millis(30));
        b.write(1, 1);
        sync.join().unwrap().unwrap();
    });
    b.consume_to_marker(&mut bits);
    b.write(1, 1);
    assert_eq!(
        b.log.posted(None),
        3,
        "filtered for good: this write is lost"
    );
}

#[test]
fn entry_before_data_is_posted_by_before_write() {
    let b = Bench::new(6, 64);
    b.sabotage.set(SabotageKind::EntryBeforeData, 1);
    b.log.before_write(0, 1);
    assert_eq!(b.slot(0) & 1, 1);
    b.log.dirty(0, 1);
    assert_eq!(b.log.posted(None), 1);
}

#[test]
fn test_entries_are_what_they_say() {
    let mut b = Bench::new(4, 8);
    let kinds = [
        (TestEntry::Write(3 * PAGE), abi::DLR_LOG_WRITE),
        (TestEntry::Outside, abi::DLR_LOG_WRITE),
        (TestEntry::Marker, abi::DLR_LOG_SYNC),
        (TestEntry::Lost, abi::DLR_LOG_LOST),
        (TestEntry::Garbage, (1 << abi::DLR_LOG_ENTRY_TYPE_BITS) - 1),
    ];
    for (entry, kind) in kinds {
        assert!(b.log.post_test_entry(entry));
        assert_eq!(b.consume().map(|e| e.0), Some(kind), "{entry:?}");
    }
    assert_eq!(b.log.posted(None), 5);
    assert!(b.log.post_test_entry(TestEntry::Missing));
    assert_eq!(b.log.posted(None), 6);
    assert!(b.log.post_test_entry(TestEntry::Flood));
    assert_eq!(b.log.posted(None), 6 + 17);
    b.log.stop();
    assert!(!b.log.post_test_entry(TestEntry::Lost));
}
