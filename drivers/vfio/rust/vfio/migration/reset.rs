// SPDX-License-Identifier: GPL-2.0

//! Resets of the function and failures of its PCI channel, which end the sessions of a [`Machine`].

use super::{
    engine::Engine,
    machine::{
        Machine,
        Sessions, //
    },
    plan::Drift,
    state::ResetCause,
    view::Current, //
};
use crate::vfio::state_lock::ResetState;
use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Release, //
    }, //
};

impl<E: Engine> Machine<E> {
    /// Notes that a reset of the function begins.
    pub(in super::super) fn reset_prepare(&self) {
        self.resets.prepare();
    }

    /// Notes that a reset of the function has ended. Only a call from
    /// [`StateLock::request_reset`](crate::vfio::state_lock::StateLock) is in time.
    pub(in super::super) fn reset_done(&self) {
        self.lost.store(false, Release);
        self.resets.done();
    }

    /// Makes the session fail after a failure of the PCI channel, because the state of the device
    /// is lost, and each session that begins before the next reset of the function. Does not sleep,
    /// and runs no code of the driver.
    pub(crate) fn poison(&self) {
        self.lost.store(true, Release);
        self.view.poison();
    }

    /// Makes `current` the active session.
    pub(super) fn begun(&self, current: Current<E>) {
        self.view.set_current(current);
        // The channel may have failed when `poison` could not find the session yet.
        if self.lost.load(Acquire) {
            self.view.poison();
        }
    }

    /// Ends the session, if there is one: its file fails from then on, its sleepers are woken, and
    /// its buffers are freed. Waits for no lock under which user memory is accessed. On
    /// [`ResetCause::Close`] it also ends the session on the device.
    pub(crate) fn reset(&self, sessions: &mut Sessions<E>, cause: ResetCause) {
        let (save, load) = self.end_files(sessions);
        let raced = core::mem::take(&mut sessions.raced_reset);
        sessions.generation = self.resets.generation();
        // The reset that has happened or follows makes the device run. If it fails, `Open` knows.
        sessions.drift = None;
        match cause {
            ResetCause::Close => {
                let ended = save.map_or(Ok(()), |s| s.end_on_device());
                let aborted = load.map_or(Ok(()), |l| l.abort_on_device());
                // The reset of the function that follows may fail.
                if ended.and(aborted).is_err() {
                    sessions.debt.owe();
                }
            }
            ResetCause::FunctionReset => {
                // The reset has ended all sessions but those of commands that ran after it, see
                // `raced`.
                sessions.debt.forgive();
                if raced {
                    self.recover(sessions);
                }
            }
            ResetCause::Open { reset } => {
                if !reset {
                    self.recover(sessions);
                }
            }
        }
    }

    /// Makes the device run, now or on a later request.
    fn recover(&self, sessions: &mut Sessions<E>) {
        match self.engine.recover() {
            Ok(()) => (),
            // The device cannot be reached. A later request recovers it.
            Err(error) if error == ENOTCONN => sessions.drift = Some(Drift::Reset),
            Err(error) => {
                sessions.debt.owe();
                sessions.drift = Some(Drift::Reset);
                pr_err!("a function may not run: {:?}\n", error);
            }
        }
    }

    /// Notes whether a reset has begun since the state was last reset, when commands were given.
    pub(super) fn note_reset(&self, sessions: &mut Sessions<E>) {
        if !self.resets.none_since(sessions.generation) {
            sessions.raced_reset = true;
        }
    }
}

impl<E: Engine> ResetState<Sessions<E>> for Machine<E> {
    fn reset_state(&self, sessions: &mut Sessions<E>) {
        self.reset(sessions, ResetCause::FunctionReset);
    }
}
