// SPDX-License-Identifier: GPL-2.0

//! The file through which the user reads or writes device state (`data_fd` in
//! `include/uapi/linux/vfio.h`; contract D1 to D20).
//!
//! A file can outlive the state that made it, the close of the device and the binding of the
//! driver. So it owns an `Arc` of the driver's session, whose methods return `ENODEV` once the
//! session has ended.

use super::{
    link::Link,
    migration::state::State,
    state_lock::StateMirror, //
};
use crate::{
    bindings,
    ext::{
        anon_file::{
            self,
            AnonFile,
            Direction, //
        },
        gfp::USER,
        killable::lock_interruptible,
        user, //
    },
};
use core::mem::offset_of;
use kernel::{
    bindings as kbindings,
    fs::File,
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        poll::{
            PollCondVar,
            PollTable, //
        },
        Arc,
        Mutex, //
    },
    ModuleMetadata, //
};

#[cfg(CONFIG_KUNIT = "y")]
mod tests_of_files;

/// The file of a new session, before VFIO gives it to the user.
pub(crate) struct MigrationFile(ARef<File>);

impl MigrationFile {
    pub(super) fn into_raw(self) -> *mut kbindings::file {
        ARef::into_raw(self.0).as_ptr().cast()
    }
}

/// The state of a session for `poll()`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Readiness {
    /// A read would have no data now.
    Idle,
    /// A read returns data or the end of the stream.
    Readable,
    /// The session has ended and a read fails.
    Dead,
}

/// The answer to `VFIO_MIG_GET_PRECOPY_INFO`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PrecopyInfo {
    /// Bytes of the initial image that the user has not read.
    pub(crate) initial_bytes: u64,
    /// Bytes of later changes that the user has not read.
    pub(crate) dirty_bytes: u64,
    /// A new initial image has begun. Only users of version 2 are told.
    pub(crate) reinit: bool,
}

/// A session from which the user reads device state.
///
/// Several threads may call the methods at once, also after the session has ended. A lock that
/// [`Migration::reset`](super::migration::Migration::reset) takes must not be held while data is
/// copied to `dst`: take the data out of the session under the lock, and copy it after releasing
/// the lock.
pub(crate) trait Save: Send + Sync + 'static {
    /// The module that has the code of the methods. The open file pins it.
    type OwnerModule: ModuleMetadata;

    /// Copies the next bytes of the stream to `dst`. Returns 0 only at the end of a stop-copy
    /// stream (contract D7 to D9). Short reads are allowed.
    ///
    /// # Errors
    ///
    /// * `ENOMSG`: in pre-copy, there is no data now.
    /// * `EAGAIN`: with `nonblock`, the data has not come from the device yet.
    /// * `ERESTARTSYS`: a signal came while waiting for data.
    /// * `EFAULT`: no byte could be copied. If some could, their number is returned instead.
    /// * `ENODEV`: the session has ended.
    fn read(&self, dst: &mut IovIterDest<'_>, nonblock: bool) -> Result<usize>;

    /// Returns the queue that is notified on every change of [`Self::readiness`].
    fn poll_queue(&self) -> &PollCondVar;

    /// Returns the state of the session for `poll()` (contract D10).
    fn readiness(&self) -> Readiness;

    /// Returns the number of bytes that the user has not read. Only called in pre-copy, where a VMM
    /// may call it thousands of times a second. Without `v2` the user does not know `reinit`, so
    /// the bytes of a later initial image count as dirty (contract D14, D15). A set `reinit` is
    /// returned again until [`Self::precopy_told`].
    ///
    /// # Errors
    ///
    /// * `ENODEV`: the session has ended.
    fn precopy_info(&self, v2: bool) -> Result<PrecopyInfo>;

    /// Called when the user has received the last answer of [`Self::precopy_info`] and it has a set
    /// `reinit`, which is not returned again. The caller lets no other call of either method come
    /// in between.
    fn precopy_told(&self);
}

/// A session to which the user writes device state. The rules of [`Save`] apply.
pub(crate) trait Resume: Send + Sync + 'static {
    /// See [`Save::OwnerModule`].
    type OwnerModule: ModuleMetadata;

    /// Takes the next bytes of the stream, which the user may have split anywhere, and checks them
    /// all (contract R1 to R8).
    ///
    /// # Errors
    ///
    /// * `ENODEV`: the session has ended, or an earlier write failed.
    /// * `EFAULT`: no byte could be copied.
    /// * Other errors: the stream is invalid, and later writes fail with `ENODEV`.
    fn write(&self, src: &mut IovIterSource<'_>, nonblock: bool) -> Result<usize>;
}

/// The file of a save session.
#[pin_data]
pub(super) struct SaveFile<S> {
    session: Arc<S>,
    link: Arc<Link>,
    state: Arc<StateMirror>,
    /// Held from [`Save::precopy_info`] until the answer is in user memory, so a page fault may
    /// block its holder. Only the ioctl takes it.
    #[pin]
    asking: Mutex<()>,
}

pub(super) fn save<S: Save>(
    session: Arc<S>,
    link: Arc<Link>,
    state: Arc<StateMirror>,
) -> Result<MigrationFile> {
    let data = KBox::pin_init(SaveFile::new(session, link, state), USER)?;
    anon_file::new(c"[vfio-save]", data, Direction::Read).map(MigrationFile)
}

#[vtable]
impl<S: Save> AnonFile for SaveFile<S> {
    // The file must pin the module of the driver, whose code this `impl` of the layer calls.
    type OwnerModule = S::OwnerModule;

    fn read(&self, dst: &mut IovIterDest<'_>, nonblock: bool) -> Result<usize> {
        if dst.is_empty() {
            return Ok(0);
        }
        self.session.read(dst, nonblock)
    }

    fn poll(&self, file: &File, table: PollTable<'_>) -> u32 {
        table.register_wait(file, self.session.poll_queue());
        poll_events(self.session.readiness())
    }

    fn ioctl(&self, cmd: u32, arg: usize) -> Result<isize> {
        self.precopy(cmd, arg)
    }
}

/// The file of a load session.
pub(super) struct ResumeFile<R> {
    pub(super) session: Arc<R>,
}

pub(super) fn resume<R: Resume>(session: Arc<R>) -> Result<MigrationFile> {
    let data = KBox::pin(ResumeFile { session }, USER)?;
    anon_file::new(c"[vfio-resume]", data, Direction::Write).map(MigrationFile)
}

#[vtable]
impl<R: Resume> AnonFile for ResumeFile<R> {
    type OwnerModule = R::OwnerModule;

    fn write(&self, src: &mut IovIterSource<'_>, nonblock: bool) -> Result<usize> {
        if src.is_empty() {
            return Ok(0);
        }
        self.session.write(src, nonblock)
    }
}

fn poll_events(readiness: Readiness) -> u32 {
    let readable = kbindings::POLLIN | kbindings::POLLRDNORM;
    match readiness {
        Readiness::Idle => 0,
        Readiness::Readable => readable,
        Readiness::Dead => readable | kbindings::POLLRDHUP,
    }
}

/// `struct vfio_precopy_info` of the uAPI.
#[derive(FromBytes, IntoBytes, zerocopy_derive::Immutable, Clone, Copy)]
#[repr(C)]
struct RawPrecopyInfo {
    argsz: u32,
    flags: u32,
    initial_bytes: u64,
    dirty_bytes: u64,
}

const _: () = {
    use bindings::vfio_precopy_info as c;
    static_assert!(size_of::<RawPrecopyInfo>() == size_of::<c>());
    static_assert!(offset_of!(RawPrecopyInfo, flags) == offset_of!(c, flags));
    static_assert!(offset_of!(RawPrecopyInfo, initial_bytes) == offset_of!(c, initial_bytes));
    static_assert!(offset_of!(RawPrecopyInfo, dirty_bytes) == offset_of!(c, dirty_bytes));
};

impl RawPrecopyInfo {
    /// Checks what the user has passed to the ioctl in `state` (contract D11).
    ///
    /// # Errors
    ///
    /// `EINVAL` if the user has no room for the answer, or outside of pre-copy.
    fn check(&self, state: State) -> Result {
        if (self.argsz as usize) < size_of::<Self>() || !state.is_precopy() {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Fills in the answer to `self`, which the user passed. Without version 2 the flags stay as
    /// passed, as before version 2 existed (contract D13).
    fn answered(self, answer: &PrecopyInfo, v2: bool) -> Self {
        let flags = match (v2, answer.reinit) {
            (false, _) => self.flags,
            (true, true) => PRECOPY_INFO_REINIT,
            (true, false) => 0,
        };
        Self {
            flags,
            initial_bytes: answer.initial_bytes,
            dirty_bytes: answer.dirty_bytes,
            ..self
        }
    }
}

impl<S: Save> SaveFile<S> {
    /// Makes the data of the file of `session`.
    pub(super) fn new(
        session: Arc<S>,
        link: Arc<Link>,
        state: Arc<StateMirror>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            session,
            link,
            state,
            asking <- new_mutex!((), "vfio_precopy_info"),
        })
    }

    /// Returns whether a call is between its question and its answer.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) fn is_asking(&self) -> bool {
        self.asking.try_lock().is_none()
    }

    /// Handles `VFIO_MIG_GET_PRECOPY_INFO`, with the checks of the inline
    /// `vfio_check_precopy_ioctl()` (contract D11 to D13).
    fn precopy(&self, cmd: u32, arg: usize) -> Result<isize> {
        if cmd != PRECOPY_INFO {
            return Err(ENOTTY);
        }
        let info: RawPrecopyInfo = user::read(arg)?;
        info.check(self.state.get())?;
        let v2 = self.link.precopy_info_v2();
        // `reinit` must reach the user exactly once: also if writing an answer fails, and also with
        // two calls at once.
        let asking = lock_interruptible(&self.asking)?;
        let answer = self.session.precopy_info(v2)?;
        user::write(arg, &info.answered(&answer, v2))?;
        // Only a `reinit` is remembered, and VMMs ask thousands of times a second without one.
        if answer.reinit {
            self.session.precopy_told();
        }
        drop(asking);
        Ok(0)
    }
}

/// `VFIO_MIG_GET_PRECOPY_INFO`, a macro that bindgen does not evaluate.
const PRECOPY_INFO: u32 = kernel::ioctl::_IO(bindings::VFIO_TYPE as u32, bindings::VFIO_BASE + 21);
/// `VFIO_PRECOPY_INFO_REINIT`.
const PRECOPY_INFO_REINIT: u32 = 1 << 0;
