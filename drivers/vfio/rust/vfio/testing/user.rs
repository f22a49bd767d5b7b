// SPDX-License-Identifier: GPL-2.0

//! A user of migration files with kernel memory as its buffers.

use crate::vfio::migration_file::{
    Resume,
    Save, //
};
use core::mem::MaybeUninit;
use kernel::{
    bindings,
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    prelude::*,
};

/// Reads at most `len` bytes without blocking.
pub(super) fn read(session: &impl Save, len: usize) -> Result<KVVec<u8>> {
    read_with(session, len, true)
}

/// Reads at most `len` bytes.
pub(super) fn read_with(session: &impl Save, len: usize, nonblock: bool) -> Result<KVVec<u8>> {
    into_buffer(len, |dst| session.read(dst, nonblock))
}

/// Writes all of `bytes` without blocking.
pub(super) fn write(session: &impl Resume, bytes: &[u8]) -> Result<usize> {
    from_bytes(bytes, |src| session.write(src, true))
}

/// Calls `f` with the buffer of a read of `len` bytes, and returns as many bytes of it as `f`
/// returns.
pub(super) fn into_buffer(
    len: usize,
    f: impl FnOnce(&mut IovIterDest<'_>) -> Result<usize>,
) -> Result<KVVec<u8>> {
    let mut bytes = KVVec::from_elem(0u8, len, GFP_KERNEL)?;
    let kvec = bindings::kvec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: len,
    };
    let mut iter = MaybeUninit::<bindings::iov_iter>::uninit();
    let iter = iter.as_mut_ptr();
    // SAFETY: `kvec` and the bytes that it points to outlive `iter`, and are not used otherwise
    // before its last use below.
    let read = unsafe {
        bindings::iov_iter_kvec(iter, bindings::ITER_DEST, &kvec, 1, len);
        f(IovIterDest::from_raw(iter))
    }?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Calls `f` with `bytes` as the data of a write.
pub(super) fn from_bytes<R>(bytes: &[u8], f: impl FnOnce(&mut IovIterSource<'_>) -> R) -> R {
    let kvec = bindings::kvec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut iter = MaybeUninit::<bindings::iov_iter>::uninit();
    let iter = iter.as_mut_ptr();
    // SAFETY: `kvec` and the bytes that it points to outlive `iter`, and a source is read only.
    unsafe {
        bindings::iov_iter_kvec(iter, bindings::ITER_SOURCE, &kvec, 1, bytes.len());
        f(IovIterSource::from_raw(iter))
    }
}
