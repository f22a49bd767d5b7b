// SPDX-License-Identifier: GPL-2.0

//! Copies of structs from and to user memory, and clearing of user memory.

use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// Copies a struct from user memory at `addr`. Each byte is read once.
///
/// # Errors
///
/// `EFAULT`.
pub(crate) fn read<T: FromBytes + IntoBytes + zerocopy::FromZeros>(addr: usize) -> Result<T> {
    let mut value = T::new_zeroed();
    UserSlice::new(UserPtr::from_addr(addr), size_of::<T>())
        .reader()
        .read_slice(value.as_mut_bytes())?;
    Ok(value)
}

/// Copies a struct to user memory at `addr`.
///
/// # Errors
///
/// `EFAULT`; part may have been written.
pub(crate) fn write<T: IntoBytes + zerocopy::Immutable>(addr: usize, value: &T) -> Result {
    UserSlice::new(UserPtr::from_addr(addr), size_of::<T>())
        .writer()
        .write_slice(value.as_bytes())
}

/// Writes `len` zeros to user memory at `ptr`.
///
/// # Errors
///
/// `EFAULT`; part may have been written.
pub(crate) fn clear(ptr: *mut c_void, len: usize) -> Result {
    const ZEROS: [u8; 64] = [0; 64];
    let mut writer = UserSlice::new(UserPtr::from_ptr(ptr), len).writer();
    while !writer.is_empty() {
        let now = writer.len().min(ZEROS.len());
        writer.write_slice(ZEROS.get(..now).ok_or(EINVAL)?)?;
    }
    Ok(())
}
