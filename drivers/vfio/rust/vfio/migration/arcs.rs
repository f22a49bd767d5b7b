// SPDX-License-Identifier: GPL-2.0

//! Execution of the plans of [`plan`](super::plan) on an [`Engine`], and their undo.

use super::{
    engine::{
        Engine,
        WaitLimit, //
    },
    machine::{
        Attached,
        Machine,
        Sessions, //
    },
    plan::{
        plan,
        undo,
        Action,
        Drift,
        Undo, //
    },
    state::{
        Failure,
        State,
        Transition, //
    },
};
use crate::ext::budget::Budget;
use kernel::prelude::*;

impl<E: Engine> Machine<E> {
    /// Called when a request has led to the requested state. If the device may be elsewhere
    /// ([`Drift`]), takes it to the run level of that state.
    ///
    /// # Errors
    ///
    /// Those of the engine: the device may still be elsewhere, and the next request tries again.
    pub(crate) fn arrived(&self, cx: &E::Context<'_>, sessions: &mut Sessions<E>) -> Result {
        if sessions.drift.is_none() {
            return Ok(());
        }
        self.engine.attach(cx)?;
        self.take_home(cx, sessions)
    }

    /// Takes the device to the run level of the state, if it may be elsewhere.
    pub(super) fn take_home(&self, cx: &E::Context<'_>, sessions: &mut Sessions<E>) -> Result {
        let result = match sessions.drift {
            None => return Ok(()),
            Some(Drift::Arc { from, to }) => {
                self.engine.set_level(cx, from, to, WaitLimit::Killable)
            }
            Some(Drift::Reset) => self.engine.recover(),
        };
        self.note_reset(sessions);
        if result.is_ok() {
            sessions.drift = None;
        }
        result
    }

    /// Runs all actions of one arc. If one fails, undoes it and those before it.
    pub(super) fn run_all(
        &self,
        cx: &E::Context<'_>,
        sessions: &mut Sessions<E>,
        arc: Transition,
    ) -> Result<(), Failure> {
        let (from, _) = arc.ends();
        let actions = plan(arc);
        for (at, action) in actions.iter().enumerate() {
            if let Err(error) = self.run(cx, sessions, from, *action) {
                let begun = actions.get(..=at).unwrap_or_default();
                return Err(self.unwind(cx, sessions, from, begun, error));
            }
        }
        Ok(())
    }

    /// Runs one action of a plan.
    fn run(
        &self,
        cx: &E::Context<'_>,
        sessions: &mut Sessions<E>,
        from: State,
        action: Action,
    ) -> Result {
        match action {
            Action::SetLevel(to) => {
                let from = from.level().ok_or(EINVAL)?;
                let up = to < from;
                if up {
                    // The device may refuse to run while it has a load session that the driver has
                    // dropped. If ending it fails here, `set_level` may fail too, whose error is
                    // reported.
                    let _ = sessions.debt.settle(&Attached(&self.engine, cx));
                }
                self.engine
                    .set_level(cx, from, to, WaitLimit::Killable)
                    .inspect_err(|error| {
                        // Log the failure: when the device does not leave RESUMING, QEMU resets it
                        // and reports that the migration has completed.
                        if up {
                            self.engine
                                .warn(cx, fmt!("the device does not resume: {error:?}"));
                        }
                    })?;
            }
            Action::PauseReads => sessions.save.as_ref().map_or(Ok(()), |s| s.pause_reads())?,
            Action::ResumeReads => {
                if let Some(save) = &sessions.save {
                    save.resume_reads();
                }
            }
            Action::FinishSave => {
                if let Some(save) = &sessions.save {
                    save.finish();
                }
            }
            Action::CloseSave => {
                if let (Some(save), _) = self.end_files(sessions) {
                    // The file is dead already, so the arc cannot be undone and succeeds. The debt
                    // makes the device end its session before the next one begins.
                    if let Err(error) = save.end_on_device() {
                        sessions.debt.owe();
                        self.engine
                            .warn(cx, fmt!("ending a save session: {error:?}"));
                    }
                }
            }
            Action::InstallLoad => {
                let load = sessions.load.as_ref().ok_or(EINVAL)?;
                load.install(|sink, io| self.engine.install(cx, sink, io))?;
            }
            Action::CloseLoad => drop(self.end_files(sessions)),
            // `Machine::open` carries these out.
            Action::OpenSave { .. } | Action::OpenLoad => return Err(EINVAL),
        }
        Ok(())
    }

    /// Undoes one action of an arc. It ignores signals; all undo actions of an arc share one
    /// budget.
    fn revert(
        &self,
        cx: &E::Context<'_>,
        sessions: &Sessions<E>,
        action: Undo,
        budget: &Budget,
    ) -> Result {
        match action {
            Undo::ResumeReads => {
                if let Some(save) = &sessions.save {
                    save.resume_reads();
                }
                Ok(())
            }
            Undo::SetLevel { from, to } => {
                self.engine
                    .set_level(cx, from, to, WaitLimit::Within(budget))
            }
        }
    }

    /// Undoes the `begun` actions of an arc from `from`, the last of which has failed with `error`.
    fn unwind(
        &self,
        cx: &E::Context<'_>,
        sessions: &mut Sessions<E>,
        from: State,
        begun: &[Action],
        error: Error,
    ) -> Failure {
        let mut broken = false;
        let budget = Budget::new();
        for action in begun.iter().rev().filter_map(|a| undo(from, *a)) {
            match self.revert(cx, sessions, action, &budget) {
                Ok(()) => (),
                // The device cannot be reached and keeps its level. The state stays as it was, and
                // a later request takes the device there.
                Err(error) if error == ENOTCONN => {
                    if let Undo::SetLevel { from, to } = action {
                        sessions.drift = Some(Drift::Arc { from, to });
                    }
                }
                Err(error) => {
                    self.engine
                        .warn(cx, fmt!("state is lost: undoing, {action:?}: {error:?}"));
                    broken = true;
                }
            }
        }
        if broken {
            // A device in ERROR has no session. The driver does not end the device's session: the
            // reset that must follow does.
            drop(self.end_files(sessions));
            Failure::Broken(error)
        } else {
            Failure::Stay(error)
        }
    }
}
