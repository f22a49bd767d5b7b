// SPDX-License-Identifier: GPL-2.0

//! Tests of START, REPORT and STOP on the fake hardware.

use super::tracker::{
    FakeTracker,
    Hw,
    Op,
    Vmm,
    PAGES, //
};
use crate::{
    ext::testing::holds,
    vfio::{
        dirty::{
            log,
            random::Random,
            tracker::Limits, //
        },
        iova_bitmap::IovaRange,
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

pub(super) const LIMITS: Limits = Limits {
    page_shift_min: 12,
    page_shift_max: 16,
    max_ranges: 8,
    iova_bits: 19,
};

/// One page.
pub(super) const P: u64 = 4096;

pub(super) type Log = log::Log<FakeTracker>;

/// Starts a log of the pages `from..to` with a page size of 4 KiB.
pub(super) fn started(hw: &Arc<Hw>, from: u64, to: u64) -> Result<Arc<Log>> {
    let log = Log::new(0)?;
    holds(start(&log, hw, &[(from * P, (to - from) * P)], P) == Ok(P))?;
    Ok(log)
}

pub(super) fn start(
    log: &Arc<Log>,
    hw: &Arc<Hw>,
    ranges: &[(u64, u64)],
    page_size: u64,
) -> Result<u64> {
    let mut all = KVec::new();
    for (iova, length) in ranges {
        all.push(IovaRange::new(*iova, *length)?, GFP_KERNEL)?;
    }
    log.as_arc_borrow().start(hw, &all, page_size)
}

/// Returns the pages that a report of the bytes `from..to` marks.
pub(super) fn report(log: &Log, hw: &Arc<Hw>, from: u64, to: u64) -> Result<KVec<u64>> {
    let mut vmm = Vmm::new(hw);
    let range = vmm.ask(from, to - from)?;
    log.report(hw, range, &mut vmm)?;
    Ok(vmm.told)
}

/// Like [`report`], for all pages below 32.
pub(super) fn pages(log: &Log, hw: &Arc<Hw>) -> Result<KVec<u64>> {
    report(log, hw, 0, 32 * P)
}

#[kunit_tests(vfio_fake_tracker)]
mod tests {
    use super::*;

    /// `VFIO_DEVICE_FEATURE_DMA_LOGGING_START` does not change a log that is active.
    #[test]
    fn start_stop_and_report_in_any_order() -> Result {
        let hw = Hw::new(LIMITS)?;
        let log = Log::new(0)?;
        assert_eq!(pages(&log, &hw).err(), Some(EINVAL));
        assert_eq!(log.stop(&hw), Ok(()));
        assert_eq!(hw.count(Op::Settle), 1);
        assert_eq!(start(&log, &hw, &[(0, 32 * P)], P), Ok(P));
        assert!(log.is_active());
        hw.write(3);
        assert_eq!(start(&log, &hw, &[(0, P)], P), Err(EINVAL));
        assert_eq!(&*pages(&log, &hw)?, &[3]);
        assert_eq!(log.stop(&hw), Ok(()));
        assert!(!log.is_active());
        assert_eq!(pages(&log, &hw).err(), Some(EINVAL));
        assert_eq!((hw.count(Op::Start), hw.count(Op::Stop)), (1, 1));
        // A new log has nothing of the old one.
        assert_eq!(start(&log, &hw, &[(0, 32 * P)], P), Ok(P));
        assert!(pages(&log, &hw)?.is_empty());
        log.stop(&hw)
    }

    /// `page_size` is a hint; the answer is the page size in use.
    #[test]
    fn the_page_size_is_what_comes_nearest() -> Result {
        for (asked, got) in [
            (1, 4096),
            (4096, 4096),
            (8192, 8192),
            (1 << 16, 1 << 16),
            (1 << 21, 1 << 16),
            (1 << 63, 1 << 16),
        ] {
            let hw = Hw::new(LIMITS)?;
            let log = Log::new(0)?;
            assert_eq!(start(&log, &hw, &[(0x1000, 0x1000)], asked), Ok(got));
            // The ranges are widened to whole granules.
            let first = hw.with(|s| (s.ranges[0], 1u64 << s.page_shift));
            assert_eq!(first.1, got);
            assert_eq!(first.0 .0 % got, 0);
            assert_eq!(first.0 .1 % got, 0);
            log.stop(&hw)?;
        }
        let hw = Hw::new(LIMITS)?;
        for size in [0, 3, 4097] {
            assert_eq!(start(&Log::new(0)?, &hw, &[(0, P)], size), Err(EINVAL));
        }
        assert_eq!(hw.count(Op::Start), 0);
        Ok(())
    }

    /// Two ranges that share a granule become one. If there are too many, those with the smallest
    /// gaps are joined, and some ranges stay free for reports.
    #[test]
    fn ranges_are_combined_after_they_are_widened() -> Result {
        let hw = Hw::new(LIMITS)?;
        let log = Log::new(0)?;
        let ranges = [(0x2_1000, 0x1000), (0x1000, 0x1000), (0x4000, 0x1000)];
        assert_eq!(start(&log, &hw, &ranges, 1 << 16), Ok(1 << 16));
        assert_eq!(
            hw.with(|s| s.ranges.len() == 2 && s.ranges[0] == (0, 0x1_0000)),
            true
        );
        log.stop(&hw)?;
        let mut many = KVec::new();
        for i in 0..8 {
            many.push((i * 4 * P + (i % 2) * 2 * P, P), GFP_KERNEL)?;
        }
        assert_eq!(start(&log, &hw, &many, P), Ok(P));
        hw.with(|s| {
            assert!(s.ranges.len() < LIMITS.max_ranges);
            assert!(s.ranges.windows(2).all(|w| w[0].1 < w[1].0));
            for (iova, length) in &many {
                let holds = |r: &(u64, u64)| r.0 <= *iova && iova + length <= r.1;
                assert!(s.ranges.iter().any(holds));
            }
        });
        log.stop(&hw)
    }

    #[test]
    fn what_has_no_address_bits_is_refused_before_the_hardware_starts() -> Result {
        let hw = Hw::new(LIMITS)?;
        let log = Log::new(0)?;
        let end = 1 << LIMITS.iova_bits;
        assert_eq!(start(&log, &hw, &[(end - P, 2 * P)], P), Err(EOPNOTSUPP));
        assert_eq!(hw.count(Op::Start), 0);
        assert_eq!(start(&log, &hw, &[(end - P, P)], P), Ok(P));
        log.stop(&hw)
    }

    #[test]
    fn a_page_is_told_once_and_only_in_its_range() -> Result {
        let hw = Hw::new(LIMITS)?;
        let log = started(&hw, 0, 32)?;
        for page in [0, 1, 9, 31] {
            hw.write(page);
        }
        assert_eq!(&*report(&log, &hw, 0, 8 * P)?, &[0, 1]);
        assert!(report(&log, &hw, 0, 8 * P)?.is_empty());
        assert_eq!(&*pages(&log, &hw)?, &[9, 31]);
        assert!(pages(&log, &hw)?.is_empty());
        let counts = log.stats().counts();
        assert_eq!((counts.reports, counts.clean, counts.pages), (4, 2, 4));
        log.stop(&hw)
    }

    /// The other part of the granule was not reported.
    #[test]
    fn a_granule_that_a_report_covers_in_part_is_told_again() -> Result {
        let hw = Hw::new(LIMITS)?;
        let log = started(&hw, 0, 32)?;
        hw.write(5);
        for _ in 0..2 {
            assert_eq!(&*report(&log, &hw, 5 * P + 100, 5 * P + 200)?, &[5]);
        }
        assert_eq!(&*report(&log, &hw, 5 * P, 6 * P)?, &[5]);
        assert!(report(&log, &hw, 5 * P, 6 * P)?.is_empty());
        log.stop(&hw)
    }

    #[test]
    fn what_start_left_out_is_added_and_dirty_once() -> Result {
        let hw = Hw::new(LIMITS)?;
        let log = started(&hw, 8, 16)?;
        // One report adds both sides of the tracked range.
        assert_eq!(pages(&log, &hw)?.len(), 24);
        assert_eq!(hw.count(Op::Add), 2);
        assert!(pages(&log, &hw)?.is_empty());
        hw.write(2);
        hw.write(12);
        hw.write(20);
        assert_eq!(&*pages(&log, &hw)?, &[2, 12, 20]);
        assert_eq!(hw.count(Op::Add), 2);
        log.stop(&hw)
    }

    #[test]
    fn what_the_hardware_cannot_add_is_always_dirty() -> Result {
        for (error, tries) in [(ENOSPC, 1), (ENOMEM, 3)] {
            let hw = Hw::new(LIMITS)?;
            let log = started(&hw, 8, 16)?;
            hw.with(|s| s.fail = Some((Op::Add, error)));
            for _ in 0..3 {
                assert_eq!(report(&log, &hw, 0, 16 * P)?.len(), 8);
            }
            assert_eq!(hw.count(Op::Add), tries);
            // There is memory again, but no room for ranges.
            hw.with(|s| s.fail = None);
            assert_eq!(report(&log, &hw, 0, 16 * P)?.len(), 8);
            let precise = report(&log, &hw, 0, 16 * P)?.is_empty();
            assert_eq!(precise, error == ENOMEM);
            log.stop(&hw)?;
        }
        // Beyond the address bits the hardware gets no call.
        let hw = Hw::new(LIMITS)?;
        let log = started(&hw, 0, 16)?;
        let top = 1 << LIMITS.iova_bits;
        for _ in 0..2 {
            assert_eq!(report(&log, &hw, top, top + 4 * P)?.len(), 4);
        }
        assert_eq!(hw.count(Op::Add), 0);
        log.stop(&hw)
    }

    /// An interrupt drains between reports and does not wait for one.
    #[test]
    fn h2_an_interrupt_in_a_report_drains_after_it() -> Result {
        let hw = Hw::new(LIMITS)?;
        let log = started(&hw, 0, 32)?;
        hw.write(4);
        hw.notify().ok_or(EINVAL)?.ready();
        assert_eq!(hw.count(Op::Drain), 1);
        // Interrupts come while a report writes to user memory, and during a call of the tracker.
        let mut vmm = Vmm::new(&hw);
        vmm.during = Some(|hw| {
            hw.write(4);
            ready(hw);
            assert_eq!(hw.count(Op::Drain), 1);
        });
        hw.with(|s| s.during = Some((Op::Collect, ready)));
        let range = vmm.ask(0, 32 * P)?;
        log.report(&hw, range, &mut vmm)?;
        assert_eq!(&*vmm.told, &[4]);
        assert_eq!(hw.count(Op::Drain), 2);
        // What the interrupt drained waits for the next report.
        assert_eq!(
            log.snapshot().map(|s| (s.memory != 0, s.tracker)),
            Some((true, true))
        );
        assert_eq!(&*pages(&log, &hw)?, &[4]);
        // The next report returns the error of a drain.
        hw.with(|s| s.fail = Some((Op::Drain, EIO)));
        ready(&hw);
        assert_eq!(pages(&log, &hw).err(), Some(EIO));
        log.stop(&hw)
    }

    /// Writes and reports come at random, and reports fail at random, some for lack of memory.
    /// After a last report the copy of the VMM is correct.
    #[test]
    fn no_write_is_lost_at_random() -> Result {
        for seed in 1..40 {
            let mut random = Random::new(seed);
            let limits = Limits {
                max_ranges: 1 + random.below(4) as usize,
                iova_bits: 18 + random.below(3) as u32,
                page_shift_min: 12 + random.below(3) as u32,
                ..LIMITS
            };
            let hw = Hw::new(limits)?;
            let log = Log::new(0)?;
            start(&log, &hw, &[(8 * P, 16 * P), (40 * P, 8 * P)], P)?;
            let mut vmm = Vmm::new(&hw);
            // The user copies everything once after START.
            vmm.copy = hw.with(|s| s.memory);
            for _ in 0..400 {
                match random.below(6) {
                    0 => ready(&hw),
                    1..=3 => hw.write(random.below(PAGES as u64) as usize),
                    _ => {
                        vmm.room = match random.below(4) {
                            0 => (random.below(3) as u32, EINTR),
                            _ => (u32::MAX, EINTR),
                        };
                        let starved = random.below(4) == 0;
                        hw.with(|s| s.fail = starved.then_some((Op::Collect, ENOMEM)));
                        let from = random.below(PAGES as u64 * 2) * P / 2;
                        let length = 1 + random.below(40 * P);
                        let range = vmm.ask(from, length.min(PAGES as u64 * P - from))?;
                        match log.report(&hw, range, &mut vmm) {
                            Err(error) if error == EINTR => (),
                            result => result?,
                        }
                    }
                }
            }
            vmm.room = (u32::MAX, EINTR);
            hw.with(|s| s.fail = None);
            let all = vmm.ask(0, PAGES as u64 * P)?;
            log.report(&hw, all, &mut vmm)?;
            assert_eq!(vmm.copy, hw.with(|s| s.memory));
            log.stop(&hw)?;
        }
        Ok(())
    }

    fn ready(hw: &Hw) {
        if let Some(notify) = hw.notify() {
            notify.ready();
        }
    }
}
