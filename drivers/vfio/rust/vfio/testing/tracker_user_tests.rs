// SPDX-License-Identifier: GPL-2.0

//! Tests of reports into real user memory, and of those that look at a report under way.

use super::{
    tracker::Hw,
    tracker_tests::{
        report,
        started,
        Log,
        LIMITS,
        P, //
    },
};
use crate::{
    ext::testing::{
        holds,
        UserMemory, //
    },
    vfio::{
        dirty::tracker::{
            Limits,
            Notify, //
        },
        iova_bitmap::{
            tells_errors,
            DirtySink,
            IovaRange, //
        },
        user_bitmap::UserBitmap, //
    },
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};

/// A user at whose memory a report looks at its own log.
struct Witness<'a>(&'a Log);

impl DirtySink for Witness<'_> {
    fn set_run(&mut self, _iova: u64, _length: u64) -> Result {
        // This would hang if `ready` or `snapshot` waited for the log lock.
        self.0.ready();
        holds(self.0.snapshot().is_some())
    }
}

/// Number of pages of the largest report here: one for each bit of eight pages of user memory.
const BITS: u64 = 64 * PAGE_SIZE as u64;

/// Hardware that can track all of them, and the range of that report.
fn wide() -> Result<(Arc<Hw>, IovaRange)> {
    let hw = Hw::new(Limits {
        iova_bits: 48,
        ..LIMITS
    })?;
    Ok((hw, IovaRange::new(0, BITS * P)?))
}

#[kunit_tests(vfio_fake_tracker_user)]
mod tests {
    use super::*;

    #[test]
    fn h2_neither_interrupt_nor_debugfs_waits_for_a_report() -> Result {
        let hw = Hw::new(LIMITS)?;
        let log = started(&hw, 0, 32)?;
        hw.write(4);
        log.report(&hw, IovaRange::new(0, 32 * P)?, &mut Witness(&log))?;
        log.stop(&hw)?;
        // Neither has anything to do without a log.
        assert!(log.snapshot().is_none());
        log.ready();
        Ok(())
    }

    /// The layer "upstream" of Documentation/testing.rst injects the failures while it runs this
    /// suite again. A core that does not report them loses the bits that it could not set.
    #[test]
    fn m2_what_could_not_be_pinned_is_told_by_the_next_report() -> Result {
        let (hw, range) = wide()?;
        let log = started(&hw, 0, BITS)?;
        // The last bit of a page, and the first bit of the next page.
        hw.with(|s| s.base = 8 * PAGE_SIZE as u64 - 1);
        hw.write(0);
        hw.write(1);
        let memory = UserMemory::new(8 * PAGE_SIZE)?;
        let mut tries = 0;
        loop {
            let mut bitmap = UserBitmap::new(range, &memory)?;
            match log.report(&hw, range, &mut bitmap.sink()) {
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
        assert!(report(&log, &hw, 0, range.end())?.is_empty());
        pr_info!("pinning failed {tries} times\n");
        log.stop(&hw)
    }

    #[test]
    fn m2_a_bitmap_that_is_unmapped_fails_the_report_where_the_core_tells() -> Result {
        let (hw, range) = wide()?;
        let log = started(&hw, 0, BITS)?;
        hw.write(3);
        let mut memory = UserMemory::new(8 * PAGE_SIZE)?;
        memory.truncate(0)?;
        let mut bitmap = UserBitmap::new(range, &memory)?;
        let told = log.report(&hw, range, &mut bitmap.sink());
        let left: &[u64] = if tells_errors() {
            assert_eq!(told, Err(EFAULT));
            &[3]
        } else {
            assert_eq!(told, Ok(()));
            &[]
        };
        assert_eq!(&*report(&log, &hw, 0, range.end())?, left);
        log.stop(&hw)
    }
}
