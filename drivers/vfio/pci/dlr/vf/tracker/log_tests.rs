// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the log and its lock, on a fake device.

use kernel::prelude::*;

#[kunit_tests(dlr_vf_logging)]
mod tests {
    use super::super::log_fake::{
        report,
        start,
        started,
        stop,
        with,
        Fake,
        User, //
    };
    use crate::{
        kext::testing::UserMemory,
        vfio::{
            dirty::tracker::Notify,
            iova_bitmap::{
                tells_errors,
                IovaRange, //
            },
            user_bitmap::UserBitmap, //
        },
    };
    use kernel::{
        page::PAGE_SIZE,
        prelude::*,
        sync::atomic::Relaxed, //
    };

    #[test]
    fn l1_poison_counts_from_the_start_of_the_device_on() -> Result {
        let fake = Fake::new()?;
        let log = started(&fake)?;
        log.poison();
        assert_eq!(report(&log, &fake, || Ok(())), Err(EIO));
        stop(&log, &fake)?;
        // A `poison` before START concerns another log.
        log.poison();
        start(&log, &fake)?;
        assert_eq!(report(&log, &fake, || Ok(())), Ok(0));
        stop(&log, &fake)?;
        // A `poison` while the device starts concerns this log.
        *fake.0.victim.lock() = Some(log.clone());
        assert_eq!(start(&log, &fake), Err(EIO));
        // Nothing is left of that log.
        assert!(!log.is_active());
        start(&log, &fake)?;
        assert_eq!(report(&log, &fake, || Ok(())), Ok(0));
        stop(&log, &fake)
    }

    /// A report asks for more than the ranges of START, and the device cannot track it.
    #[test]
    fn what_the_device_has_no_room_for_is_always_dirty() -> Result {
        let fake = Fake::new()?;
        let log = started(&fake)?;
        fake.0.full.store(true, Relaxed);
        let beyond = IovaRange::new(1 << 30, 16 << 12)?;
        for _ in 0..3 {
            let mut user = User {
                bytes: 0,
                during: || Ok(()),
            };
            with(&fake, |cx| log.report(cx, beyond, &mut user))?;
            assert_eq!(user.bytes, 16 << 12);
        }
        assert_eq!(report(&log, &fake, || Ok(())), Ok(0));
        stop(&log, &fake)
    }

    #[test]
    fn a_sync_that_posts_no_marker_ends_the_log() -> Result {
        let fake = Fake::new()?;
        let log = started(&fake)?;
        fake.write();
        fake.0.silent.store(true, Relaxed);
        assert_eq!(report(&log, &fake, || Ok(())), Err(EIO));
        fake.0.silent.store(false, Relaxed);
        assert_eq!(report(&log, &fake, || Ok(())), Err(EIO));
        stop(&log, &fake)
    }

    #[test]
    fn h2_an_interrupt_in_a_harvest_neither_waits_nor_drains() -> Result {
        let fake = Fake::new()?;
        let log = started(&fake)?;
        fake.write();
        let told = report(&log, &fake, || {
            fake.write();
            // This would hang if `ready` or `snapshot` waited for the log lock.
            log.ready();
            assert_eq!(fake.waiting(), 1);
            assert!(log.snapshot().is_some());
            Ok(())
        })?;
        assert_eq!(told, 4096);
        // The thread of the report has drained after it had released the lock.
        assert_eq!(fake.waiting(), 0);
        assert_eq!(log.snapshot().map(|s| s.waiting), Some(1));
        assert_eq!(report(&log, &fake, || Ok(())), Ok(4096));
        assert_eq!(report(&log, &fake, || Ok(())), Ok(0));
        stop(&log, &fake)?;
        assert!(log.snapshot().is_none());
        log.ready();
        Ok(())
    }

    #[test]
    fn m2_a_report_that_is_cut_short_fails_and_forgets_nothing() -> Result {
        let fake = Fake::new()?;
        let log = started(&fake)?;
        for _ in 0..3 {
            fake.write();
        }
        for error in [EINTR, EFAULT, ENOMEM] {
            assert_eq!(report(&log, &fake, || Err(error)), Err(error));
        }
        assert_eq!(report(&log, &fake, || Ok(())), Ok(3 * 4096));
        assert_eq!(report(&log, &fake, || Ok(())), Ok(0));
        stop(&log, &fake)
    }

    /// Uses real user memory. The layer "upstream" of Documentation/testing.rst injects the
    /// failures while it runs this suite again. A core that does not report them loses the bits
    /// that it could not set.
    #[test]
    fn m2_what_could_not_be_pinned_is_told_by_the_next_report() -> Result {
        let fake = Fake::new()?;
        let log = started(&fake)?;
        // The last bit of a page, and the first bit of the next page.
        fake.0.consumed.store(0x7fff, Relaxed);
        fake.0.posted.store(0x8001, Relaxed);
        let range = IovaRange::new(0, 1 << 30)?;
        let memory = UserMemory::new(8 * PAGE_SIZE)?;
        let mut tries = 0;
        loop {
            let mut bitmap = UserBitmap::new(range, &memory)?;
            match with(&fake, |cx| log.report(cx, range, &mut bitmap.sink())) {
                Err(error) if tries < 8 => {
                    assert_eq!(error, ENOMEM);
                    assert!(tells_errors());
                    tries += 1;
                }
                result => break result?,
            }
        }
        let bytes = memory.read()?;
        assert_eq!(
            bytes.get(PAGE_SIZE - 1..PAGE_SIZE + 1),
            Some(&[0x80, 0x01][..])
        );
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 2);
        assert_eq!(report(&log, &fake, || Ok(())), Ok(0));
        pr_info!("pinning failed {tries} times\n");
        stop(&log, &fake)
    }

    #[test]
    fn m2_a_bitmap_that_is_unmapped_fails_the_report_where_the_core_tells() -> Result {
        let fake = Fake::new()?;
        let log = started(&fake)?;
        fake.write();
        let range = IovaRange::new(0, 1 << 30)?;
        let mut memory = UserMemory::new(8 * PAGE_SIZE)?;
        memory.truncate(0)?;
        let mut bitmap = UserBitmap::new(range, &memory)?;
        let told = with(&fake, |cx| log.report(cx, range, &mut bitmap.sink()));
        let lost = if tells_errors() {
            assert_eq!(told, Err(EFAULT));
            0
        } else {
            assert_eq!(told, Ok(()));
            4096
        };
        assert_eq!(report(&log, &fake, || Ok(())), Ok(4096 - lost));
        stop(&log, &fake)
    }
}
