// SPDX-License-Identifier: GPL-2.0

//! The file through which device state is read or written (contract D1 to D20).
//!
//! A file outlives the state that made it, the close of the device and even the binding. So it owns an
//! `Arc` of the vendor's session, and a session that has ended must say so by itself (`ENODEV`).

use super::{
    device::Link,
    state_lock::StateMirror, //
};
use crate::{
    bindings,
    kext::{
        anon_file::{
            self,
            AnonFile,
            Direction, //
        },
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
    prelude::*,
    sync::{
        aref::ARef,
        poll::{
            PollCondVar,
            PollTable, //
        },
        Arc, //
    },
};

/// The file of a new session, on its way to the user.
pub(crate) struct MigrationFile(ARef<File>);

impl MigrationFile {
    pub(super) fn into_raw(self) -> *mut kbindings::file {
        ARef::into_raw(self.0).as_ptr().cast()
    }
}

/// What `poll()` tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Readiness {
    /// Nothing to read just now.
    Idle,
    /// A read returns data, or the end of the stream.
    Readable,
    /// The session has ended; a read fails.
    Dead,
}

/// Answer to `VFIO_MIG_GET_PRECOPY_INFO`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PrecopyInfo {
    /// Bytes of the initial image still to be read.
    pub(crate) initial_bytes: u64,
    /// Bytes of changes after it still to be read.
    pub(crate) dirty_bytes: u64,
    /// A new initial image has begun; only told to users of version 2.
    pub(crate) reinit: bool,
}

/// A session that the user reads device state from.
///
/// All methods may be called by several threads at once, and after the session has ended. A lock that
/// [`Migration::reset`](super::migration::Migration::reset) takes must not be held while `dst` is filled:
/// take the data out under the lock, copy it afterwards.
pub(crate) trait Save: Send + Sync + 'static {
    /// Copies the next bytes of the stream. Never returns 0 but at the end of a stop-copy stream
    /// (contract D7 to D9); a short read is fine.
    ///
    /// # Errors
    ///
    /// * `ENOMSG`: pre-copy, and nothing to read just now.
    /// * `EAGAIN`: stop-copy, nothing to read yet, and `nonblock`.
    /// * `ERESTARTSYS`: a signal came while waiting for data.
    /// * `EFAULT`: nothing at all could be copied. When something could, its size is returned.
    /// * `ENODEV`: the session has ended.
    fn read(&self, dst: &mut IovIterDest<'_>, nonblock: bool) -> Result<usize>;

    /// Notified on every change of [`Self::readiness`].
    fn poll_queue(&self) -> &PollCondVar;

    /// For `poll()` (contract D10).
    fn readiness(&self) -> Readiness;

    /// Bytes to come; asked in pre-copy only, by VMMs thousands of times a second. Without `v2` the user
    /// does not know about `reinit`: what belongs to a later initial image counts as dirty
    /// (contract D14, D15).
    ///
    /// # Errors
    ///
    /// * `ENODEV`: the session has ended.
    fn precopy_info(&self, v2: bool) -> Result<PrecopyInfo>;
}

/// A session that the user writes device state to. Rules as for [`Save`].
pub(crate) trait Resume: Send + Sync + 'static {
    /// Takes the next bytes of the stream, split anywhere. Checks all of them (contract R1 to R8).
    ///
    /// # Errors
    ///
    /// * `ENODEV`: the session has ended, or an earlier write failed.
    /// * `EFAULT`: nothing at all could be copied.
    /// * Others when the stream is bad; the session is dead from then on.
    fn write(&self, src: &mut IovIterSource<'_>, nonblock: bool) -> Result<usize>;
}

struct SaveFile<S> {
    session: Arc<S>,
    link: Arc<Link>,
    state: Arc<StateMirror>,
}

pub(super) fn save<S: Save>(
    session: Arc<S>,
    link: Arc<Link>,
    state: Arc<StateMirror>,
) -> Result<MigrationFile> {
    let data = KBox::new(
        SaveFile {
            session,
            link,
            state,
        },
        GFP_KERNEL_ACCOUNT,
    )?;
    anon_file::new(c"[vfio-save]", data, Direction::Read).map(MigrationFile)
}

#[vtable]
impl<S: Save> AnonFile for SaveFile<S> {
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
        precopy_ioctl(&*self.session, &self.link, &self.state, cmd, arg)
    }
}

struct ResumeFile<R> {
    session: Arc<R>,
}

pub(super) fn resume<R: Resume>(session: Arc<R>) -> Result<MigrationFile> {
    let data = KBox::new(ResumeFile { session }, GFP_KERNEL_ACCOUNT)?;
    anon_file::new(c"[vfio-resume]", data, Direction::Write).map(MigrationFile)
}

#[vtable]
impl<R: Resume> AnonFile for ResumeFile<R> {
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

/// The user's struct of the precopy ioctl.
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
    assert!(size_of::<RawPrecopyInfo>() == size_of::<c>());
    assert!(offset_of!(RawPrecopyInfo, flags) == offset_of!(c, flags));
    assert!(offset_of!(RawPrecopyInfo, initial_bytes) == offset_of!(c, initial_bytes));
    assert!(offset_of!(RawPrecopyInfo, dirty_bytes) == offset_of!(c, dirty_bytes));
};

/// What the inline `vfio_check_precopy_ioctl()` does, and the rest of the ioctl (contract D11 to D13).
fn precopy_ioctl<S: Save>(
    session: &S,
    link: &Link,
    state: &StateMirror,
    cmd: u32,
    arg: usize,
) -> Result<isize> {
    if cmd != PRECOPY_INFO {
        return Err(ENOTTY);
    }
    let mut info: RawPrecopyInfo = user::read(arg)?;
    if (info.argsz as usize) < size_of::<RawPrecopyInfo>() {
        return Err(EINVAL);
    }
    if !state.get().is_precopy() {
        return Err(EINVAL);
    }
    let v2 = link.precopy_info_v2();
    let answer = session.precopy_info(v2)?;
    info.initial_bytes = answer.initial_bytes;
    info.dirty_bytes = answer.dirty_bytes;
    // Without the opt-in the user gets back what was passed in, as ever.
    if v2 {
        info.flags = if answer.reinit {
            PRECOPY_INFO_REINIT
        } else {
            0
        };
    }
    user::write(arg, &info)?;
    Ok(0)
}

/// `VFIO_MIG_GET_PRECOPY_INFO`; the C macro is beyond bindgen.
const PRECOPY_INFO: u32 = kernel::ioctl::_IO(bindings::VFIO_TYPE as u32, bindings::VFIO_BASE + 21);
/// `VFIO_PRECOPY_INFO_REINIT`.
const PRECOPY_INFO_REINIT: u32 = 1 << 0;
