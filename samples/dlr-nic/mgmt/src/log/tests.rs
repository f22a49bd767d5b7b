// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The log engine against a driver that follows the contract and a model of memory.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::testing::{TestFunction, TestInterrupt, TestMemory};

const RING: u64 = 0x1000;
const PAGE: u64 = 4096;

struct Bench {
    memory: Arc<TestMemory>,
    interrupt: Arc<TestInterrupt>,
    sabotage: Arc<Sabotage>,
    log: LogEngine,
    order: u32,
    head: u32,
    cookie: u64,
    tracked: u64,
}

impl Bench {
    /// A log with a ring of `1 << order` slots that tracks pages `0..tracked`.
    fn new(order: u32, tracked: u64) -> Self {
        let memory = TestMemory::new(0x10_000);
        let interrupt = Arc::new(TestInterrupt::default());
        let sabotage = Arc::new(Sabotage::default());
        let log = LogEngine::new(
            memory.clone(),
            interrupt.clone(),
            sabotage.clone(),
            Arc::default(),
        );
        let params = LogParams {
            ring: RING,
            order,
            vector: 3,
            threshold: 1 << (order - 1),
            page_shift: 12,
            ranges: vec![(0, tracked * PAGE)],
        };
        log.start(&params).unwrap();
        Self {
            memory,
            interrupt,
            sabotage,
            log,
            order,
            head: 0,
            cookie: 100,
            tracked,
        }
    }

    fn write(&self, page: u64, pages: u64) {
        self.log.before_write(page * PAGE + 1, pages * PAGE - 1);
        self.log.dirty(page * PAGE + 1, pages * PAGE - 1);
    }

    fn slot(&self, at: u32) -> u64 {
        let slot = u64::from(at & ((1 << self.order) - 1));
        self.memory.u64(RING + slot * 8)
    }

    /// Consumes one entry if there is one: `(type, address part, run)`.
    fn consume(&mut self) -> Option<(u32, u64, u64)> {
        let entry = self.slot(self.head);
        let phase = (self.head >> self.order) & 1 == 0;
        if (entry & 1 == 1) != phase {
            return None;
        }
        self.head = self.head.wrapping_add(1);
        self.log.set_head(self.head);
        Some(((entry >> 1 & 7) as u32, entry >> 12, (entry >> 4 & 255) + 1))
    }

    /// Drains to the count of POSTED. True when LOST was among it.
    fn drain(&mut self, bits: &mut BTreeSet<u64>) -> bool {
        let posted = self.log.posted(None);
        assert_eq!(posted & abi::DLR_LOG_POSTED_ERROR, 0);
        let mut lost = false;
        while self.head & abi::DLR_LOG_POSTED_COUNT_MASK != posted {
            match self.consume().expect("posted") {
                (abi::DLR_LOG_WRITE, page, run) => bits.extend(page..page + run),
                (abi::DLR_LOG_LOST, 0, 1) => lost = true,
                other => panic!("{other:?}"),
            }
        }
        lost
    }

    fn sync(&mut self, range: SyncRange) -> Result<(), Status> {
        self.cookie += 1;
        let deadline = Instant::now() + Duration::from_millis(20);
        self.log.sync(None, range, self.cookie, deadline, &|| true)
    }

    /// Consumes to the marker; true when LOST stood before it.
    fn to_marker(&mut self, bits: &mut BTreeSet<u64>) -> bool {
        let mut lost = false;
        loop {
            match self.consume().expect("the marker") {
                (abi::DLR_LOG_WRITE, page, run) => bits.extend(page..page + run),
                (abi::DLR_LOG_SYNC, cookie, _) => {
                    assert_eq!(cookie, self.cookie);
                    return lost;
                }
                (abi::DLR_LOG_LOST, ..) => lost = true,
                other => panic!("{other:?}"),
            }
        }
    }

    /// A REPORT of everything, by the rules.
    fn report(&mut self, bits: &mut BTreeSet<u64>) -> BTreeSet<u64> {
        let lost = self.drain(bits);
        if lost || self.log.state() & abi::DLR_LOG_STATE_LOST != 0 {
            self.sync(SyncRange::All).unwrap();
            self.to_marker(bits);
            bits.extend(0..self.tracked);
        } else if !bits.is_empty() {
            let length = self.tracked * PAGE;
            self.sync(SyncRange::Part { iova: 0, length }).unwrap();
            self.to_marker(bits);
        }
        std::mem::take(bits)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Every write is in the next report, whatever the ring's size and the drains between.
    #[test]
    fn no_write_is_ever_missing(
        order in 4u32..7,
        ops in prop::collection::vec((0u8..10, 0u64..600, 1u64..5), 1..400),
    ) {
        let mut b = Bench::new(order, 512);
        let (mut bits, mut model) = (BTreeSet::new(), BTreeSet::new());
        for (op, page, pages) in ops {
            match op {
                0 => {
                    let got = b.report(&mut bits);
                    prop_assert!(model.is_subset(&got), "lost {:?}", model.difference(&got));
                    model.clear();
                }
                1 if b.log.state() & abi::DLR_LOG_STATE_LOST == 0 => {
                    if b.drain(&mut bits) {
                        b.sync(SyncRange::All).unwrap();
                        b.to_marker(&mut bits);
                        bits.extend(0..512);
                    }
                }
                _ => {
                    b.write(page, pages);
                    model.extend((page..page + pages).filter(|p| *p < 512));
                }
            }
        }
        let got = b.report(&mut bits);
        prop_assert!(model.is_subset(&got));
        // A report of an idle log is clean and sends no command.
        prop_assert!(b.report(&mut bits).is_empty());
    }

    /// Without an overflow a report is exact.
    #[test]
    fn reports_are_exact(rounds in prop::collection::vec(
        prop::collection::vec((0u64..500, 1u64..5), 0..40), 1..6)) {
        let mut b = Bench::new(10, 512);
        for writes in rounds {
            let mut model = BTreeSet::new();
            for (page, pages) in writes {
                b.write(page, pages);
                model.extend(page..page + pages);
            }
            prop_assert_eq!(b.report(&mut BTreeSet::new()), model);
        }
    }
}

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
    b.to_marker(&mut bits);
    b.write(9, 1);
    assert_eq!(b.log.posted(None), 3, "9 is still filtered");
    b.write(3, 1);
    assert_eq!(b.log.posted(None), 4);
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
        ranges: vec![(0, 1 << 20)],
    };
    log.start(&params).unwrap();
    assert_eq!(log.start(&params), Err(Status::Busy));
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
    b.to_marker(&mut bits);
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
