// SPDX-License-Identifier: GPL-2.0

//! Tests of every arc and every failure, on the fake device.

use super::{
    bed::{
        begin_reset,
        end_reset,
        Bed,
        ResetInside,
        ALL,
        STATES, //
    },
    board::{
        Board,
        Fate,
        Hook,
        Op,
        Session, //
    },
    engine::FakeEngine,
    user::write,
};
use crate::{
    ext::testing::holds,
    vfio::{
        migration::{
            machine::Machine,
            state::{
                Flags,
                ResetCause,
                RunLevel,
                State,
                Transition, //
            },
        },
        migration_file::{
            Readiness,
            Save, //
        },
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Returns the session that a device in `state` has.
fn session(state: State) -> Session {
    match state {
        state if state.has_save() => Session::Save,
        State::Resuming => Session::Load,
        _ => Session::None,
    }
}

/// Checks that the driver has the session of its state.
fn check_sessions(bed: &Bed) -> Result {
    let has = match (bed.save().is_ok(), bed.load().is_ok()) {
        (true, false) => Session::Save,
        (false, true) => Session::Load,
        _ => Session::None,
    };
    holds(has == session(bed.state()))
}

/// Checks that device and driver have the level and the session of the state.
pub(super) fn check_all(bed: &Bed) -> Result {
    check_sessions(bed)?;
    let (level, found) = bed.board.with(|d| (d.level, d.session));
    holds(Some(level) == bed.state().level())?;
    holds(found == session(bed.state()))
}

/// Returns all arcs, including the three for devices without P2P, with the flags of a device that
/// has the arc.
pub(super) fn arcs() -> impl Iterator<Item = (Flags, State, State)> {
    let pairs = STATES
        .into_iter()
        .flat_map(|from| STATES.into_iter().map(move |to| (from, to)));
    pairs.filter_map(|(from, to)| {
        Transition::new(from, to)?;
        let direct = matches!(
            (from, to),
            (State::Running, State::Stop)
                | (State::Stop, State::Running)
                | (State::PreCopy, State::StopCopy)
        );
        let flags = Flags {
            p2p: !direct,
            pre_copy: true,
        };
        Some((flags, from, to))
    })
}

/// Makes a device in `from`. For RESUMING, writes a whole stream, which the arc to STOP needs.
pub(super) fn ready(flags: Flags, from: State) -> Result<Bed> {
    let bed = Bed::at(flags, from)?;
    if from == State::Resuming {
        write(&*bed.load()?, b"new\xff")?;
    }
    Ok(bed)
}

/// Checks that the device can be migrated, after a reset if only that leads to RUNNING.
pub(super) fn check_usable(bed: &Bed, only_reset: bool) -> Result {
    bed.board.with(|d| d.fail = None);
    if only_reset || matches!(bed.state(), State::Error | State::Resuming) {
        bed.reset();
        check_sessions(bed)?;
        holds(bed.state() == State::Running)?;
    } else {
        bed.request(State::Running)?;
    }
    holds(bed.board.with(|d| d.level) == RunLevel::Running)?;
    bed.migrate()?;
    check_all(bed)
}

#[kunit_tests(vfio_fake_engine)]
mod tests {
    use super::*;

    /// Requests every state in every state, with every set of flags.
    #[test]
    fn every_request_ends_where_it_should() -> Result {
        for (p2p, pre_copy) in [(true, true), (true, false), (false, true), (false, false)] {
            let flags = Flags { p2p, pre_copy };
            let offered = |state: State| match state {
                State::RunningP2p => p2p,
                State::PreCopy => pre_copy,
                State::PreCopyP2p => p2p && pre_copy,
                _ => true,
            };
            for from in STATES.into_iter().filter(|s| offered(*s)) {
                for to in STATES {
                    let bed = ready(flags, from)?;
                    check_all(&bed)?;
                    let result = bed.request(to);
                    let possible = offered(to) && !(from == State::StopCopy && to.is_precopy());
                    if possible {
                        let opens = session(to) != Session::None;
                        let same = from == to
                            || (from.is_precopy() && (to.is_precopy() || to == State::StopCopy));
                        assert_eq!(result, Ok(opens && !same));
                        assert_eq!(bed.state(), to);
                    } else {
                        assert_eq!(result, Err(EINVAL));
                        assert_eq!(bed.state(), from);
                    }
                    check_all(&bed)?;
                }
            }
        }
        Ok(())
    }

    /// Each call of each arc fails, executed or not, alone or together with its undo.
    #[test]
    fn every_failure_ends_in_a_state_that_is_true() -> Result {
        for (flags, from, to) in arcs() {
            let calls = {
                let bed = ready(flags, from)?;
                let before = bed.board.with(|d| d.calls.len());
                bed.request(to)?;
                bed.board.with(|d| d.calls.len()) - before
            };
            for at in 0..calls {
                for error in [ETIMEDOUT, EINTR, ENOTCONN, EBUSY] {
                    for (fate, count) in [
                        (Fate::Ignored, 1),
                        (Fate::Unanswered, 1),
                        (Fate::Ignored, 2),
                        (Fate::Unanswered, 2),
                        (Fate::Unanswered, 9),
                    ] {
                        let bed = ready(flags, from)?;
                        bed.board
                            .with(|d| d.fail = Some((d.calls.len() + at, count, fate, error)));
                        let result = bed.request(to);
                        let state = bed.state();
                        check_sessions(&bed)?;
                        let gone = error == ENOTCONN && count > 1;
                        match (result, state) {
                            (Ok(_), state) => assert_eq!(state, to),
                            (Err(_), State::Error) => assert!(count > 1 && !gone),
                            (Err(_), state) => {
                                assert_eq!(state, from);
                                let level = bed.board.with(|d| d.level);
                                assert!(gone || Some(level) == from.level());
                            }
                        }
                        check_usable(&bed, false)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// No read is in flight while the run level changes (contract D17, mutant M03).
    #[test]
    fn d17_a_change_of_the_level_waits_for_the_reads_in_flight() -> Result {
        let bed = Bed::at(ALL, State::PreCopy)?;
        bed.board.with(|d| d.stalls = true);
        // This starts two reads.
        assert_eq!(bed.save()?.readiness(), Readiness::Idle);
        let before = bed.board.with(|d| d.calls.len());
        bed.request(State::PreCopyP2p)?;
        let wanted = [Op::Attach, Op::Read, Op::Read, Op::SetLevel];
        assert!(bed.board.with(|d| d.calls[before..] == wanted));
        Ok(())
    }

    /// After a reset of the function in the middle of each call of each arc the device runs and has
    /// no session.
    #[test]
    fn a_reset_inside_an_arc_leaves_a_running_device() -> Result {
        for (flags, from, to) in arcs() {
            let calls = {
                let bed = ready(flags, from)?;
                let before = bed.board.with(|d| d.calls.len());
                bed.request(to)?;
                bed.board.with(|d| d.calls.len()) - before
            };
            for at in 0..calls {
                let bed = ready(flags, from)?;
                let now = bed.board.with(|d| d.calls.len());
                let hook = ResetInside(bed.machine.clone(), bed.board.clone());
                bed.board.during(now + at, KBox::new(hook, GFP_KERNEL)?);
                let _ = bed.request(to);
                assert_eq!(bed.state(), State::Running);
                check_all(&bed)?;
                let recovered = bed.board.with(|d| d.calls.contains(&Op::Recover));
                assert!(recovered);
                check_usable(&bed, false)?;
            }
        }
        Ok(())
    }

    /// The device is reset twice during an arc, and the next arc comes before the layer hears of
    /// the end of the second reset. Its commands are undone.
    #[test]
    fn an_arc_between_two_resets_leaves_a_running_device() -> Result {
        let bed = Bed::at(ALL, State::RunningP2p)?;
        let now = bed.board.with(|d| d.calls.len());
        let hook = TwoResets(bed.machine.clone(), bed.board.clone());
        bed.board.during(now + 1, KBox::new(hook, GFP_KERNEL)?);
        let _ = bed.request(State::Running);
        assert_eq!(bed.state(), State::Running);
        bed.request(State::Stop)?;
        end_reset(&bed.machine);
        assert_eq!(bed.state(), State::Running);
        check_all(&bed)?;
        check_usable(&bed, false)
    }

    /// A hook with a reset, and with a second one that has not ended yet.
    struct TwoResets(Arc<Machine<FakeEngine>>, Arc<Board>);

    impl Hook for TwoResets {
        fn run(&self) {
            begin_reset(&self.0, &self.1);
            end_reset(&self.0);
            begin_reset(&self.0, &self.1);
        }
    }

    #[test]
    fn a_reset_between_arcs_asks_nothing_of_the_device() -> Result {
        for state in STATES {
            let bed = Bed::at(ALL, state)?;
            let before = bed.board.with(|d| d.calls.len());
            bed.reset();
            assert_eq!(bed.board.with(|d| d.calls.len()), before);
            check_all(&bed)?;
            assert_eq!(bed.state(), State::Running);
            check_usable(&bed, false)?;
        }
        Ok(())
    }

    #[test]
    fn a_file_that_cannot_be_made_leaves_everything_as_it_was() -> Result {
        for (flags, from, to) in arcs() {
            if !matches!(Transition::new(from, to), Some(Transition::Open(_))) {
                continue;
            }
            let bed = ready(flags, from)?;
            bed.files.failures.set(1);
            assert_eq!(bed.request(to), Err(ENFILE));
            assert_eq!(bed.state(), from);
            check_all(&bed)?;
            assert_eq!(bed.request(to), Ok(true));
            check_all(&bed)?;
        }
        Ok(())
    }

    /// A guest whose migration has failed because the device cannot be reached can leave the
    /// session.
    #[test]
    fn only_arcs_that_end_a_save_do_without_the_device() -> Result {
        for (flags, from, to) in arcs() {
            let bed = ready(flags, from)?;
            let before = bed.board.with(|d| d.calls.len());
            bed.board
                .with(|d| d.fail = Some((before, 1, Fate::Ignored, ENOTCONN)));
            let result = bed.request(to);
            let ends = session(from) == Session::Save && session(to) == Session::None;
            if ends {
                assert_eq!(result, Ok(false));
                assert_eq!(bed.state(), to);
            } else {
                assert_eq!(result, Err(ENOTCONN));
                assert_eq!(bed.board.with(|d| d.calls.len()), before + 1);
                assert_eq!(bed.state(), from);
            }
            check_all(&bed)?;
        }
        Ok(())
    }

    /// If the command that ends a session is lost, the session is ended before the next one.
    #[test]
    fn close_ends_the_session_and_a_debt_is_paid() -> Result {
        for from in [State::PreCopy, State::StopCopy, State::Resuming] {
            for fails in [false, true] {
                let bed = Bed::at(ALL, from)?;
                if fails {
                    bed.board
                        .with(|d| d.fail = Some((d.calls.len(), 1, Fate::Ignored, ETIMEDOUT)));
                }
                bed.reset_for(ResetCause::Close);
                check_sessions(&bed)?;
                let left = bed.board.with(|d| d.session != Session::None);
                assert_eq!(left, fails);
                // Act as if the reset after close had failed, but with the device running.
                bed.board.with(|d| d.level = RunLevel::Running);
                check_usable(&bed, false)?;
            }
        }
        Ok(())
    }
}
