// SPDX-License-Identifier: GPL-2.0

//! Tests of a log session against the model of the device: with a write at each moment of each
//! call, the copy of the VMM must equal the memory in the end.

use super::{
    model::{
        Broken,
        Model,
        Setup,
        Write,
        GRANULES,
        NEVER, //
    },
    model_vmm::Vmm,
    tracker::{
        Context,
        RingParams,
        RingShared,
        RingTracker, //
    },
};
use crate::{
    ext::testing::holds,
    vfio::{
        dirty::{
            session::{
                Session,
                Told, //
            },
            stats::LogStats,
            tracker::Tracker, //
        },
        iova_bitmap::IovaRange,
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Returns the state that all logs of one model share.
pub(super) fn shared() -> Result<Arc<RingShared>> {
    RingShared::new(c"model", RingParams { order: 4 })
}

/// Starts a log.
pub(super) fn start<'a>(
    cx: &Context<'_, &'a Model>,
    ranges: &[IovaRange],
    page_size: u64,
) -> Result<Session<RingTracker<&'a Model>>> {
    Session::start(cx, &RingTracker::limits(cx)?, ranges, page_size, 0, None)
}

/// Variation of a run.
#[derive(Clone, Copy)]
struct Course {
    /// An interrupt drains between two reports.
    interrupt: bool,
    /// Every other report is cut short after this many runs.
    cut: Option<u32>,
}

/// No interrupts, and no report is cut short.
const STRAIGHT: Course = Course {
    interrupt: false,
    cut: None,
};

/// Reports while the function writes at the moments of `writes`, then the last one. Returns the
/// number of moments and whether the copy is complete.
///
/// The first granule is not in the ranges of START: a report has to add it.
fn run(setup: Setup, writes: [Write; 2], course: Course) -> Result<(u32, bool)> {
    let model = Model::new(setup, writes)?;
    let all = setup.halves(0, 2 * GRANULES as u64)?;
    let mut vmm = Vmm {
        model: &model,
        copy: [0; 2 * GRANULES],
        asked: all,
        room: u32::MAX,
    };
    let stats = LogStats::new();
    let started = [setup.halves(2, 2 * (setup.reach as u64 - 1))?];
    let (find, shared) = (|| Ok(&model), shared()?);
    let cx = Context::new(&find, &shared);
    let mut log = start(&cx, &started, 1 << setup.shift)?;
    // Ranges as VMMs ask for them, some of them not aligned to granules.
    let asked = [(0, 4), (4, 4), (1, 5), (3, 4), (0, 8)];
    for (n, (first, count)) in asked.into_iter().enumerate() {
        // At least these granules are dirty, so that each report needs a SYNC.
        {
            let mut s = model.state.borrow_mut();
            model.write(&mut s, 2);
            model.write(&mut s, 7);
        }
        vmm.asked = setup.halves(first, count)?;
        vmm.room = course.cut.filter(|_| n % 2 == 0).unwrap_or(u32::MAX);
        let told = log.checked(|l| l.report(&cx, vmm.asked, &mut vmm, &stats))?;
        holds(told == Told::All || course.cut.is_some())?;
        if course.interrupt {
            log.checked(Session::drain)?;
        }
    }
    // The function is stopped.
    let moments = model.state.borrow().moment;
    model.state.borrow_mut().writes = NEVER;
    vmm.asked = all;
    vmm.room = u32::MAX;
    log.checked(|l| l.report(&cx, all, &mut vmm, &stats))?;
    let complete = vmm.copy == model.state.borrow().memory;
    Ok((moments, complete))
}

/// Tries pairs of moments and halves of granules until a write is lost: all of them, or where the
/// processor is emulated one of `sample`.
fn losses(setup: Setup, course: Course, sample: u32) -> Result<u32> {
    let (moments, _) = run(setup, NEVER, course)?;
    // A few more moments, because writes cause entries, and entries have moments.
    for first in 0..moments + 8 {
        // Writes that are further apart fall into different calls.
        for second in first..first + 10 {
            if !cfg!(CONFIG_UML) && (first + second) % sample != 0 {
                continue;
            }
            // Neighbours, which make one entry; one granule twice; the one that START has left out;
            // and both halves of the one that reports cover in part.
            for halves in [(3, 4), (4, 4), (0, 0), (6, 1)] {
                let writes = [(first, halves.0), (second, halves.1)];
                let (_, complete) = run(setup, writes, course)?;
                if !complete {
                    return Ok(1);
                }
            }
        }
    }
    Ok(0)
}

#[kunit_tests(vfio_ring_model)]
mod tests {
    use super::*;

    #[test]
    fn no_write_is_lost_at_any_moment() -> Result {
        for interrupt in [false, true] {
            let course = Course {
                interrupt,
                ..STRAIGHT
            };
            assert_eq!(losses(Setup::PLAIN, course, 1)?, 0);
        }
        Ok(())
    }

    #[test]
    fn no_write_is_lost_with_large_granules() -> Result {
        for shift in [13, 16] {
            let setup = Setup {
                shift,
                ..Setup::PLAIN
            };
            assert_eq!(losses(setup, STRAIGHT, 7)?, 0);
        }
        Ok(())
    }

    #[test]
    fn no_write_is_lost_beyond_the_address_bits_or_ranges() -> Result {
        for (reach, max_ranges) in [(2, 64), (GRANULES, 1), (2, 1)] {
            let setup = Setup {
                reach,
                max_ranges,
                ..Setup::PLAIN
            };
            assert_eq!(losses(setup, STRAIGHT, 7)?, 0);
        }
        Ok(())
    }

    #[test]
    fn l11_all_of_a_space_of_64_bits() -> Result {
        for shift in [12, 16] {
            let setup = Setup {
                shift,
                iova_bits: 64,
                ..Setup::PLAIN
            };
            let model = Model::new(setup, NEVER)?;
            let started = [setup.halves(2, 2 * (GRANULES as u64 - 1))?];
            let (find, shared) = (|| Ok(&model), shared()?);
            let cx = Context::new(&find, &shared);
            let mut log = start(&cx, &started, 1 << shift)?;
            let all = IovaRange::new(0, u64::MAX)?;
            let mut vmm = Vmm {
                model: &model,
                copy: [0; 2 * GRANULES],
                asked: all,
                room: u32::MAX,
            };
            let stats = LogStats::new();
            for _ in 0..2 {
                for half in 0..2 * GRANULES {
                    model.write(&mut model.state.borrow_mut(), half);
                }
                let told = log.checked(|l| l.report(&cx, all, &mut vmm, &stats));
                assert_eq!(told, Ok(Told::All));
                assert_eq!(vmm.copy, model.state.borrow().memory);
            }
        }
        Ok(())
    }

    #[test]
    fn m2_no_write_is_lost_when_reports_are_cut_short() -> Result {
        for cut in 0..3 {
            let course = Course {
                interrupt: true,
                cut: Some(cut),
            };
            assert_eq!(losses(Setup::PLAIN, course, 7)?, 0);
        }
        Ok(())
    }

    #[test]
    fn l3_a_busy_sync_is_tried_again() -> Result {
        for (busy, tries) in [(1, Ok((0, true))), (2, Ok((0, true))), (3, Err(EIO))] {
            let setup = Setup {
                busy,
                ..Setup::PLAIN
            };
            let got = run(setup, NEVER, STRAIGHT).map(|(_, complete)| (0, complete));
            assert_eq!(got, tries);
        }
        let setup = Setup {
            busy: 1,
            ..Setup::PLAIN
        };
        assert_eq!(losses(setup, STRAIGHT, 7)?, 0);
        Ok(())
    }

    #[test]
    fn m5_no_write_is_lost_when_there_is_no_memory_for_a_sync() -> Result {
        for starved in [1, 2, 5, u32::MAX] {
            for interrupt in [false, true] {
                let setup = Setup {
                    starved,
                    ..Setup::PLAIN
                };
                let course = Course {
                    interrupt,
                    ..STRAIGHT
                };
                assert_eq!(losses(setup, course, 7)?, 0);
            }
        }
        Ok(())
    }

    #[test]
    fn m3_no_write_is_lost_when_a_sync_is_given_again() -> Result {
        for later in [0, 1, 2, 5, 9, 20] {
            assert_eq!(broken(Broken::Again(later))?, 0);
        }
        Ok(())
    }

    #[test]
    fn m3_a_marker_too_many_is_an_error() {
        for later in [0, 1, 5] {
            assert_eq!(broken(Broken::Unasked(later)), Err(EIO));
            assert_eq!(broken(Broken::TooOften(later)), Err(EIO));
        }
    }

    #[test]
    fn a_sync_that_posts_no_marker_ends_the_log() {
        assert_eq!(broken(Broken::NoMarker), Err(EIO));
    }

    #[test]
    fn a_late_marker_is_seen() -> Result {
        assert!(broken(Broken::LateMarker)? > 0);
        Ok(())
    }

    #[test]
    fn an_entry_left_on_its_way_is_seen() -> Result {
        assert!(broken(Broken::NoFlush)? > 0);
        Ok(())
    }

    #[test]
    fn a_silent_loss_is_seen() -> Result {
        assert!(broken(Broken::SilentLoss)? > 0);
        Ok(())
    }

    fn broken(broken: Broken) -> Result<u32> {
        let setup = Setup {
            broken,
            ..Setup::PLAIN
        };
        let interrupt = Course {
            interrupt: true,
            ..STRAIGHT
        };
        Ok(losses(setup, STRAIGHT, 1)?.max(losses(setup, interrupt, 1)?))
    }
}
