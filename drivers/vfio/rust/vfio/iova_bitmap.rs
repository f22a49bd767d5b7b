// SPDX-License-Identifier: GPL-2.0

//! Ranges of I/O virtual addresses, and the user's bitmap in which a report marks dirty ones.
//!
//! C header: [`include/linux/iova_bitmap.h`](srctree/include/linux/iova_bitmap.h)

#[cfg(CONFIG_KUNIT = "y")]
mod tests_of_bitmaps;

use crate::{
    bindings,
    ext::signal, //
};
use kernel::{
    error::to_result,
    prelude::*, //
};

/// A range of I/O virtual addresses.
///
/// # Invariants
///
/// `length` is not 0, and `iova + length` does not overflow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IovaRange {
    iova: u64,
    length: u64,
}

impl IovaRange {
    /// Makes a range of `length` bytes from `iova`.
    ///
    /// # Errors
    ///
    /// `EINVAL` when `length` is 0, `EOVERFLOW` when the end is not below 2^64.
    pub(crate) fn new(iova: u64, length: u64) -> Result<Self> {
        if length == 0 {
            return Err(EINVAL);
        }
        iova.checked_add(length).ok_or(EOVERFLOW)?;
        Ok(Self { iova, length })
    }

    /// Returns the first address.
    pub(crate) fn iova(&self) -> u64 {
        self.iova
    }

    /// Returns the length in bytes, which is not 0.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Returns the first address after the range.
    pub(crate) fn end(&self) -> u64 {
        // By the type invariant this does not wrap.
        self.iova.wrapping_add(self.length)
    }

    /// Returns the part that also lies in `other`, if there is one.
    pub(crate) fn intersection(&self, other: &Self) -> Option<Self> {
        let iova = self.iova.max(other.iova);
        let end = self.end().min(other.end());
        (iova < end).then(|| Self {
            iova,
            length: end - iova,
        })
    }
}

/// The destination of a report of dirty ranges. It is a trait so that tests can collect a report in
/// a list.
pub(crate) trait DirtySink {
    /// Marks `length` bytes from `iova` dirty. This is cheapest with ascending addresses and long
    /// runs (contract X5, X6). What lies outside of the reported range is ignored.
    ///
    /// # Errors
    ///
    /// This run or an earlier one of the same report may not have reached the user. The caller
    /// clears nothing in the log and fails the report.
    fn set_run(&mut self, iova: u64, length: u64) -> Result;

    /// Completes the report. Called after the last run and before anything is cleared in the log.
    ///
    /// # Errors
    ///
    /// See [`Self::set_run`].
    fn finish(&mut self) -> Result {
        Ok(())
    }
}

/// The bitmap of one `VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT`, in user memory.
pub(crate) struct IovaBitmap<'a> {
    raw: &'a mut bindings::iova_bitmap,
    range: IovaRange,
    /// Number of runs set so far, modulo 2^32.
    runs: u32,
}

/// Number of runs between two checks for a fatal signal.
const LOOK_EVERY: u32 = 1024;

impl<'a> IovaBitmap<'a> {
    /// # Safety
    ///
    /// `raw` is the bitmap that VFIO passed for a report of `range`, and is valid for `'a`.
    pub(super) unsafe fn from_raw(raw: *mut bindings::iova_bitmap, range: IovaRange) -> Self {
        Self {
            // SAFETY: By the requirements of this function. VFIO made the bitmap for this call
            // only.
            raw: unsafe { &mut *raw },
            range,
            runs: 0,
        }
    }
}

/// Clamps a run of `length` bytes from `iova` to `range`. A run whose end would wrap reaches to the
/// end of `range`.
///
/// `iova_bitmap_set()` ignores all of a run that starts below the range, and writes behind the
/// user's array for a run that ends above it (contract L14).
fn clamp(range: &IovaRange, iova: u64, length: u64) -> Option<IovaRange> {
    let end = iova.saturating_add(length).min(range.end());
    let iova = iova.max(range.iova());
    let length = end.checked_sub(iova)?;
    IovaRange::new(iova, length).ok()
}

/// The return type of `iova_bitmap_set()`: `()`, or an errno in a kernel with the patch in
/// `Documentation/upstream`.
trait Answer {
    /// Whether the type can express an error.
    #[cfg(CONFIG_KUNIT = "y")]
    const TELLS: bool;

    fn to_result(self) -> Result;
}

impl Answer for () {
    #[cfg(CONFIG_KUNIT = "y")]
    const TELLS: bool = false;

    fn to_result(self) -> Result {
        Ok(())
    }
}

impl Answer for c_int {
    #[cfg(CONFIG_KUNIT = "y")]
    const TELLS: bool = true;

    fn to_result(self) -> Result {
        to_result(self)
    }
}

impl DirtySink for IovaBitmap<'_> {
    /// `iova_bitmap_set()` pins the user's pages. Pinning may fail, which the function does not
    /// return without the patch in `Documentation/upstream`. Without it the only failure that this
    /// can detect is a fatal signal, with which pinning fails from then on.
    ///
    /// If without the patch pages of the bitmap cannot be pinned for lack of memory, or because the
    /// user unmaps them during the call, the report succeeds and the user sees zeros for dirty
    /// pages.
    fn set_run(&mut self, iova: u64, length: u64) -> Result {
        if let Some(run) = clamp(&self.range, iova, length) {
            // SAFETY: The bitmap is valid and the run inside its range.
            unsafe {
                bindings::iova_bitmap_set(self.raw, run.iova() as usize, run.length() as usize)
            }
            .to_result()?;
            // End a long report early when its thread is being killed.
            self.runs = self.runs.wrapping_add(1);
            if self.runs % LOOK_EVERY == 0 {
                return self.finish();
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result {
        // One check at the end is enough: a fatal signal stays pending.
        if signal::fatal_pending() {
            return Err(EINTR);
        }
        Ok(())
    }
}

/// Returns whether `iova_bitmap_set()` of this kernel returns errors.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) fn tells_errors() -> bool {
    fn of<A: Answer>(
        _: unsafe extern "C" fn(*mut bindings::iova_bitmap, usize, usize) -> A,
    ) -> bool {
        A::TELLS
    }
    of(bindings::iova_bitmap_set)
}
