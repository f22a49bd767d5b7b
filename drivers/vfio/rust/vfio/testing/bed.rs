// SPDX-License-Identifier: GPL-2.0

//! The migration of the fake device, with requests as the VFIO core makes them.

use super::{
    board::{
        Board,
        Hook, //
    },
    engine::FakeEngine,
    streams::{
        FakeSink,
        FakeSource, //
    },
    user::{
        read,
        write, //
    },
};
use crate::{
    ext::testing::holds,
    vfio::{
        migration::{
            files::Files,
            load_session::LoadSession,
            machine::Machine,
            save_session::SaveSession,
            state::{
                Flags,
                ResetCause,
                State,
                Transition, //
            },
        },
        migration_file::{
            Resume,
            Save, //
        },
        transition::{
            transition,
            CoreTable, //
        },
    },
};
use core::cell::Cell;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The states that a user can request.
pub(super) const STATES: [State; 7] = [
    State::Stop,
    State::Running,
    State::StopCopy,
    State::Resuming,
    State::RunningP2p,
    State::PreCopy,
    State::PreCopyP2p,
];

/// The flags of a device with all optional states.
pub(super) const ALL: Flags = Flags {
    p2p: true,
    pre_copy: true,
};

/// Makes `()` as files, and fails the first `failures` times.
pub(super) struct NoFiles {
    pub(super) failures: Cell<u32>,
}

impl Files for NoFiles {
    type File = ();

    fn save<S: Save>(&self, _session: Arc<S>) -> Result {
        self.make()
    }

    fn load<R: Resume>(&self, _session: Arc<R>) -> Result {
        self.make()
    }
}

impl NoFiles {
    fn make(&self) -> Result {
        match self.failures.get().checked_sub(1) {
            Some(left) => {
                self.failures.set(left);
                Err(ENFILE)
            }
            None => Ok(()),
        }
    }
}

/// The fake device and its migration.
pub(super) struct Bed {
    pub(super) board: Arc<Board>,
    pub(super) machine: Arc<Machine<FakeEngine>>,
    pub(super) files: NoFiles,
    table: CoreTable,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.board.forget_hooks();
    }
}

impl Bed {
    /// Makes a running device with this state.
    pub(super) fn new(flags: Flags, state: &[u8]) -> Result<Self> {
        let board = Board::new(state)?;
        Ok(Self {
            machine: Arc::pin_init(Machine::new(FakeEngine(board.clone())), GFP_KERNEL)?,
            board,
            files: NoFiles {
                failures: Cell::new(0),
            },
            table: CoreTable::new(flags)?,
        })
    }

    /// Makes a device and requests `state`.
    pub(super) fn at(flags: Flags, state: State) -> Result<Self> {
        let bed = Self::new(flags, b"a state of some bytes")?;
        bed.request(state)?;
        Ok(bed)
    }

    /// Sets `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE` and returns whether that made a file.
    pub(super) fn request(&self, target: State) -> Result<bool> {
        let machine = &*self.machine;
        let mut locked = machine.state_lock().lock_killable(machine)?;
        let next = |from, to| self.table.next(from, to);
        let file = transition(
            locked.locked(),
            target.to_raw(),
            next,
            |sessions, arc| match arc {
                Transition::Open(opening) => {
                    machine.open(&(), sessions, opening, &self.files).map(Some)
                }
                Transition::Move(step) => machine.step(&(), sessions, step).map(|()| None),
            },
            |sessions| machine.arrived(&(), sessions),
        )?;
        Ok(file.is_some())
    }

    /// Returns the migration state.
    pub(super) fn state(&self) -> State {
        self.machine.view().state()
    }

    /// Returns the active save session.
    pub(super) fn save(&self) -> Result<Arc<SaveSession<FakeSource>>> {
        self.machine.view().current().save.ok_or(ENOENT)
    }

    /// Returns the active load session.
    pub(super) fn load(&self) -> Result<Arc<LoadSession<FakeSink>>> {
        self.machine.view().current().load.ok_or(ENOENT)
    }

    /// Reads until the end of the stream or `ENOMSG`.
    pub(super) fn drain(&self) -> Result<KVVec<u8>> {
        let save = self.save()?;
        let mut stream = KVVec::new();
        loop {
            match read(&*save, 5) {
                Ok(bytes) if bytes.is_empty() => return Ok(stream),
                Ok(bytes) => stream.extend_from_slice(&bytes, GFP_KERNEL)?,
                Err(error) if error == ENOMSG => return Ok(stream),
                Err(error) => return Err(error),
            }
        }
    }

    /// Migrates the device to itself, from a state without a session.
    pub(super) fn migrate(&self) -> Result {
        let before = self.board.with(|d| d.state.len());
        self.request(State::StopCopy)?;
        let stream = self.drain()?;
        holds(stream.len() == before + 1)?;
        self.request(State::Resuming)?;
        self.board.with(|d| d.state.clear());
        holds(write(&*self.load()?, &stream)? == stream.len())?;
        self.request(State::Running)?;
        holds(self.board.with(|d| d.state.len()) == before)
    }

    /// Resets the migration state when the device is opened or closed.
    pub(super) fn reset_for(&self, cause: ResetCause) {
        let machine = &*self.machine;
        let mut locked = machine.state_lock().lock(machine);
        machine.reset(&mut locked, cause);
        locked.set_state(State::Running);
    }

    /// Resets the function.
    pub(super) fn reset(&self) {
        reset(&self.machine, &self.board);
    }
}

fn reset(machine: &Machine<FakeEngine>, board: &Board) {
    begin_reset(machine, board);
    end_reset(machine);
}

/// Resets the function, but does not tell the layer that the reset has ended.
pub(super) fn begin_reset(machine: &Machine<FakeEngine>, board: &Board) {
    machine.reset_prepare();
    board.reset();
}

/// Tells the layer that the reset has ended, as the PCI core does.
pub(super) fn end_reset(machine: &Machine<FakeEngine>) {
    machine
        .state_lock()
        .request_reset(machine, || machine.reset_done());
}

/// A hook that resets the function in the middle of a call.
pub(super) struct ResetInside(pub(super) Arc<Machine<FakeEngine>>, pub(super) Arc<Board>);

impl Hook for ResetInside {
    fn run(&self) {
        reset(&self.0, &self.1);
    }
}
