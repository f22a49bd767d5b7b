// SPDX-License-Identifier: GPL-2.0

//! The fifteen arcs of the migration state machine as steps on the device.
//!
//! Pure: which steps, in which order, and what an unsuccessful step means.
//! `migrate.rs` carries them out. The VFIO core splits every transition a user
//! asks for into these arcs (contract S1), so any other pair is a bug of the
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
        _ => return Err(EINVAL),
    })
}

/// What takes `step` back when it has failed or when a later step has.
///
/// A suspend that has failed may have taken effect on the device, so its way back
/// is run for the failed step too; "a step to where the function is already
/// succeeds". If the way back fails, the state is unknown: `ERROR` (S10).
pub(crate) fn undo(step: Step) -> Option<Step> {
    match step {
        Step::HoldSave => Some(Step::ContinueSave),
        Step::Suspend(FnState::RunningP2p) => Some(Step::Resume(FnState::Running)),
        Step::Suspend(FnState::Stopped) => Some(Step::Resume(FnState::RunningP2p)),
        Step::Resume(FnState::Running) => Some(Step::Suspend(FnState::RunningP2p)),
        Step::Resume(FnState::RunningP2p) => Some(Step::Suspend(FnState::Stopped)),
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

    #[test]
    fn exactly_fifteen_arcs() {
        let mut arcs = 0;
        for from in State::ALL {
            for to in State::ALL {
                let listed = ARCS.contains(&(from, to));
                assert_eq!(plan(from, to).is_ok(), listed);
                arcs += usize::from(listed);
            }
        }
        assert_eq!(arcs, 15);
    }

    #[test]
    fn steps_lead_to_the_level_of_the_target() -> Result {
        for (from, to) in ARCS {
            let mut at = level(from).ok_or(EINVAL)?;
            for step in plan(from, to)? {
                match *step {
                    Step::Suspend(l) => {
                        assert!(l.raw() == at.raw() + 1);
                        at = l;
                    }
                    Step::Resume(l) => {
                        assert!(l.raw() + 1 == at.raw());
                        at = l;
                    }
                    _ => (),
                }
            }
            assert_eq!(Some(at), level(to));
        }
        Ok(())
    }

    #[test]
    fn only_four_arcs_open_a_file() -> Result {
        for (from, to) in ARCS {
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
        for (from, to) in ARCS {
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
    fn every_move_can_be_undone() {
        for l in [FnState::RunningP2p, FnState::Stopped] {
            assert!(matches!(undo(Step::Suspend(l)), Some(Step::Resume(_))));
        }
        for l in [FnState::Running, FnState::RunningP2p] {
            assert!(matches!(undo(Step::Resume(l)), Some(Step::Suspend(_))));
        }
        assert_eq!(undo(Step::CloseSave), None);
    }
}
