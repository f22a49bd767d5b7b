// SPDX-License-Identifier: GPL-2.0

//! The trait of a device that can migrate.

use super::{
    accounting::Pending,
    load::{
        LoadIo,
        LoadSink,
        LoadStart, //
    },
    save::{
        SaveSource,
        SaveStart, //
    },
    state::{
        RunLevel,
        State, //
    },
};
use crate::ext::budget::Budget;
use kernel::{
    fmt,
    prelude::*, //
};

/// The limit of a wait for the device.
#[derive(Clone, Copy)]
pub(crate) enum WaitLimit<'a> {
    /// The timeout of the command; a fatal signal ends the wait.
    Killable,
    /// The budget that all actions of an undo share; signals are ignored.
    Within(&'a Budget),
}

/// A device that can migrate. `samples/vfio/bochs.rs` implements this for a device whose state is
/// in its BARs.
///
/// The layer owns the state machine, the plan of each arc and its undo, the sessions and their
/// files, reading ahead, the answers in pre-copy, resets and MIG_DATA_SIZE (`struct
/// vfio_migration_ops` in `include/linux/vfio.h`). It calls all methods but [`Self::pending`] with
/// the state lock held, so one at a time, and they may sleep. [`Self::recover`] may be called with
/// `memory_lock` held as well.
///
/// A call that failed because of a signal must be repeatable.
///
/// # Examples
///
/// An engine whose device does nothing by itself, so that all run levels are the same, and whose
/// state is small enough to be read at once. From `samples/vfio/bochs.rs`:
///
/// ```ignore
/// impl Engine for BochsEngine {
///     type Context<'a> = OpenDevice<'a, Bochs>;
///     type Save = Snapshot<crate::LocalModule>;
///     type Load = Image<crate::LocalModule>;
///
///     // …
///     fn begin_save(
///         &self,
///         cx: &OpenDevice<'_, Bochs>,
///         stopped: bool,
///     ) -> Result<SaveStart<Self::Save>> {
///         Snapshot::start(&format(cx)?, &STATE.read(cx)?, stopped)
///     }
///
///     fn begin_load(&self, cx: &OpenDevice<'_, Bochs>) -> Result<LoadStart<Self::Load>> {
///         Ok(Image::start(&format(cx)?))
///     }
///
///     fn install(
///         &self,
///         cx: &OpenDevice<'_, Bochs>,
///         _sink: &Self::Load,
///         io: &LoadIo<Accepted>,
///     ) -> Result {
///         Self::Load::activate(io, |state| STATE.write(cx, state))
///     }
///
///     fn pending(&self, cx: &OpenDevice<'_, Bochs>) -> Result<Pending> {
///         Ok(Self::Save::size(STATE.bytes(cx)?))
///     }
///
///     // …
///     fn recover(&self) -> Result {
///         Ok(())
///     }
/// }
/// ```
pub(crate) trait Engine: Send + Sync + Sized + 'static {
    /// The context of calls on behalf of a user, for example an
    /// [`OpenDevice`](crate::vfio::OpenDevice). It exists during one arc.
    type Context<'a>
    where
        Self: 'a;

    /// A save session, from which the state of the device is read.
    type Save: SaveSource;

    /// A load session, to which the state of the device is written.
    type Load: LoadSink;

    /// Called before each arc, and at the end of a request if the device may be at another run
    /// level than its state says.
    ///
    /// # Errors
    ///
    /// An arc that only ends a save session goes on without the device. Any other arc and the end
    /// of a request fail with the error, and have changed nothing.
    fn attach(&self, cx: &Self::Context<'_>) -> Result {
        let _ = cx;
        Ok(())
    }

    /// Changes the run level of the device. Succeeds if the device is at `to` already. When `to`
    /// forbids more than `from`, this returns after every DMA write that `to` forbids is visible in
    /// memory and, with DMA logging active, in the log.
    ///
    /// # Errors
    ///
    /// After any error the layer changes the level back to `from`. If that fails as well, the state
    /// becomes ERROR, except after `ENOTCONN`: the device cannot be reached and keeps its level,
    /// and the layer changes the level back on a later request.
    fn set_level(
        &self,
        cx: &Self::Context<'_>,
        from: RunLevel,
        to: RunLevel,
        limit: WaitLimit<'_>,
    ) -> Result;

    /// Begins a save session. With `stopped` the device is stopped, and all reads are final.
    ///
    /// # Errors
    ///
    /// `EBUSY`: the device has a session already. The layer calls [`Self::end_sessions`] and tries
    /// once more. After any other error it calls only [`Self::end_sessions`], because the device
    /// may have begun a session.
    fn begin_save(&self, cx: &Self::Context<'_>, stopped: bool) -> Result<SaveStart<Self::Save>>;

    /// Begins a load session on the device, which is stopped.
    ///
    /// # Errors
    ///
    /// See [`Self::begin_save`].
    fn begin_load(&self, cx: &Self::Context<'_>) -> Result<LoadStart<Self::Load>>;

    /// Activates the state that the sink has accepted, on the arc RESUMING → STOP. It may sleep,
    /// but not within [`LoadIo::with`]. [`LoadSink::write`] must already have found every fault of
    /// the stream: after a failure here QEMU resets the device and reports that the migration has
    /// completed. The default is for a sink that makes the device install the state before it
    /// accepts the stream; with any other sink, such as
    /// [`Image`](super::image::Image), the state would be lost.
    ///
    /// # Errors
    ///
    /// Any error leaves the device in RESUMING.
    fn install(
        &self,
        cx: &Self::Context<'_>,
        sink: &Self::Load,
        io: &LoadIo<<Self::Load as LoadSink>::Io>,
    ) -> Result {
        let _ = (cx, sink, io);
        Ok(())
    }

    /// Ends any session that the device has, also one that the layer does not know of. Succeeds if
    /// the device has none.
    ///
    /// # Errors
    ///
    /// After any error the layer calls this again before the next session.
    fn end_sessions(&self, cx: &Self::Context<'_>) -> Result {
        let _ = cx;
        Ok(())
    }

    /// Returns the bytes that a save session would deliver if it began now, for MIG_DATA_SIZE while
    /// there is no save session. During one, [`SaveSource::try_pending`] is asked instead.
    ///
    /// VMMs ask thousands of times a second and in every state. So this is quick and has no side
    /// effects: it does not sleep for the device, sends it no command and does not resume it.
    /// Called without the state lock.
    ///
    /// # Errors
    ///
    /// Any error is returned to the user.
    fn pending(&self, cx: &Self::Context<'_>) -> Result<Pending>;

    /// Ends any session of the device and makes the device run. Called after a reset of the device
    /// if commands of an arc may have reached the device after the reset, and when a device is
    /// opened that vfio-pci-core could not reset, which is as its last user has left it. It may be
    /// called with `memory_lock` held for writing, so it must not take a lock under which user
    /// memory is accessed, and must return within seconds. Has nothing to do for a device that has
    /// no sessions and runs at every level.
    ///
    /// # Errors
    ///
    /// After any error the layer calls this again on each request of a user, until it succeeds.
    /// Until then each request fails with its error, and only arcs that end a save session are
    /// carried out. If this fails after a reset or an open with any error but `ENOTCONN`, the layer
    /// also calls [`Self::end_sessions`] before the next session.
    fn recover(&self) -> Result;

    /// Called at the end of each arc, for tracing. `errno` is 0 or negative.
    fn arc_ended(&self, cx: &Self::Context<'_>, from: State, to: State, errno: i32) {
        let _ = (cx, from, to, errno);
    }

    /// Logs a warning about the device.
    fn warn(&self, cx: &Self::Context<'_>, message: fmt::Arguments<'_>) {
        let _ = cx;
        pr_warn!("{}\n", message);
    }
}
