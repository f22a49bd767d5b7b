// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The log engine against a driver that follows the contract and a model of memory.

mod concurrent;
mod hold;
mod recent;
mod rules;
mod sabotage;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use dlr_abi::abi;
use dlr_core::{DataFunction, DirtySink, Sabotage, SabotageKind};
use proptest::prelude::*;

use super::*;
use crate::testing::{TestInterrupt, TestMemory};

const RING: u64 = 0x1000;
const PAGE: u64 = 4096;

struct Bench {
    memory: Arc<TestMemory>,
    interrupt: Arc<TestInterrupt>,
    sabotage: Arc<Sabotage>,
    log: Arc<LogEngine>,
    order: u32,
    head: u32,
    cookie: u64,
    tracked: u64,
}

impl Bench {
    /// A log with a ring of `1 << order` slots that tracks pages `0..tracked`.
    fn new(order: u32, tracked: u64) -> Self {
        Self::of_granules(order, tracked, 12)
    }

    /// The same with granules of `1 << page_shift` bytes.
    fn of_granules(order: u32, tracked: u64, page_shift: u32) -> Self {
        let memory = TestMemory::new(0x10_000);
        let interrupt = Arc::new(TestInterrupt::default());
        let sabotage = Arc::new(Sabotage::default());
        let log = Arc::new(LogEngine::new(
            memory.clone(),
            interrupt.clone(),
            sabotage.clone(),
            Arc::default(),
        ));
        let params = LogParams {
            ring: RING,
            order,
            vector: 3,
            threshold: 1 << (order - 1),
            page_shift,
            hold: Duration::ZERO,
            ranges: vec![(0, tracked << page_shift)],
        };
        log.start(None, &params).unwrap();
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
        self.drain_of(None, bits)
    }

    fn drain_of(&mut self, function: Option<&dyn DataFunction>, bits: &mut BTreeSet<u64>) -> bool {
        let posted = self.log.posted(function);
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
        self.sync_of(None, range)
    }

    fn sync_of(
        &mut self,
        function: Option<&dyn DataFunction>,
        range: SyncRange,
    ) -> Result<(), Status> {
        self.cookie += 1;
        let deadline = Instant::now() + Duration::from_millis(20);
        let cookie = self.cookie;
        self.log.sync(function, range, cookie, deadline, &|| true)
    }

    /// Consumes to the marker; true when LOST stood before it.
    fn consume_to_marker(&mut self, bits: &mut BTreeSet<u64>) -> bool {
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
        self.report_with(None, bits)
    }

    /// A REPORT while `function` runs.
    fn report_of(
        &mut self,
        function: &dyn DataFunction,
        bits: &mut BTreeSet<u64>,
    ) -> BTreeSet<u64> {
        self.report_with(Some(function), bits)
    }

    fn report_with(
        &mut self,
        function: Option<&dyn DataFunction>,
        bits: &mut BTreeSet<u64>,
    ) -> BTreeSet<u64> {
        let mut lost = self.drain_of(function, bits);
        if !lost && !bits.is_empty() {
            let length = self.tracked * PAGE;
            let part = SyncRange::Part { iova: 0, length };
            lost = match self.sync_of(function, part) {
                Ok(()) => self.consume_to_marker(bits),
                // The ring filled up before the marker: as with LOST.
                Err(_) => true,
            };
        }
        while lost {
            // Room for the marker, then all of it again.
            self.drain_of(function, bits);
            if self.sync_of(function, SyncRange::All).is_ok() {
                self.consume_to_marker(bits);
                bits.extend(0..self.tracked);
                lost = false;
            }
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
                        b.consume_to_marker(&mut bits);
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
