// SPDX-License-Identifier: GPL-2.0

//! The fifteen arcs of the migration state machine as steps on the device, and three that take
//! the place of those by way of a P2P state for a function that has none.
//!
//! Pure: which steps, in which order, and what an unsuccessful step means.
//! `migrate.rs` carries them out. The VFIO core splits every transition a user
//! asks for into these arcs (contract S1, S2), so any other pair is a bug of the
//! caller and has no plan.

use crate::{
    proto::FnState,
    vfio::migration::State, //
};
use kernel::prelude::*;

/// One step on the device or on the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Let the reads of the save session that are in flight come to their end
    /// and start no new one: no save beside a suspend (D17).
    HoldSave,
    /// Take reads up again.
    ContinueSave,
    /// One level down. Complete when every forbidden write is visible and logged.
    Suspend(FnState),
    /// One level up.
    Resume(FnState),
    /// Begin a save session and make its file; the arc returns it.
    OpenSave {
        /// Whether the function is stopped already, so that the stream is the
        /// final one from its first byte.
        stopped: bool,
    },
    /// The session that has been in pre-copy delivers the final part from here.
    FinishSave,
    /// The file dies, the device forgets the session. Cannot be undone: the arc
    /// is taken even when the device does not answer (B4).
    CloseSave,
    /// Begin a load session and make its file; the arc returns it.
    OpenLoad,
    /// Refuse (`EINVAL`) unless the device has accepted the stream's trailer.
    CheckLoad,
    /// The file dies. Follows [`Step::CheckLoad`].
    CloseLoad,
}

/// The steps of the arc `from` → `to`.
///
/// # Errors
///
/// `EINVAL` for a pair that is no arc.
pub(crate) fn plan(from: State, to: State) -> Result<&'static [Step]> {
    use FnState::*;
    use State as S;
    use Step::*;

    Ok(match (from, to) {
        (S::Running, S::RunningP2p) => &[Suspend(RunningP2p)],
        (S::RunningP2p, S::Running) => &[Resume(Running)],
        (S::RunningP2p, S::Stop) => &[Suspend(Stopped)],
        (S::Stop, S::RunningP2p) => &[Resume(RunningP2p)],

        (S::Running, S::PreCopy) => &[OpenSave { stopped: false }],
        (S::RunningP2p, S::PreCopyP2p) => &[OpenSave { stopped: false }],
        (S::PreCopy, S::Running) => &[CloseSave],
        (S::PreCopyP2p, S::RunningP2p) => &[CloseSave],
        (S::PreCopy, S::PreCopyP2p) => &[HoldSave, Suspend(RunningP2p), ContinueSave],
        (S::PreCopyP2p, S::PreCopy) => &[HoldSave, Resume(Running), ContinueSave],
        (S::PreCopyP2p, S::StopCopy) => &[HoldSave, Suspend(Stopped), FinishSave, ContinueSave],

        (S::Stop, S::StopCopy) => &[OpenSave { stopped: true }],
        (S::StopCopy, S::Stop) => &[CloseSave],
        (S::Stop, S::Resuming) => &[OpenLoad],
        (S::Resuming, S::Stop) => &[CheckLoad, CloseLoad],

        (S::Running, S::Stop) => &[Suspend(Stopped)],
        (S::Stop, S::Running) => &[Resume(Running)],
        (S::PreCopy, S::StopCopy) => &[HoldSave, Suspend(Stopped), FinishSave, ContinueSave],
        _ => return Err(EINVAL),
    })
}

/// What takes `step` of an arc that leaves `from` back when it has failed or when a later step has.
///
/// A suspend that has failed may have taken effect on the device, so its way back
/// is run for the failed step too; "a step to where the function is already
/// succeeds". If the way back fails, the state is unknown: `ERROR` (S10).
pub(crate) fn undo(from: State, step: Step) -> Option<Step> {
    match step {
        Step::HoldSave => Some(Step::ContinueSave),
        // No arc moves the function twice.
        Step::Suspend(_) => level(from).map(Step::Resume),
        Step::Resume(_) => level(from).map(Step::Suspend),
        // Opening undoes itself when it fails, and nothing follows it.
        _ => None,
    }
}

/// What the function does by itself in `state`.
pub(crate) fn level(state: State) -> Option<FnState> {
    match state {
        State::Running | State::PreCopy => Some(FnState::Running),
        State::RunningP2p | State::PreCopyP2p => Some(FnState::RunningP2p),
        State::Stop | State::StopCopy | State::Resuming => Some(FnState::Stopped),
        _ => None,
    }
}

#[kunit_tests(dlr_vf_fsm)]
mod tests {
    use super::*;

    /// Contract S1, copied from there and not from the table above.
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

    /// What the core makes of a way through a P2P state when there is none.
    const WITHOUT_P2P: [(State, State); 3] = [
        (State::Running, State::Stop),
        (State::Stop, State::Running),
        (State::PreCopy, State::StopCopy),
    ];

    fn all() -> impl Iterator<Item = (State, State)> {
        Iterator::chain(ARCS.into_iter(), WITHOUT_P2P)
    }

    #[test]
    fn exactly_these_arcs() {
        let mut arcs = 0;
        for from in State::ALL {
            for to in State::ALL {
                let listed = all().any(|arc| arc == (from, to));
                assert_eq!(plan(from, to).is_ok(), listed);
                arcs += usize::from(listed);
            }
        }
        assert_eq!(arcs, 15 + 3);
    }

    /// The levels to which the steps of an arc take the function, one after the other.
    fn levels(from: State, to: State) -> Result<KVec<FnState>> {
        let mut levels = KVec::new();
        for step in plan(from, to)? {
            let (Step::Suspend(at) | Step::Resume(at)) = *step else {
                continue;
            };
            let before = levels.last().copied().or(level(from)).ok_or(EINVAL)?;
            let goes_down = at.raw() > before.raw();
            assert_eq!(goes_down, matches!(step, Step::Suspend(_)));
            levels.push(at, GFP_KERNEL)?;
        }
        Ok(levels)
    }

    #[test]
    fn steps_lead_to_the_level_of_the_target() -> Result {
        for (from, to) in all() {
            let levels = levels(from, to)?;
            let end = levels.last().copied().or(level(from));
            assert_eq!(end, level(to));
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
                let from = level(from).ok_or(EINVAL)?;
                assert_eq!(to.raw().abs_diff(from.raw()), distance);
            }
        }
        Ok(())
    }

    #[test]
    fn only_four_arcs_open_a_file() -> Result {
        for (from, to) in all() {
            let opens = plan(from, to)?
                .iter()
                .filter(|s| matches!(s, Step::OpenSave { .. } | Step::OpenLoad))
                .count();
            let wanted = matches!(
                (from, to),
                (State::Running, State::PreCopy)
                    | (State::RunningP2p, State::PreCopyP2p)
                    | (State::Stop, State::StopCopy)
                    | (State::Stop, State::Resuming)
            );
            assert_eq!(opens, usize::from(wanted));
        }
        Ok(())
    }

    #[test]
    fn no_save_beside_a_suspend() -> Result {
        for (from, to) in all() {
            let saving = matches!(from, State::PreCopy | State::PreCopyP2p);
            let steps = plan(from, to)?;
            let moves = |s: &Step| matches!(s, Step::Suspend(_) | Step::Resume(_));
            if saving && steps.iter().any(moves) {
                assert_eq!(steps.first(), Some(&Step::HoldSave));
                assert_eq!(steps.last(), Some(&Step::ContinueSave));
            }
        }
        Ok(())
    }

    #[test]
    fn every_move_can_be_undone() -> Result {
        for (from, to) in all() {
            for step in plan(from, to)? {
                let back = undo(from, *step);
                match (step, back) {
                    (Step::Suspend(_), Some(Step::Resume(to)))
                    | (Step::Resume(_), Some(Step::Suspend(to))) => {
                        assert_eq!(Some(to), level(from));
                    }
                    (Step::Suspend(_) | Step::Resume(_), _) => return Err(EINVAL),
                    _ => (),
                }
            }
        }
        assert_eq!(undo(State::StopCopy, Step::CloseSave), None);
        Ok(())
    }
}
