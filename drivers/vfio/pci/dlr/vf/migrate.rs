// SPDX-License-Identifier: GPL-2.0

//! Carries out the plans of `fsm.rs` on the device, under the state lock.

use super::{
    fsm,
    resets::{
        Era,
        Life, //
    },
    resume::LoadSession,
    save::SaveSession,
    shared::Current,
    Vf, //
};
use crate::{
    mgmt::Function,
    vfio::{
        migration::{
            Failure,
            Migration,
            ResetCause,
            State,
            Step, //
        },
        migration_file::MigrationFile,
        state_lock::StateLock,
        OpenDevice, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The session of the state that the device is in, if that state has one. Under the
/// state lock.
#[derive(Default)]
pub(crate) struct Sessions {
    save: Option<Arc<SaveSession>>,
    load: Option<Arc<LoadSession>>,
    /// When the state was last reset.
    era: Option<Era>,
    /// Whose device may have been moved since a reset whose `reset_done` is still to come.
    astray: Option<Function>,
}

impl Sessions {
    /// Kills the files of the session that there is, if any. What the device has of it is left to
    /// the caller.
    fn end_files(&mut self, vf: &Vf) -> (Option<Arc<SaveSession>>, Option<Arc<LoadSession>>) {
        vf.shared.set_current(Current::default());
        let (save, load) = (self.save.take(), self.load.take());
        if let Some(save) = &save {
            save.end();
        }
        if let Some(load) = &load {
            load.end();
        }
        (save, load)
    }
}

impl Migration for Vf {
    type State = Sessions;

    fn state_lock(&self) -> &StateLock<Sessions> {
        &self.state
    }

    fn step(
        dev: &OpenDevice<'_, Self>,
        sessions: &mut Sessions,
        step: Step,
    ) -> Result<Option<MigrationFile>, Failure> {
        let function = dev.open_data().get_ref().function()?;
        let result = arc(dev, function, sessions, step);
        if !dev.data().get_ref().resets.none_since(sessions.era) {
            sessions.astray = Some(function.clone());
        }
        result
    }

    /// The function was reset, or is about to be: the device has ended the session by
    /// itself, or will. Takes no lock under which user memory is touched.
    fn reset(&self, sessions: &mut Sessions, cause: ResetCause) {
        let (save, load) = sessions.end_files(self);
        let astray = sessions.astray.take();
        sessions.era = self.resets.era();
        if cause == ResetCause::Close {
            // Whoever opens the function next begins with another session either way.
            let _ = save.map(|s| s.end_on_device());
            let _ = load.map(|l| l.abort_on_device());
        }
        if let (ResetCause::FunctionReset, Some(function)) = (cause, astray) {
            match function.recover() {
                // Gone: it goes on as it is, and there is no state any more (S10).
                Ok(()) => (),
                Err(error) if error == ENOTCONN => (),
                Err(error) => pr_err!("a function may not run after its reset: {:?}\n", error),
            }
        }
    }

    /// All that is still to be read if the guest stopped now, what is buffered
    /// included. A memory read; no state and no session changes that.
    fn data_size(dev: &OpenDevice<'_, Self>) -> Result<u64> {
        let status = dev.open_data().get_ref().function()?.status()?;
        let unread = dev
            .data()
            .get_ref()
            .shared
            .current()
            .save
            .map_or(0, |s| s.unread());
        // At the very end of a stream there is nothing left, but VMMs take 0 for a
        // device that cannot be migrated.
        Ok(status.total_bytes.saturating_add(unread).max(1))
    }
}

/// All steps of one arc.
fn arc(
    dev: &OpenDevice<'_, Vf>,
    function: &Function,
    sessions: &mut Sessions,
    step: Step,
) -> Result<Option<MigrationFile>, Failure> {
    let plan = fsm::plan(step.from, step.to)?;
    let mut file = None;
    for (at, action) in plan.iter().enumerate() {
        match run(dev, function, sessions, *action) {
            Ok(made) => file = made.or(file),
            Err(error) => {
                let begun = plan.get(..=at).unwrap_or_default();
                return Err(take_back(dev, function, sessions, step.from, begun, error));
            }
        }
    }
    Ok(file)
}

/// One step of a plan.
fn run(
    dev: &OpenDevice<'_, Vf>,
    function: &Function,
    sessions: &mut Sessions,
    step: fsm::Step,
) -> Result<Option<MigrationFile>> {
    let vf = dev.data().get_ref();
    match step {
        fsm::Step::Suspend(to) => function.suspend(to)?,
        // On the way out of RESUMING user space may have no other word of it: QEMU resets the
        // function then, and says that the migration has completed.
        fsm::Step::Resume(to) => function.resume(to).inspect_err(|error| {
            dev_err!(dev.pdev(), "the device does not resume: {:?}\n", error);
        })?,
        fsm::Step::HoldSave => sessions.save.as_ref().map_or(Ok(()), |s| s.hold())?,
        fsm::Step::ContinueSave => {
            if let Some(save) = &sessions.save {
                save.go_on();
            }
        }
        fsm::Step::FinishSave => {
            if let Some(save) = &sessions.save {
                save.finish();
            }
        }
        fsm::Step::OpenSave { stopped } => {
            let save = SaveSession::new(function, Life::new(&vf.resets, sessions.era))?;
            let file = dev.save_file(save.clone())?;
            save.begin(stopped)?;
            vf.shared.set_current(Current {
                save: Some(save.clone()),
                load: None,
            });
            sessions.save = Some(save);
            return Ok(Some(file));
        }
        fsm::Step::CloseSave => {
            if let (Some(save), _) = sessions.end_files(vf) {
                // The file is dead, there is no way back: the arc is taken (B4). The
                // device ends the session at the next reset or SAVE_BEGIN.
                if let Err(error) = save.end_on_device() {
                    dev_warn!(dev.pdev(), "ending a save session: {:?}\n", error);
                }
            }
        }
        fsm::Step::OpenLoad => {
            let load = LoadSession::new(function, Life::new(&vf.resets, sessions.era))?;
            let file = dev.resume_file(load.clone())?;
            load.begin()?;
            vf.shared.set_current(Current {
                save: None,
                load: Some(load.clone()),
            });
            sessions.load = Some(load);
            return Ok(Some(file));
        }
        fsm::Step::CheckLoad => {
            let committed = sessions.load.as_ref().is_some_and(|l| l.is_committed());
            if !committed {
                return Err(EINVAL);
            }
        }
        fsm::Step::CloseLoad => drop(sessions.end_files(vf)),
    }
    Ok(None)
}

/// The last of the `begun` steps of an arc from `from` has failed with `error`: takes all of
/// them back.
fn take_back(
    dev: &OpenDevice<'_, Vf>,
    function: &Function,
    sessions: &mut Sessions,
    from: State,
    begun: &[fsm::Step],
    error: Error,
) -> Failure {
    let mut broken = false;
    for step in begun.iter().rev().filter_map(|s| fsm::undo(from, *s)) {
        match run(dev, function, sessions, step) {
            Ok(_) => (),
            // The management function is gone. The function goes on as it is, and no
            // state can be reached any more: it stays where it was (S10).
            Err(error) if error == ENOTCONN => (),
            Err(error) => {
                dev_err!(
                    dev.pdev(),
                    "state is lost: undoing {:?}: {:?}\n",
                    step,
                    error
                );
                broken = true;
            }
        }
    }
    if broken {
        // ERROR has no session. The device is not asked: the reset that follows ends its.
        drop(sessions.end_files(dev.data().get_ref()));
        Failure::Broken(error)
    } else {
        Failure::Stay(error)
    }
}
