// SPDX-License-Identifier: GPL-2.0

//! The bitmap of a report in user memory, for KUnit tests, as
//! `vfio_ioctl_device_feature_logging_report()` in `drivers/vfio/vfio_main.c` makes it.

use super::iova_bitmap::{
    IovaBitmap,
    IovaRange, //
};
use crate::{
    bindings,
    ext::testing::UserMemory, //
};
use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    prelude::*, //
};

/// A bitmap with one bit for each page of 4 KiB of a range, in user memory of the running test.
pub(crate) struct UserBitmap<'a> {
    raw: NonNull<bindings::iova_bitmap>,
    range: IovaRange,
    /// The memory of the bits, which must outlive `raw`.
    _memory: &'a UserMemory,
}

impl<'a> UserBitmap<'a> {
    /// Makes a bitmap for `range` at the beginning of `memory`. If `memory` is too small, the pages
    /// beyond its end cannot be pinned.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(range: IovaRange, memory: &'a UserMemory) -> Result<Self> {
        let data = core::ptr::without_provenance_mut(memory.address());
        // SAFETY: Every task may call the function. `data` is a user pointer, which is not
        // dereferenced but pinned, and may be wrong.
        let raw = from_err_ptr(unsafe {
            bindings::iova_bitmap_alloc(range.iova() as usize, range.length() as usize, 4096, data)
        })?;
        Ok(Self {
            raw: NonNull::new(raw).ok_or(ENOMEM)?,
            range,
            _memory: memory,
        })
    }

    /// Returns the bitmap as a driver gets it.
    pub(crate) fn sink(&mut self) -> IovaBitmap<'_> {
        // SAFETY: `raw` was made for a report of `range`, and is borrowed with `self`.
        unsafe { IovaBitmap::from_raw(self.raw.as_ptr(), self.range) }
    }
}

impl Drop for UserBitmap<'_> {
    fn drop(&mut self) {
        // SAFETY: `raw` comes from `iova_bitmap_alloc()`, and no sink is left.
        unsafe { bindings::iova_bitmap_free(self.raw.as_ptr()) };
    }
}
