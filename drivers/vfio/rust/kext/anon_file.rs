// SPDX-License-Identifier: GPL-2.0

//! Anonymous stream files: files without a name or a position, made by a driver and handed to a user.

use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings as kbindings,
    error::{
        from_err_ptr,
        VTABLE_DEFAULT_ERROR, //
    },
    fs::{
        file::flags,
        File, //
    },
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    module::this_module,
    prelude::*,
    sync::{
        aref::ARef,
        poll::PollTable, //
    },
    types::ForeignOwnable, //
};

/// Which way the data goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// The user reads.
    Read,
    /// The user writes.
    Write,
}

/// Operations of an anonymous file. The file owns its `Self`; several threads may call at once, because
/// a stream file has no position lock.
#[vtable]
pub(crate) trait AnonFile: Sized + Send + Sync + 'static {
    /// `read()`. `nonblock`: the caller must not sleep for data.
    fn read(&self, dst: &mut IovIterDest<'_>, nonblock: bool) -> Result<usize> {
        let _ = (dst, nonblock);
        kernel::build_assert::build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// `write()`.
    fn write(&self, src: &mut IovIterSource<'_>, nonblock: bool) -> Result<usize> {
        let _ = (src, nonblock);
        kernel::build_assert::build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// `ioctl()`; the same for 32-bit callers, with `arg` converted as a pointer.
    fn ioctl(&self, cmd: u32, arg: usize) -> Result<isize> {
        let _ = (cmd, arg);
        kernel::build_assert::build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// `poll()`: registers with the queues that will be woken, then tells the `EPOLL*` events of now.
    fn poll(&self, file: &File, table: PollTable<'_>) -> u32 {
        let _ = (file, table);
        kernel::build_assert::build_error!(VTABLE_DEFAULT_ERROR)
    }
}

struct Vtable<T>(PhantomData<T>);

impl<T: AnonFile> Vtable<T> {
    const FOPS: kbindings::file_operations = kbindings::file_operations {
        // Pins the module for as long as the file is open (contract K8).
        owner: this_module::<T::OwnerModule>().as_ptr(),
        release: Some(Self::release),
        read_iter: if T::HAS_READ {
            Some(Self::read_iter)
        } else {
            None
        },
        write_iter: if T::HAS_WRITE {
            Some(Self::write_iter)
        } else {
            None
        },
        unlocked_ioctl: if T::HAS_IOCTL {
            Some(Self::ioctl)
        } else {
            None
        },
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: if T::HAS_IOCTL {
            Some(kbindings::compat_ptr_ioctl)
        } else {
            None
        },
        poll: if T::HAS_POLL { Some(Self::poll) } else { None },
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `file` is a valid file made by [`new`] for `T`.
    unsafe fn data<'a>(file: *mut kbindings::file) -> &'a T {
        // SAFETY: `new` stored a `KBox<T>`, which is not freed before `release`; the caller has a
        // reference to the file.
        unsafe { <KBox<T> as ForeignOwnable>::borrow((*file).private_data) }
    }

    /// # Safety
    ///
    /// `iocb` is a valid iocb of a file made by [`new`] for `T`.
    unsafe fn nonblock(iocb: *mut kbindings::kiocb) -> bool {
        // `IOCB_NOWAIT` needs no look: these files do not have `FMODE_NOWAIT`.
        //
        // SAFETY: The iocb is valid, and so is its file.
        unsafe { (*(*iocb).ki_filp).f_flags & flags::O_NONBLOCK != 0 }
    }

    /// `file_operations.release`.
    ///
    /// # Safety
    ///
    /// The VFS calls it, for a file made by [`new`] for `T`.
    unsafe extern "C" fn release(
        _inode: *mut kbindings::inode,
        file: *mut kbindings::file,
    ) -> c_int {
        // SAFETY: `new` stored a `KBox<T>`; the VFS calls this once, when no other call can come.
        drop(unsafe { <KBox<T> as ForeignOwnable>::from_foreign((*file).private_data) });
        0
    }

    /// `file_operations.read_iter`.
    ///
    /// # Safety
    ///
    /// The VFS calls it, for a file made by [`new`] for `T`.
    unsafe extern "C" fn read_iter(
        iocb: *mut kbindings::kiocb,
        iter: *mut kbindings::iov_iter,
    ) -> isize {
        // SAFETY: The VFS passes a valid iocb of our file, and an iterator to read into.
        let (this, nonblock, dst) = unsafe {
            (
                Self::data((*iocb).ki_filp),
                Self::nonblock(iocb),
                IovIterDest::from_raw(iter),
            )
        };
        size_or_errno(this.read(dst, nonblock))
    }

    /// `file_operations.write_iter`.
    ///
    /// # Safety
    ///
    /// The VFS calls it, for a file made by [`new`] for `T`.
    unsafe extern "C" fn write_iter(
        iocb: *mut kbindings::kiocb,
        iter: *mut kbindings::iov_iter,
    ) -> isize {
        // SAFETY: The VFS passes a valid iocb of our file, and an iterator to write from.
        let (this, nonblock, src) = unsafe {
            (
                Self::data((*iocb).ki_filp),
                Self::nonblock(iocb),
                IovIterSource::from_raw(iter),
            )
        };
        size_or_errno(this.write(src, nonblock))
    }

    /// `file_operations.unlocked_ioctl`.
    ///
    /// # Safety
    ///
    /// The VFS calls it, for a file made by [`new`] for `T`.
    unsafe extern "C" fn ioctl(file: *mut kbindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: The VFS passes our file.
        let this = unsafe { Self::data(file) };
        match this.ioctl(cmd, arg) {
            Ok(value) => value as c_long,
            Err(error) => error.to_errno() as c_long,
        }
    }

    /// `file_operations.poll`.
    ///
    /// # Safety
    ///
    /// The VFS calls it, for a file made by [`new`] for `T`.
    unsafe extern "C" fn poll(
        file: *mut kbindings::file,
        table: *mut kbindings::poll_table_struct,
    ) -> kbindings::__poll_t {
        // SAFETY: The VFS passes our file, and a table that is null or valid for this call. There is no
        // active `fdget_pos` region: a stream file has none.
        let (this, file, table) = unsafe {
            (
                Self::data(file),
                File::from_raw_file(file),
                PollTable::from_raw(table),
            )
        };
        this.poll(file, table)
    }
}

fn size_or_errno(result: Result<usize>) -> isize {
    match result {
        // CAST: The VFS limits a transfer to `MAX_RW_COUNT`, which fits.
        Ok(bytes) => bytes as isize,
        Err(error) => error.to_errno() as isize,
    }
}

/// Makes a stream file that owns `data`. The name shows in `/proc/<pid>/fd`.
///
/// # Errors
///
/// `ENOMEM`, `ENFILE`; `data` is dropped then.
pub(crate) fn new<T: AnonFile>(
    name: &'static CStr,
    data: KBox<T>,
    direction: Direction,
) -> Result<ARef<File>> {
    let fops: &'static kbindings::file_operations = const { &Vtable::<T>::FOPS };
    let access = match direction {
        Direction::Read => flags::O_RDONLY,
        Direction::Write => flags::O_WRONLY,
    };
    let private = data.into_foreign();
    // SAFETY: `name` is a C string, `fops` is static and its functions expect the `KBox<T>` that `private`
    // is.
    let file = from_err_ptr(unsafe {
        bindings::anon_inode_getfile(name.as_char_ptr(), fops, private, access as c_int)
    })
    .inspect_err(|_| {
        // SAFETY: On failure the file does not exist, so the box is still ours.
        drop(unsafe { <KBox<T> as ForeignOwnable>::from_foreign(private) })
    })?;
    // SAFETY: The file is new and not shared yet. `stream_open()` ignores its inode and cannot fail.
    unsafe { kbindings::stream_open((*file).f_inode, file) };
    // SAFETY: `file` is not null and comes with one reference, which is ours. Nobody can be in an
    // `fdget_pos` region of it.
    Ok(unsafe { ARef::from_raw(NonNull::new_unchecked(file.cast::<File>())) })
}

#[kunit_tests(dlr_kext_anon_file)]
mod tests {
    use super::*;
    use kernel::sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
    };

    #[test]
    fn file_is_a_stream_with_one_direction() -> Result {
        let dropped = Arc::new(Atomic::new(0u32), GFP_KERNEL)?;
        let data = KBox::new(Probe(dropped.clone()), GFP_KERNEL)?;
        let file = new(c"[dlr-kunit]", data, Direction::Read)?;
        assert_eq!(file.flags() & flags::O_ACCMODE, flags::O_RDONLY);
        // SAFETY: The file is valid and private to this test.
        let seek = unsafe { kbindings::vfs_llseek(file.as_ptr(), 0, kbindings::SEEK_CUR as c_int) };
        assert_eq!(seek, i64::from(ESPIPE.to_errno()));
        assert_eq!(dropped.load(Relaxed), 0);
        Ok(())
    }

    struct Probe(Arc<Atomic<u32>>);

    impl Drop for Probe {
        fn drop(&mut self) {
            self.0.store(1, Relaxed);
        }
    }

    #[vtable]
    impl AnonFile for Probe {
        fn read(&self, dst: &mut IovIterDest<'_>, _nonblock: bool) -> Result<usize> {
            Ok(dst.copy_to_iter(b"x"))
        }
    }
}
