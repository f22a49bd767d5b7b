// SPDX-License-Identifier: GPL-2.0

//! Tests of a device that cannot be reached from the middle of an arc on and later can be again,
//! and of sessions that a reset ends between two steps.

use super::{
    bed::{
        Bed,
        ResetInside,
        ALL,
        STATES, //
    },
    board::{
        Board,
        Fate,
        Hook,
        Op, //
    },
    engine::FakeEngine,
    engine_tests::{
        arcs,
        check_all,
        check_usable,
        ready, //
    },
    user::{
        read,
        write, //
    },
};
use crate::{
    ext::testing::holds,
    vfio::migration::{
        machine::Machine,
        state::{
            Flags,
            ResetCause,
            RunLevel,
            State, //
        }, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Makes a device that cannot be reached from the middle of the arc `from` → `to` on. It has
/// executed the change of the level, whose answer was lost, but not its undo. Returns `None` if the
/// arc does not change the level.
fn adrift(flags: Flags, from: State, to: State) -> Result<Option<Bed>> {
    let bed = ready(flags, from)?;
    bed.board.with(|d| {
        // The first call is `Op::Attach`.
        let at = d.calls.len() + 1;
        d.fail = Some((at, 1, Fate::Unanswered, ENOTCONN));
        d.gone_from = Some(at + 1);
    });
    let result = bed.request(to);
    let home = bed.board.with(|d| Some(d.level) == from.level());
    if home || result.is_ok() {
        return Ok(None);
    }
    holds(result == Err(ENOTCONN))?;
    holds(bed.state() == from)?;
    Ok(Some(bed))
}

#[kunit_tests(vfio_fake_drift)]
mod tests {
    use super::*;

    /// The next request that reaches the device undoes such an arc, whatever state it asks for.
    /// Before that, a request for the present state fails.
    #[test]
    fn h5_an_arc_that_cannot_be_taken_back_is_when_the_device_is_there_again() -> Result {
        let mut drifts = 0;
        for (flags, from, to) in arcs() {
            for target in STATES {
                let Some(bed) = adrift(flags, from, to)? else {
                    continue;
                };
                drifts += 1;
                assert_eq!(bed.request(from), Err(ENOTCONN));
                bed.board.with(|d| d.gone_from = None);
                let result = bed.request(target);
                if result != Err(EINVAL) {
                    assert!(result.is_ok());
                    assert_eq!(bed.state(), target);
                    check_all(&bed)?;
                }
                check_usable(&bed, false)?;
            }
        }
        assert!(drifts > 0);
        Ok(())
    }

    /// The same with a save session, which the user can end while the device cannot be reached.
    #[test]
    fn h5_a_session_ends_though_its_arc_could_not_be_taken_back() -> Result {
        let Some(bed) = adrift(ALL, State::PreCopy, State::PreCopyP2p)? else {
            return Err(EINVAL);
        };
        assert_eq!(bed.request(State::Running), Err(ENOTCONN));
        assert_eq!(bed.state(), State::Running);
        assert!(bed.save().is_err());
        bed.board.with(|d| d.gone_from = None);
        assert_eq!(bed.request(State::Running), Ok(false));
        assert_eq!(bed.board.with(|d| d.level), RunLevel::Running);
        check_usable(&bed, false)
    }

    /// Calls reach the device after a reset of the function, and then it cannot be reached. Their
    /// effect is undone when it can be reached again.
    #[test]
    fn h5_a_reset_that_an_arc_has_raced_is_recovered_from_when_the_device_is_back() -> Result {
        for (flags, from, to) in arcs() {
            for at in 0..2 {
                let bed = ready(flags, from)?;
                let now = bed.board.with(|d| d.calls.len());
                let hook = ResetInside(bed.machine.clone(), bed.board.clone());
                bed.board.during(now + at, KBox::new(hook, GFP_KERNEL)?);
                bed.board.with(|d| d.gone_from = Some(now + at + 1));
                let _ = bed.request(to);
                assert_eq!(bed.state(), State::Running);
                assert_eq!(bed.request(State::Running), Err(ENOTCONN));
                bed.board.with(|d| d.gone_from = None);
                assert_eq!(bed.request(State::Running), Ok(false));
                check_all(&bed)?;
                check_usable(&bed, false)?;
            }
        }
        Ok(())
    }

    /// A session that ends after it has checked that it has not ended makes no call any more: the
    /// device may have the next session by then.
    #[test]
    fn l2_a_session_that_has_ended_does_not_reach_the_device() -> Result {
        for (state, op) in [
            (State::PreCopy, Op::Read),
            (State::StopCopy, Op::Read),
            (State::Resuming, Op::Write),
        ] {
            let bed = Bed::new(ALL, b"a state of some bytes")?;
            // In STOP_COPY reads start at once if there is room.
            bed.board.with(|d| d.room = 0);
            bed.request(state)?;
            bed.board.with(|d| d.room = u32::MAX);
            let hook = ResetInside(bed.machine.clone(), bed.board.clone());
            bed.board.before_next(KBox::new(hook, GFP_KERNEL)?);
            let ended = match state {
                State::Resuming => write(&*bed.load()?, b"x").map(drop),
                _ => read(&*bed.save()?, 5).map(drop),
            };
            assert_eq!(ended, Err(ENODEV));
            assert!(!bed.board.with(|d| d.calls.contains(&op)));
        }
        Ok(())
    }

    /// After an error of the channel the reset of the bus ends the session on the device. A write
    /// at that time fails with `EIO`, whatever the device answers.
    #[test]
    fn m1_a_write_beside_an_error_of_the_channel_says_so() -> Result {
        let bed = Bed::at(ALL, State::Resuming)?;
        let hook = ChannelFails(bed.machine.clone(), bed.board.clone());
        bed.board.before_next(KBox::new(hook, GFP_KERNEL)?);
        assert_eq!(write(&*bed.load()?, b"x"), Err(EIO));
        Ok(())
    }

    /// A hook with an error of the channel and the reset that follows, for which the driver gets no
    /// callback.
    struct ChannelFails(Arc<Machine<FakeEngine>>, Arc<Board>);

    impl Hook for ChannelFails {
        fn run(&self) {
            self.0.poison();
            self.1.reset();
        }
    }

    /// Neither the close nor the next open can reset the function, so the device is as its last
    /// user has left it.
    #[test]
    fn h5_a_device_that_cannot_be_reset_runs_for_its_next_user() -> Result {
        for from in STATES {
            for reachable in [true, false] {
                let bed = Bed::at(ALL, from)?;
                bed.reset_for(ResetCause::Close);
                if !reachable {
                    bed.board.with(|d| d.gone_from = Some(d.calls.len()));
                }
                bed.reset_for(ResetCause::Open { reset: false });
                assert_eq!(bed.state(), State::Running);
                if !reachable {
                    assert_eq!(bed.request(State::Running), Err(ENOTCONN));
                    bed.board.with(|d| d.gone_from = None);
                }
                bed.request(State::Running)?;
                check_all(&bed)?;
                check_usable(&bed, false)?;
            }
        }
        Ok(())
    }

    /// A reset by itself takes the device to RUNNING.
    #[test]
    fn h5_a_reset_ends_what_an_arc_has_left() -> Result {
        let Some(bed) = adrift(ALL, State::RunningP2p, State::Stop)? else {
            return Err(EINVAL);
        };
        bed.reset();
        bed.board.with(|d| d.gone_from = None);
        let before = bed.board.with(|d| d.calls.len());
        assert_eq!(bed.request(State::Running), Ok(false));
        assert_eq!(bed.board.with(|d| d.calls.len()), before);
        check_all(&bed)?;
        Ok(())
    }
}
