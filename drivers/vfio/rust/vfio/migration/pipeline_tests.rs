// SPDX-License-Identifier: GPL-2.0

//! Tests of [`pipeline`](super::pipeline).

use super::{
    accounting::Pending,
    pipeline::{
        Delivered,
        Next,
        Pipeline, //
    },
};
use crate::vfio::migration_file::Readiness;
use kernel::prelude::*;

#[kunit_tests(vfio_migration_pipeline)]
mod tests {
    use super::*;

    type Test = Pipeline<u32, u32>;

    const CAPACITY: usize = 100;

    fn delivered(bytes: usize, last: bool) -> Result<Delivered> {
        Ok(Delivered { bytes, last })
    }

    #[test]
    fn two_reads_ahead_while_the_guest_runs_and_all_when_it_stands() -> Result {
        assert_eq!(start(&mut begun(8, false)?), 2);
        assert_eq!(start(&mut begun(8, true)?), 8);
        Ok(())
    }

    /// While the run level changes, a reader starts no read (contract D17).
    #[test]
    fn no_read_is_started_while_held() -> Result {
        for stopped in [false, true] {
            let mut pipeline = begun(4, stopped)?;
            pipeline.pause_reads();
            assert_eq!(start(&mut pipeline), 0);
            assert!(matches!(pipeline.next(), Next::Change));
            pipeline.resume_reads();
            assert!(start(&mut pipeline) > 0);
        }
        Ok(())
    }

    /// Only the end of a read in flight makes the file readable.
    #[test]
    fn poll_is_quiet_while_reads_are_in_flight() -> Result {
        for stopped in [false, true] {
            let mut pipeline = begun(2, stopped)?;
            start(&mut pipeline);
            assert_eq!(pipeline.readiness(), Readiness::Idle);
            pipeline.ended(delivered(10, false));
            assert_eq!(pipeline.readiness(), Readiness::Readable);
            pipeline.consume(10);
            assert_eq!(pipeline.readiness(), Readiness::Idle);
        }
        Ok(())
    }

    /// When all is read, `poll()` is idle in pre-copy, and readable at the end of the stream.
    #[test]
    fn poll_is_quiet_without_news_and_readable_at_the_end() -> Result {
        for (stopped, want) in [(false, Readiness::Idle), (true, Readiness::Readable)] {
            let mut pipeline = begun(2, stopped)?;
            start(&mut pipeline);
            pipeline.ended(delivered(0, true));
            pipeline.ended(delivered(0, true));
            assert_eq!(pipeline.readiness(), want);
            assert_eq!(pipeline.waits_for_news(), !stopped);
            assert_eq!(start(&mut pipeline), 0);
        }
        let mut pipeline = begun(2, false)?;
        start(&mut pipeline);
        pipeline.ended(delivered(0, true));
        pipeline.ended(delivered(0, true));
        pipeline.expect_more();
        assert_eq!(pipeline.readiness(), Readiness::Readable);
        assert_eq!(start(&mut pipeline), 2);
        assert_eq!(pipeline.readiness(), Readiness::Idle);
        Ok(())
    }

    /// No event wakes a poller that waits for room, so `poll()` must not be idle.
    #[test]
    fn poll_does_not_sleep_for_want_of_room() -> Result {
        let pipeline = begun(2, true)?;
        assert!(matches!(pipeline.next(), Next::Room));
        assert_eq!(pipeline.readiness(), Readiness::Readable);
        Ok(())
    }

    #[test]
    fn a_failure_comes_after_what_did_arrive() -> Result {
        let mut pipeline = begun(4, true)?;
        start(&mut pipeline);
        pipeline.ended(delivered(7, false));
        for _ in 0..3 {
            pipeline.ended(Err(ETIMEDOUT));
        }
        assert!(matches!(pipeline.next(), Next::Data { from: 0, to: 7, .. }));
        pipeline.consume(7);
        assert!(matches!(pipeline.next(), Next::Failed(e) if e == ETIMEDOUT));
        assert_eq!(start(&mut pipeline), 0);
        assert_eq!(pipeline.readiness(), Readiness::Readable);
        Ok(())
    }

    /// Data after a failed read is not delivered.
    #[test]
    fn what_arrives_after_a_failure_is_dropped() -> Result {
        let mut pipeline = begun(4, true)?;
        start(&mut pipeline);
        pipeline.ended(delivered(7, false));
        pipeline.ended(Err(ENOMEM));
        pipeline.ended(delivered(9, true));
        pipeline.consume(7);
        assert!(matches!(pipeline.next(), Next::Read(_)));
        pipeline.ended(delivered(0, true));
        assert!(matches!(pipeline.next(), Next::Failed(e) if e == ENOMEM));
        assert_eq!(pipeline.unread(), 0);
        Ok(())
    }

    #[test]
    fn answers_that_make_no_sense_are_failures() -> Result {
        for told in [delivered(CAPACITY + 1, false), delivered(0, false)] {
            let mut pipeline = begun(2, true)?;
            start(&mut pipeline);
            pipeline.ended(told);
            pipeline.ended(delivered(0, true));
            assert!(matches!(pipeline.next(), Next::Failed(e) if e == EIO));
            assert_eq!(pipeline.unread(), 0);
        }
        Ok(())
    }

    #[test]
    fn the_final_part_follows_pre_copy() -> Result {
        let mut pipeline = begun(4, false)?;
        start(&mut pipeline);
        pipeline.ended(delivered(CAPACITY, false));
        pipeline.ended(delivered(0, true));
        assert!(matches!(pipeline.next(), Next::Data { .. }));
        pipeline.finish();
        assert_eq!(start(&mut pipeline), 3);
        pipeline.consume(CAPACITY);
        assert!(matches!(pipeline.next(), Next::Read(_)));
        Ok(())
    }

    #[test]
    fn the_end_is_final() -> Result {
        let mut pipeline = begun(2, true)?;
        start(&mut pipeline);
        drop(pipeline.end());
        assert!(pipeline.is_dead());
        assert!(matches!(pipeline.next(), Next::Dead));
        assert_eq!(start(&mut pipeline), 0);
        assert_eq!(pipeline.readiness(), Readiness::Dead);
        Ok(())
    }

    // `assert!` is that of KUnit from the first test on.

    fn begun(buffers: u32, stopped: bool) -> Result<Test> {
        let mut all = KVec::new();
        for buffer in 0..buffers {
            all.push(buffer, GFP_KERNEL)?;
        }
        let mut pipeline = Test::new(all, CAPACITY)?;
        assert!(pipeline.wants_read().is_none());
        assert_eq!(pipeline.readiness(), Readiness::Dead);
        pipeline.begin(&Pending::default(), stopped);
        Ok(pipeline)
    }

    /// Starts all reads that are wanted and returns their number.
    fn start(pipeline: &mut Test) -> u32 {
        let mut count = 0;
        while let Some((_, fin)) = pipeline.wants_read() {
            assert_eq!(fin, pipeline.is_stopped());
            pipeline.started(count);
            count += 1;
        }
        count
    }
}
