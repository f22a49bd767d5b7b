// SPDX-License-Identifier: GPL-2.0

//! Anonymous stream files: files without a name or a position, made by a driver and handed to a
//! user.
//!
//! C header: [`include/linux/anon_inodes.h`](srctree/include/linux/anon_inodes.h)

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

/// Access mode of an anonymous file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// `O_RDONLY`: the user reads what the driver produces.
    Read,
    /// `O_WRONLY`: the driver takes what the user writes.
    Write,
}

/// Operations of an anonymous file. The file owns its `Self`; several threads may call them at
/// once, because a stream file has no position lock.
#[vtable]
pub(crate) trait AnonFile: Sized + Send + Sync + 'static {
    /// Handles `read()`. With `nonblock` (`O_NONBLOCK`) it must not sleep for data.
    fn read(&self, dst: &mut IovIterDest<'_>, nonblock: bool) -> Result<usize> {
        let _ = (dst, nonblock);
        kernel::build_assert::build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Handles `write()`. With `nonblock` (`O_NONBLOCK`) it must not sleep for space.
    fn write(&self, src: &mut IovIterSource<'_>, nonblock: bool) -> Result<usize> {
        let _ = (src, nonblock);
        kernel::build_assert::build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Handles `ioctl()`, also from 32-bit callers, whose `arg` `compat_ptr_ioctl()` has converted
    /// as a pointer.
    fn ioctl(&self, cmd: u32, arg: usize) -> Result<isize> {
        let _ = (cmd, arg);
        kernel::build_assert::build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Handles `poll()`: adds `table` to the wait queues of the file, then returns the `EPOLL*`
    /// events that are ready.
    fn poll(&self, file: &File, table: PollTable<'_>) -> u32 {
        let _ = (file, table);
        kernel::build_assert::build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// The file operations of `T`.
struct Vtable<T>(PhantomData<T>);

impl<T: AnonFile> Vtable<T> {
    const FOPS: kbindings::file_operations = kbindings::file_operations {
        // An open file pins the module whose functions it calls (contract K8).
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
        // SAFETY: `new` stored a `Pin<KBox<T>>`, which is not freed before `release`; the caller
        // has a reference to the file.
        unsafe { <Pin<KBox<T>> as ForeignOwnable>::borrow((*file).private_data) }.get_ref()
    }

    /// # Safety
    ///
    /// `iocb` is a valid iocb of a file made by [`new`] for `T`.
    unsafe fn nonblock(iocb: *mut kbindings::kiocb) -> bool {
        // `IOCB_NOWAIT` is never set: these files do not have `FMODE_NOWAIT`.
        //
        // SAFETY: The iocb and its file are valid during the call that they were passed to. There
        // is no active `fdget_pos` region: a stream file has none.
        let file = unsafe { File::from_raw_file((*iocb).ki_filp) };
        // `fcntl(F_SETFL)` may write the flags at the same time; `flags()` reads them volatile.
        file.flags() & flags::O_NONBLOCK != 0
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
        // SAFETY: `new` stored a `Pin<KBox<T>>`; the VFS calls this once, when no other call can
        // come.
        drop(unsafe { <Pin<KBox<T>> as ForeignOwnable>::from_foreign((*file).private_data) });
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
        // SAFETY: The VFS passes our file, and a table that is null or valid for this call. There
        // is no active `fdget_pos` region: a stream file has none.
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

/// Converts the result of a read or write for C.
fn size_or_errno(result: Result<usize>) -> isize {
    match result {
        // CAST: The VFS limits a transfer to `MAX_RW_COUNT`, which fits.
        Ok(bytes) => bytes as isize,
        Err(error) => error.to_errno() as isize,
    }
}

/// Creates a stream file that owns `data`. `name` shows in `/proc/<pid>/fd`.
///
/// # Errors
///
/// `ENOMEM` or `ENFILE`; `data` is dropped before this returns.
pub(crate) fn new<T: AnonFile>(
    name: &'static CStr,
    data: Pin<KBox<T>>,
    direction: Direction,
) -> Result<ARef<File>> {
    let fops: &'static kbindings::file_operations = const { &Vtable::<T>::FOPS };
    let access = match direction {
        Direction::Read => flags::O_RDONLY,
        Direction::Write => flags::O_WRONLY,
    };
    let private = data.into_foreign();
    // SAFETY: `name` is a C string, `fops` is static and its functions expect the `Pin<KBox<T>>`
    // that `private` is.
    let file = from_err_ptr(unsafe {
        bindings::anon_inode_getfile(name.as_char_ptr(), fops, private, access as c_int)
    })
    .inspect_err(|_| {
        // SAFETY: On failure the file does not exist, so the box is still ours.
        drop(unsafe { <Pin<KBox<T>> as ForeignOwnable>::from_foreign(private) })
    })?;
    // SAFETY: The file is new and not shared yet. `stream_open()` ignores its inode and cannot
    // fail.
    unsafe { kbindings::stream_open((*file).f_inode, file) };
    // SAFETY: `file` is not null and comes with one reference, which is ours. No thread is in an
    // `fdget_pos` region of it, because it has no descriptor yet.
    Ok(unsafe { ARef::from_raw(NonNull::new_unchecked(file.cast::<File>())) })
}

/// Returns the module that files of `T` pin.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) fn owner<T: AnonFile>() -> *mut kbindings::module {
    Vtable::<T>::FOPS.owner
}

#[kunit_tests(ext_anon_file)]
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
        let data = KBox::pin(Probe(dropped.clone()), GFP_KERNEL)?;
        let file = new(c"[vfio-kunit]", data, Direction::Read)?;
        assert_eq!(file.flags() & flags::O_ACCMODE, flags::O_RDONLY);
        // SAFETY: The file is valid and private to this test.
        let seek = unsafe { kbindings::vfs_llseek(file.as_ptr(), 0, kbindings::SEEK_CUR as c_int) };
        assert_eq!(seek, i64::from(ESPIPE.to_errno()));
        assert_eq!(dropped.load(Relaxed), 0);
        Ok(())
    }

    /// Each call gets the present flags of the file, which fcntl(2) may have changed.
    #[test]
    fn s5_nonblock_is_as_the_file_says_at_each_call() -> Result {
        let dropped = Arc::new(Atomic::new(0u32), GFP_KERNEL)?;
        let data = KBox::pin(Probe(dropped.clone()), GFP_KERNEL)?;
        let file = new(c"[vfio-kunit]", data, Direction::Read)?;
        for nonblock in [false, true, false] {
            let mut byte = 0u8;
            // SAFETY: The file is valid and private to this test, `byte` is valid for writes of one
            // byte, and a stream file takes no position.
            let read = unsafe {
                let flags = &raw mut (*file.as_ptr()).f_flags;
                let others = *flags & !flags::O_NONBLOCK;
                flags.write_volatile(others | if nonblock { flags::O_NONBLOCK } else { 0 });
                kbindings::kernel_read(
                    file.as_ptr(),
                    (&raw mut byte).cast(),
                    1,
                    core::ptr::null_mut(),
                )
            };
            assert_eq!((read, byte), (1, u8::from(nonblock)));
        }
        Ok(())
    }

    /// Returns one byte: whether the read is nonblocking.
    struct Probe(Arc<Atomic<u32>>);

    impl Drop for Probe {
        fn drop(&mut self) {
            self.0.store(1, Relaxed);
        }
    }

    #[vtable]
    impl AnonFile for Probe {
        fn read(&self, dst: &mut IovIterDest<'_>, nonblock: bool) -> Result<usize> {
            Ok(dst.copy_to_iter(&[u8::from(nonblock)]))
        }
    }
}
