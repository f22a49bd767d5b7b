// SPDX-License-Identifier: GPL-2.0

//! The actions of each arc of the migration state machine, and their inverses.
//!
//! This code only lists actions; [`arcs`](super::arcs) carries them out.

use super::state::{
    Move,
    Opening,
    RunLevel,
    State,
    Transition, //
};
use kernel::prelude::*;

/// One action on the device or on the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Wait for the reads of the save session in flight and start no new one, so that no read runs
    /// during a change of the run level.
    PauseReads,
    /// Start reads again.
    ResumeReads,
    /// Change the run level.
    SetLevel(RunLevel),
    /// Begin a save session and make its file, which the arc returns.
    OpenSave {
        /// Whether the device is stopped, so that all reads are final.
        stopped: bool,
    },
    /// Let a save session in pre-copy deliver the final part from here on.
    FinishSave,
    /// End the save session and its file. This cannot be undone, so the arc succeeds even if the
    /// device does not answer.
    CloseSave,
    /// Begin a load session and make its file, which the arc returns.
    OpenLoad,
    /// Fail with `EINVAL` if the stream was not accepted, else activate the state.
    InstallLoad,
    /// End the load session and its file, after [`Action::InstallLoad`].
    CloseLoad,
}

/// Returns the actions of `arc`.
pub(crate) const fn plan(arc: Transition) -> &'static [Action] {
    use Action::*;
    use RunLevel as L;

    match arc {
        Transition::Open(Opening::PreCopy | Opening::PreCopyP2p) => &[OpenSave { stopped: false }],
        Transition::Open(Opening::StopCopy) => &[OpenSave { stopped: true }],
        Transition::Open(Opening::Resuming) => &[OpenLoad],

        Transition::Move(Move::Quiesce | Move::Start) => &[SetLevel(L::RunningP2p)],
        Transition::Move(Move::Stop | Move::DirectStop) => &[SetLevel(L::Stopped)],
        Transition::Move(Move::Unquiesce | Move::DirectStart) => &[SetLevel(L::Running)],

        Transition::Move(Move::PreCopyQuiesce) => {
            &[PauseReads, SetLevel(L::RunningP2p), ResumeReads]
        }
        Transition::Move(Move::PreCopyUnquiesce) => {
            &[PauseReads, SetLevel(L::Running), ResumeReads]
        }
        Transition::Move(Move::PreCopyStop | Move::DirectPreCopyStop) => {
            &[PauseReads, SetLevel(L::Stopped), FinishSave, ResumeReads]
        }

        Transition::Move(Move::EndPreCopy | Move::EndPreCopyP2p | Move::EndStopCopy) => {
            &[CloseSave]
        }
        Transition::Move(Move::EndResuming) => &[InstallLoad, CloseLoad],
    }
}

/// Returns whether `arc` only ends a save session, for which the device need not answer.
pub(crate) const fn only_ends_a_save(arc: Transition) -> bool {
    matches!(plan(arc), [Action::CloseSave])
}

/// The inverse of an action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Undo {
    /// The inverse of [`Action::PauseReads`].
    ResumeReads,
    /// The inverse of [`Action::SetLevel`].
    SetLevel {
        /// The level that the device may have.
        from: RunLevel,
        /// The level that the device had.
        to: RunLevel,
    },
}

/// The reason why a device may be at another run level than the state says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Drift {
    /// An arc was neither completed nor undone, because the device could not be reached.
    Arc {
        /// The level that the device may have.
        from: RunLevel,
        /// The level of the state.
        to: RunLevel,
    },
    /// Commands of an arc have reached the device after a reset, or it was opened without a reset,
    /// and recovering has failed.
    Reset,
}

/// Returns the inverse of `action` of an arc that leaves `from`, to be run if `action` or a later
/// one fails.
///
/// A failed change of the run level may have taken effect on the device, so it is undone, too; a
/// change to the level that the device already has succeeds. If undoing fails, the level is unknown
/// and the state becomes ERROR.
pub(crate) fn undo(from: State, action: Action) -> Option<Undo> {
    match action {
        Action::PauseReads => Some(Undo::ResumeReads),
        // No arc changes the level twice, so the level before the action is that of `from`.
        Action::SetLevel(at) => from.level().map(|to| Undo::SetLevel { from: at, to }),
        // `Machine::open` undoes a failed opening itself, and no action follows it.
        _ => None,
    }
}

#[kunit_tests(vfio_migration_plan)]
mod tests {
    use super::*;

    /// Copied from the comment of `enum vfio_device_mig_state` in include/uapi/linux/vfio.h.
    const ARCS: [(State, State); 15] = [
        (State::Running, State::RunningP2p),
        (State::RunningP2p, State::Running),
        (State::RunningP2p, State::Stop),
        (State::Stop, State::RunningP2p),
        (State::Stop, State::StopCopy),
        (State::StopCopy, State::Stop),
        (State::Stop, State::Resuming),
        (State::Resuming, State::Stop),
        (State::Running, State::PreCopy),
        (State::PreCopy, State::Running),
        (State::PreCopy, State::PreCopyP2p),
        (State::PreCopyP2p, State::PreCopy),
        (State::RunningP2p, State::PreCopyP2p),
        (State::PreCopyP2p, State::RunningP2p),
        (State::PreCopyP2p, State::StopCopy),
    ];

    /// The arcs that the core uses for devices without the P2P states.
    const WITHOUT_P2P: [(State, State); 3] = [
        (State::Running, State::Stop),
        (State::Stop, State::Running),
        (State::PreCopy, State::StopCopy),
    ];

    fn all() -> impl Iterator<Item = (State, State)> {
        Iterator::chain(ARCS.into_iter(), WITHOUT_P2P)
    }

    fn plan_of(from: State, to: State) -> Result<&'static [Action]> {
        Transition::new(from, to).map(plan).ok_or(EINVAL)
    }

    #[test]
    fn three_arcs_need_no_device() {
        use State as S;
        let alone = [
            (S::PreCopy, S::Running),
            (S::PreCopyP2p, S::RunningP2p),
            (S::StopCopy, S::Stop),
        ];
        for from in State::ALL {
            for to in State::ALL {
                let only = Transition::new(from, to).is_some_and(only_ends_a_save);
                assert_eq!(only, alone.contains(&(from, to)));
            }
        }
    }

    #[test]
    fn exactly_these_arcs() {
        let mut arcs = 0;
        for from in State::ALL {
            for to in State::ALL {
                let listed = all().any(|arc| arc == (from, to));
                assert_eq!(plan_of(from, to).is_ok(), listed);
                arcs += usize::from(listed);
            }
        }
        assert_eq!(arcs, 15 + 3);
    }

    /// Returns the levels to which the actions of an arc take the device.
    fn levels(from: State, to: State) -> Result<KVec<RunLevel>> {
        let mut levels = KVec::new();
        for action in plan_of(from, to)? {
            if let Action::SetLevel(at) = *action {
                levels.push(at, GFP_KERNEL)?;
            }
        }
        Ok(levels)
    }

    #[test]
    fn actions_lead_to_the_level_of_the_target() -> Result {
        for (from, to) in all() {
            let levels = levels(from, to)?;
            let end = levels.last().copied().or(from.level());
            assert_eq!(end, to.level());
        }
        Ok(())
    }

    #[test]
    fn one_level_at_a_time_and_none_is_left_out_but_p2p() -> Result {
        for (from, to) in all() {
            let distance = if WITHOUT_P2P.contains(&(from, to)) {
                2
            } else {
                1
            };
            let levels = levels(from, to)?;
            assert!(levels.len() <= 1);
            for to in levels {
                let from = from.level().ok_or(EINVAL)?;
                assert_eq!((to as u32).abs_diff(from as u32), distance);
            }
        }
        Ok(())
    }

    #[test]
    fn only_four_arcs_open_a_file() -> Result {
        for (from, to) in all() {
            let opens = plan_of(from, to)?
                .iter()
                .filter(|s| matches!(s, Action::OpenSave { .. } | Action::OpenLoad))
                .count();
            let wanted = matches!(
                (from, to),
                (State::Running, State::PreCopy)
                    | (State::RunningP2p, State::PreCopyP2p)
                    | (State::Stop, State::StopCopy)
                    | (State::Stop, State::Resuming)
            );
            assert_eq!(opens, usize::from(wanted));
            let makes_one = matches!(Transition::new(from, to), Some(Transition::Open(_)));
            assert_eq!(makes_one, wanted);
        }
        Ok(())
    }

    #[test]
    fn no_save_beside_a_suspend() -> Result {
        for (from, to) in all() {
            let saving = matches!(from, State::PreCopy | State::PreCopyP2p);
            let actions = plan_of(from, to)?;
            let moves = |s: &Action| matches!(s, Action::SetLevel(_));
            if saving && actions.iter().any(moves) {
                assert_eq!(actions.first(), Some(&Action::PauseReads));
                assert_eq!(actions.last(), Some(&Action::ResumeReads));
            }
        }
        Ok(())
    }

    #[test]
    fn every_move_can_be_undone() -> Result {
        for (from, to) in all() {
            for action in plan_of(from, to)? {
                match (action, undo(from, *action)) {
                    (
                        Action::SetLevel(at),
                        Some(Undo::SetLevel {
                            from: left,
                            to: back,
                        }),
                    ) => {
                        assert_eq!((Some(back), left), (from.level(), *at));
                    }
                    (Action::SetLevel(_), _) => return Err(EINVAL),
                    (Action::PauseReads, back) => assert_eq!(back, Some(Undo::ResumeReads)),
                    _ => (),
                }
            }
        }
        assert_eq!(undo(State::StopCopy, Action::CloseSave), None);
        Ok(())
    }
}
