// SPDX-License-Identifier: GPL-2.0

//! VFIO migration protocol v2: the traits of a driver, and the state machine, sessions and files
//! that the layer builds on them.
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h), `struct vfio_migration_ops`.
//!
//! A driver implements [`Engine`] for its devices, keeps a [`Machine`] of it in its registration
//! data, and implements [`Migratable`], or [`MigratableWith`] if the engine does not need the open
//! device itself. The VFIO callbacks call [`Migration`]; a driver whose hardware does not fit an
//! [`Engine`] can implement [`Migration`] itself.
//!
//! | file | contents |
//! | --- | --- |
//! | `state` | states, run levels and arcs |
//! | `plan` | the actions of each arc, and their inverses |
//! | `generation` | detects a reset during an operation |
//! | `debt` | sessions that the device may still have after the driver has dropped them |
//! | `framing` | check that a stream which the user reads is whole |
//! | `accounting`, `queue`, `pipeline` | data that a save session reads ahead, and pre-copy info |
//! | `save`, `load` | the traits of a driver's sessions |
//! | `image` | sessions for devices whose whole state is read at once |
//! | `engine` | the trait of a device that migrates |
//! | `files` | the trait that makes the files of sessions |
//! | `bounce`, `save_session`, `reader` | a save session and its file |
//! | `load_session` | a load session and its file |
//! | `view` | the sessions as seen without the state lock |
//! | `machine`, `arcs` | the state lock and sessions of a device, and the execution of an arc |
//! | `reset` | what resets and failures of the channel do to the sessions |

pub(crate) mod accounting;
mod arcs;
mod bounce;
mod debt;
pub(crate) mod engine;
pub(crate) mod files;
pub(crate) mod framing;
pub(crate) mod generation;
pub(crate) mod image;
pub(crate) mod load;
pub(super) mod load_session;
pub(crate) mod machine;
pub(crate) mod pipeline;
#[cfg(CONFIG_KUNIT = "y")]
mod pipeline_tests;
pub(crate) mod plan;
pub(crate) mod queue;
mod reader;
mod reset;
pub(crate) mod save;
pub(super) mod save_session;
pub(crate) mod state;
pub(crate) mod view;

use self::{
    engine::Engine,
    files::Files,
    machine::{
        Machine,
        Sessions, //
    },
    state::{
        Failure,
        Move,
        Opening,
        ResetCause, //
    },
};
pub(crate) use super::hooks::MigrationOps as Ops;
use super::{
    migration_file::{
        self,
        MigrationFile,
        Resume,
        Save, //
    },
    pci::{OpenDevice, Operations},
    state_lock::{
        StateLock,
        StateMirror, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

crate::ext::assert_not_impl!(Failure: From<Error>);

/// Migration of a device. The layer owns the state machine; the driver carries out its arcs.
pub(crate) trait Migration: Operations {
    /// The data under the state lock besides the state itself: the sessions.
    type State: Send + Unpin;

    /// Returns the state lock, under which the migration state changes. Every call must return the
    /// same lock, which no other device has. With another one the layer would tell the user the
    /// state of another device, and reset that; memory safety does not depend on it.
    fn state_lock(&self) -> &StateLock<Self::State>;

    /// Carries out an arc that opens a session, and returns the file of the session (see
    /// [`DeviceFiles`]). The arc is complete when this returns; the layer then stores the new
    /// state.
    ///
    /// # Errors
    ///
    /// See [`Failure`]. An arc that was interrupted by a signal (`ERESTARTSYS`) must be repeatable.
    fn begin(
        dev: &OpenDevice<'_, Self>,
        state: &mut Self::State,
        opening: Opening,
    ) -> Result<MigrationFile, Failure>;

    /// Carries out an arc that makes no file. An arc that ends a session must also end its file,
    /// whose reads and writes fail from then on.
    ///
    /// # Errors
    ///
    /// See [`Self::begin`].
    fn step(dev: &OpenDevice<'_, Self>, state: &mut Self::State, step: Move)
        -> Result<(), Failure>;

    /// Called at the end of a request that makes no file, also if the device was in the requested
    /// state already. Succeeds if the device really is at the run level of that state.
    ///
    /// # Errors
    ///
    /// Any error fails the request and leaves the state as it is.
    fn arrived(dev: &OpenDevice<'_, Self>, state: &mut Self::State) -> Result {
        let _ = (dev, state);
        Ok(())
    }

    /// Called when an error of the PCI channel has taken the state of the function, also if there
    /// is no session. The session must fail, and so must each that begins before the next
    /// [`Self::after_reset`]. This may only set flags and wake sleepers: the caller may hold any
    /// lock, and the hardware may not respond (contract S17).
    fn lost(&self);

    /// Called before the function is reset. The caller may hold any lock.
    fn before_reset(&self) {}

    /// Called after the function was reset. [`Self::reset`] follows, at once or when the holder of
    /// the state lock releases it. The caller holds a spinlock, so this must not sleep.
    fn after_reset(&self) {}

    /// Ends the session, if there is one: its file fails from then on, its sleepers are woken, and
    /// its buffers are freed. The layer sets the state to RUNNING after it, so the device must run
    /// then, also if it was opened without a reset.
    ///
    /// It may run with `memory_lock` held for writing, so it must not wait for a lock under which
    /// user memory is copied (see the page of [`vfio`](super)). Its waits for the hardware must be
    /// bounded.
    fn reset(&self, state: &mut Self::State, cause: ResetCause);

    /// Returns the number of bytes that a stop-copy would transfer if it started now
    /// (`VFIO_DEVICE_FEATURE_MIG_DATA_SIZE`). It works in every state, is quick and has no side
    /// effects. It is never 0 for a device that works.
    ///
    /// # Errors
    ///
    /// Any error is returned to the user.
    fn data_size(dev: &OpenDevice<'_, Self>) -> Result<u64>;
}

/// Makes the files for the sessions of a device.
pub(crate) struct DeviceFiles<'a, 'b, T: Operations> {
    dev: &'a OpenDevice<'b, T>,
    state: Arc<StateMirror>,
}

impl<'a, 'b, T: Migration> DeviceFiles<'a, 'b, T> {
    /// Makes files for sessions of `dev`.
    pub(crate) fn new(dev: &'a OpenDevice<'b, T>) -> Self {
        Self {
            dev,
            state: dev.data().get_ref().state_lock().mirror(),
        }
    }
}

impl<T: Operations> Files for DeviceFiles<'_, '_, T> {
    type File = MigrationFile;

    fn save<S: Save>(&self, session: Arc<S>) -> Result<MigrationFile> {
        migration_file::save(session, self.dev.link().clone(), self.state.clone())
    }

    fn load<R: Resume>(&self, session: Arc<R>) -> Result<MigrationFile> {
        migration_file::resume(session)
    }
}

/// A device whose migration is a [`Machine`] of an [`Engine`] that needs the open device itself.
/// Implements [`Migration`].
///
/// # Examples
///
/// From `samples/vfio/bochs.rs`:
///
/// ```ignore
/// impl Migratable for Bochs {
///     type Engine = BochsEngine;
///
///     fn machine(&self) -> &Machine<BochsEngine> {
///         &self.machine
///     }
/// }
/// ```
pub(crate) trait Migratable: Operations {
    /// The engine of the device.
    type Engine: for<'a> Engine<Context<'a> = OpenDevice<'a, Self>>;

    /// Returns the migration of the device. See [`Migration::state_lock`] for what another one
    /// would cost.
    fn machine(&self) -> &Machine<Self::Engine>;
}

/// As [`Migratable`], for an engine with a context of another type, which is made for each call.
///
/// # Examples
///
/// From `drivers/vfio/pci/dlr/vf/driver.rs`:
///
/// ```ignore
/// impl MigratableWith for Vf {
///     type Engine = DlrEngine;
///
///     fn machine(&self) -> &Machine<DlrEngine> {
///         &self.machine
///     }
///
///     // …
/// }
/// ```
pub(crate) trait MigratableWith: Operations {
    /// The engine of the device.
    type Engine: Engine;

    /// Returns the migration of the device. See [`Migration::state_lock`] for what another one
    /// would cost.
    fn machine(&self) -> &Machine<Self::Engine>;

    /// Calls `f` with the context of the engine.
    fn with_engine<R>(
        dev: &OpenDevice<'_, Self>,
        f: impl FnOnce(&<Self::Engine as Engine>::Context<'_>) -> R,
    ) -> R;
}

impl<T: Migratable> MigratableWith for T {
    type Engine = <T as Migratable>::Engine;

    fn machine(&self) -> &Machine<Self::Engine> {
        Migratable::machine(self)
    }

    fn with_engine<R>(dev: &OpenDevice<'_, Self>, f: impl FnOnce(&OpenDevice<'_, Self>) -> R) -> R {
        f(dev)
    }
}

impl<T: MigratableWith> Migration for T {
    type State = Sessions<T::Engine>;

    fn state_lock(&self) -> &StateLock<Self::State> {
        self.machine().state_lock()
    }

    fn begin(
        dev: &OpenDevice<'_, Self>,
        state: &mut Self::State,
        opening: Opening,
    ) -> Result<MigrationFile, Failure> {
        let machine = dev.data().get_ref().machine();
        let files = DeviceFiles::new(dev);
        T::with_engine(dev, |cx| machine.open(cx, state, opening, &files))
    }

    fn step(
        dev: &OpenDevice<'_, Self>,
        state: &mut Self::State,
        step: Move,
    ) -> Result<(), Failure> {
        let machine = dev.data().get_ref().machine();
        T::with_engine(dev, |cx| machine.step(cx, state, step))
    }

    fn arrived(dev: &OpenDevice<'_, Self>, state: &mut Self::State) -> Result {
        let machine = dev.data().get_ref().machine();
        T::with_engine(dev, |cx| machine.arrived(cx, state))
    }

    fn lost(&self) {
        self.machine().poison();
    }

    fn before_reset(&self) {
        self.machine().reset_prepare();
    }

    fn after_reset(&self) {
        self.machine().reset_done();
    }

    fn reset(&self, state: &mut Self::State, cause: ResetCause) {
        self.machine().reset(state, cause);
    }

    fn data_size(dev: &OpenDevice<'_, Self>) -> Result<u64> {
        let machine = dev.data().get_ref().machine();
        T::with_engine(dev, |cx| machine.data_size(cx))
    }
}
