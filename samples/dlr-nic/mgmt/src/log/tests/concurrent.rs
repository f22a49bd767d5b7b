// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A function that writes, a driver that drains and a VMM that copies, all at once.

use std::sync::{
    atomic::{AtomicBool, AtomicU64, Ordering},
    Mutex,
};

use dlr_core::{FnState, LoadError};

use super::*;

const PAGES: u64 = 256;

/// Guest memory, one word a page, behind the function's DMA gate.
struct Guest {
    gate: Mutex<()>,
    pages: Vec<AtomicU64>,
}

impl Guest {
    fn new() -> Self {
        Self {
            gate: Mutex::new(()),
            pages: (0..PAGES).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn dma(&self, log: &LogEngine, page: u64, value: u64) {
        let _gate = self.gate.lock().unwrap();
        log.before_write(page * PAGE, 8);
        self.pages[page as usize].store(value, Ordering::Relaxed);
        log.dirty(page * PAGE, 8);
    }

    fn copy(&self) -> Vec<u64> {
        let words = self.pages.iter();
        words.map(|p| p.load(Ordering::Relaxed)).collect()
    }
}

impl DataFunction for Guest {
    fn state(&self) -> FnState {
        FnState::Running
    }
    fn suspend(&self, _to: FnState) {}
    fn resume(&self, _to: FnState) {}
    fn quiesced(&self, f: &mut dyn FnMut()) {
        let _gate = self.gate.lock().unwrap();
        f();
    }
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }
    fn load(&self, _state: &[u8]) -> Result<(), LoadError> {
        Ok(())
    }
    fn reset(&self) {}
    fn stats_json(&self) -> String {
        "{}".into()
    }
}

/// Number of pages whose copy is stale after the last report. The ring has `1 << order` slots.
fn stale(order: u32, sabotage: Option<(SabotageKind, u64)>) -> usize {
    let mut bench = Bench::new(order, PAGES);
    let guest = Guest::new();
    if let Some((kind, n)) = sabotage {
        bench.sabotage.set(kind, n);
    }
    let end = AtomicBool::new(false);
    let mut copy = guest.copy();
    std::thread::scope(|scope| {
        let log = bench.log.clone();
        let (guest, end) = (&guest, &end);
        scope.spawn(move || {
            let mut random = 1u64;
            for value in 1.. {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                guest.dma(&log, (random >> 33) % PAGES, value);
                if value % 16 == 0 {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        let mut bits = BTreeSet::new();
        for round in 0..60 {
            if round == 59 {
                // What a suspended function does: nothing more.
                end.store(true, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
            for page in bench.report_of(guest, &mut bits) {
                copy[page as usize] = guest.pages[page as usize].load(Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    });
    let now = guest.copy();
    now.iter().zip(&copy).filter(|(a, b)| a != b).count()
}

#[test]
fn every_page_is_copied_in_the_end() {
    for order in [4, 6, 12] {
        assert_eq!(stale(order, None), 0, "ring of {} slots", 1 << order);
    }
}

#[test]
fn broken_rules_leave_stale_pages() {
    for (order, kind, n) in [
        (12, SabotageKind::DropLogEntry, 3),
        (12, SabotageKind::FilterNotCleared, 1),
        (4, SabotageKind::LostNotPosted, 1),
        (12, SabotageKind::MarkerTooEarly, 5),
    ] {
        // On a busy machine the writer may sleep through the moment that matters.
        let noticed = (0..20).any(|_| stale(order, Some((kind, n))) != 0);
        assert!(noticed, "{kind}");
    }
}
