// SPDX-License-Identifier: GPL-2.0

//! Tests of a log whose hardware or user fails.

use super::{
    tracker::{
        Hw,
        Op,
        Vmm, //
    },
    tracker_tests::{
        pages,
        report,
        start,
        started,
        Log,
        LIMITS,
        P, //
    },
};
use crate::vfio::iova_bitmap::{
    DirtySink,
    IovaRange, //
};
use kernel::prelude::*;

/// A user that is being killed, which only `finish` reports.
struct Killed;

impl DirtySink for Killed {
    fn set_run(&mut self, _iova: u64, _length: u64) -> Result {
        Ok(())
    }

    fn finish(&mut self) -> Result {
        Err(EINTR)
    }
}

#[kunit_tests(vfio_fake_tracker_errors)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stays_until_stop() -> Result {
        for (error, first, later) in [
            (EIO, EIO, EIO),
            (ETIMEDOUT, EIO, EIO),
            (EINTR, EINTR, EIO),
            (ENOTCONN, ENOTCONN, ENOTCONN),
        ] {
            for op in [Op::Collect, Op::Add] {
                let hw = Hw::new(LIMITS)?;
                let log = started(&hw, 0, 16)?;
                hw.with(|s| s.fail = Some((op, error)));
                assert_eq!(pages(&log, &hw).err(), Some(first));
                hw.with(|s| s.fail = None);
                for _ in 0..2 {
                    assert_eq!(pages(&log, &hw).err(), Some(later));
                }
                assert_eq!(log.snapshot().map(|s| s.error), Some(later.to_errno()));
                assert_eq!(log.stop(&hw), Ok(()));
                assert_eq!(start(&log, &hw, &[(0, 32 * P)], P), Ok(P));
                assert!(pages(&log, &hw)?.is_empty());
                log.stop(&hw)?;
            }
        }
        Ok(())
    }

    /// A report without memory for its commands marks all of its range.
    #[test]
    fn m5_without_memory_all_that_was_asked_about_is_dirty_and_stays_so() -> Result {
        let hw = Hw::new(LIMITS)?;
        let log = started(&hw, 0, 32)?;
        hw.write(3);
        hw.with(|s| s.fail = Some((Op::Collect, ENOMEM)));
        for _ in 0..2 {
            assert_eq!(report(&log, &hw, 0, 16 * P)?.len(), 16);
        }
        assert_eq!(log.snapshot().map(|s| s.error), Some(0));
        hw.write(20);
        hw.with(|s| s.fail = None);
        assert_eq!(report(&log, &hw, 0, 16 * P)?.len(), 16);
        assert_eq!(&*pages(&log, &hw)?, &[20]);
        log.stop(&hw)
    }

    #[test]
    fn hardware_that_names_what_is_not_tracked_is_not_believed() -> Result {
        let hw = Hw::new(LIMITS)?;
        let log = started(&hw, 0, 16)?;
        hw.with(|s| s.ranges.push((0, 32 * P), GFP_KERNEL).is_ok());
        hw.write(20);
        assert_eq!(report(&log, &hw, 0, 16 * P).err(), Some(EIO));
        assert_eq!(report(&log, &hw, 0, 16 * P).err(), Some(EIO));
        log.stop(&hw)
    }

    /// A failure of user memory does not make the log incomplete.
    #[test]
    fn m2_a_report_that_is_cut_short_has_cleared_nothing() -> Result {
        let hw = Hw::new(LIMITS)?;
        let log = started(&hw, 0, 32)?;
        for page in [1, 3, 5] {
            hw.write(page);
        }
        for error in [EINTR, EFAULT, ENOMEM] {
            for room in 0..3 {
                let mut vmm = Vmm::new(&hw);
                vmm.room = (room, error);
                let range = vmm.ask(0, 32 * P)?;
                assert_eq!(log.report(&hw, range, &mut vmm), Err(error));
            }
        }
        assert_eq!(&*pages(&log, &hw)?, &[1, 3, 5]);
        log.stop(&hw)
    }

    #[test]
    fn a_report_whose_user_is_killed_has_cleared_nothing() -> Result {
        let hw = Hw::new(LIMITS)?;
        let log = started(&hw, 0, 32)?;
        hw.write(7);
        let all = IovaRange::new(0, 32 * P)?;
        assert_eq!(log.report(&hw, all, &mut Killed), Err(EINTR));
        assert_eq!(&*pages(&log, &hw)?, &[7]);
        log.stop(&hw)
    }

    #[test]
    fn l1_poison_counts_from_start_on() -> Result {
        let hw = Hw::new(LIMITS)?;
        let log = started(&hw, 0, 32)?;
        log.poison();
        for _ in 0..2 {
            assert_eq!(pages(&log, &hw).err(), Some(EIO));
        }
        log.stop(&hw)?;
        // An error before START does not affect the log.
        log.poison();
        assert_eq!(start(&log, &hw, &[(0, 32 * P)], P), Ok(P));
        assert!(pages(&log, &hw)?.is_empty());
        log.stop(&hw)?;
        // An error while the hardware starts fails START.
        hw.with(|s| s.during = Some((Op::Start, poison)));
        assert_eq!(start(&log, &hw, &[(0, 32 * P)], P), Err(EIO));
        assert!(!log.is_active());
        assert!(!hw.with(|s| s.running));
        assert_eq!(start(&log, &hw, &[(0, 32 * P)], P), Ok(P));
        log.stop(&hw)
    }

    /// A tracker in the function has nothing after the reset of the bus, which may still come when
    /// the error has been told, and for which there is no callback.
    #[test]
    fn s17_no_log_starts_between_an_error_of_the_channel_and_a_reset() -> Result {
        let hw = Hw::new(LIMITS)?;
        // Without a log, and with one.
        for active in [false, true] {
            let log = Log::new(0)?;
            if active {
                assert_eq!(start(&log, &hw, &[(0, 32 * P)], P), Ok(P));
            }
            log.lose();
            if active {
                assert_eq!(pages(&log, &hw).err(), Some(EIO));
                log.stop(&hw)?;
            }
            for _ in 0..2 {
                assert_eq!(start(&log, &hw, &[(0, 32 * P)], P), Err(EIO));
            }
            assert!(!log.is_active() && !hw.with(|s| s.running));
            log.reset_done();
            assert_eq!(start(&log, &hw, &[(0, 32 * P)], P), Ok(P));
            hw.write(7);
            assert_eq!(&*pages(&log, &hw)?, &[7]);
            // The reset does not bring back what an error has taken.
            log.lose();
            log.reset_done();
            assert_eq!(pages(&log, &hw).err(), Some(EIO));
            log.stop(&hw)?;
        }
        Ok(())
    }

    /// A report that runs while the hardware loses its log fails, too: the last report of a
    /// migration has no later one that could fail instead.
    #[test]
    fn poison_beside_a_report_fails_it_and_all_later_ones() -> Result {
        for op in [Op::Add, Op::Collect] {
            let hw = Hw::new(LIMITS)?;
            let log = started(&hw, 0, 16)?;
            hw.with(|s| s.during = Some((op, lose)));
            hw.write(3);
            for _ in 0..2 {
                assert_eq!(pages(&log, &hw).err(), Some(EIO));
            }
            log.stop(&hw)?;
        }
        // The same while the report is written to user memory.
        let hw = Hw::new(LIMITS)?;
        let log = started(&hw, 0, 32)?;
        hw.write(3);
        let mut vmm = Vmm::new(&hw);
        vmm.during = Some(poison);
        let range = vmm.ask(0, 32 * P)?;
        assert_eq!(log.report(&hw, range, &mut vmm), Err(EIO));
        assert_eq!(pages(&log, &hw).err(), Some(EIO));
        log.stop(&hw)
    }

    #[test]
    fn start_and_stop_that_fail_leave_the_log_off() -> Result {
        let hw = Hw::new(LIMITS)?;
        let log = Log::new(0)?;
        hw.with(|s| s.fail = Some((Op::Start, ENOSPC)));
        assert_eq!(start(&log, &hw, &[(0, 32 * P)], P), Err(ENOSPC));
        assert!(!log.is_active() && log.snapshot().is_none());
        hw.with(|s| s.fail = None);
        assert_eq!(log.stop(&hw), Ok(()));
        assert_eq!(hw.count(Op::Settle), 1);
        assert_eq!(start(&log, &hw, &[(0, 32 * P)], P), Ok(P));
        hw.with(|s| s.fail = Some((Op::Stop, ETIMEDOUT)));
        assert_eq!(log.stop(&hw), Err(ETIMEDOUT));
        assert!(!log.is_active());
        hw.with(|s| s.fail = None);
        assert_eq!(log.stop(&hw), Ok(()));
        assert_eq!(hw.count(Op::Settle), 2);
        Ok(())
    }

    fn poison(hw: &Hw) {
        if let Some(notify) = hw.notify() {
            notify.poison();
        }
    }

    /// The hardware is reset and loses its log.
    fn lose(hw: &Hw) {
        poison(hw);
        hw.forget();
    }
}
