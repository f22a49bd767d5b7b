// SPDX-License-Identifier: GPL-2.0

//! Ranges of I/O virtual addresses, and the user's bitmap in which dirty ones are marked.

use crate::bindings;
use kernel::prelude::*;

/// A range of I/O virtual addresses.
///
/// # Invariants
///
/// Not empty, and `iova + length` does not overflow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IovaRange {
    iova: u64,
    length: u64,
}

impl IovaRange {
    /// `length` bytes from `iova`.
    ///
    /// # Errors
    ///
    /// `EINVAL` when empty, `EOVERFLOW` when the end is not below 2^64.
    pub(crate) fn new(iova: u64, length: u64) -> Result<Self> {
        if length == 0 {
            return Err(EINVAL);
        }
        iova.checked_add(length).ok_or(EOVERFLOW)?;
        Ok(Self { iova, length })
    }

    /// First address.
    pub(crate) fn iova(&self) -> u64 {
        self.iova
    }

    /// Bytes, not 0.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// First address after the range.
    pub(crate) fn end(&self) -> u64 {
        // By the type invariant this does not wrap.
        self.iova.wrapping_add(self.length)
    }

    /// The part that lies in `other` too.
    pub(crate) fn intersection(&self, other: &Self) -> Option<Self> {
        let iova = self.iova.max(other.iova);
        let end = self.end().min(other.end());
        (iova < end).then(|| Self {
            iova,
            length: end - iova,
        })
    }
}

/// Where a report puts what is dirty. A trait so that the harvest can be tested on a plain list.
pub(crate) trait DirtySink {
    /// `length` bytes from `iova` are dirty. Cheapest when called with ascending addresses and long
    /// runs (contract X5, X6). What lies outside of the reported range is ignored.
    fn set_run(&mut self, iova: u64, length: u64);
}

/// The bitmap of one REPORT, in user memory.
pub(crate) struct IovaBitmap<'a> {
    raw: &'a mut bindings::iova_bitmap,
    range: IovaRange,
}

impl<'a> IovaBitmap<'a> {
    /// # Safety
    ///
    /// `raw` is the bitmap that VFIO passed for a report of `range`, valid for `'a`.
    pub(super) unsafe fn from_raw(raw: *mut bindings::iova_bitmap, range: IovaRange) -> Self {
        Self {
            // SAFETY: By the promise of the caller. VFIO made the bitmap for this one call.
            raw: unsafe { &mut *raw },
            range,
        }
    }
}

impl DirtySink for IovaBitmap<'_> {
    fn set_run(&mut self, iova: u64, length: u64) {
        // `iova_bitmap_set()` drops a run that starts too low whole, and writes past the user's array for
        // one that ends too high: clamp (contract L14). A run whose end wraps reaches to the top.
        let end = iova.saturating_add(length).min(self.range.end());
        let iova = iova.max(self.range.iova());
        if iova < end {
            // SAFETY: The bitmap is valid and the run inside its range.
            unsafe { bindings::iova_bitmap_set(self.raw, iova as usize, (end - iova) as usize) };
        }
    }
}

#[kunit_tests(dlr_vfio_iova_range)]
mod tests {
    use super::*;

    #[test]
    fn bounds() -> Result {
        assert!(IovaRange::new(0, 0).is_err());
        assert!(IovaRange::new(1, u64::MAX).is_err());
        let top = IovaRange::new(u64::MAX - 4096, 4096)?;
        assert_eq!(top.end(), u64::MAX);
        Ok(())
    }

    #[test]
    fn intersections() -> Result {
        let a = IovaRange::new(0x1000, 0x2000)?;
        assert_eq!(a.intersection(&IovaRange::new(0x3000, 0x1000)?), None);
        assert_eq!(a.intersection(&IovaRange::new(0, 0x1000)?), None);
        let expected = IovaRange::new(0x2000, 0x1000)?;
        assert_eq!(
            a.intersection(&IovaRange::new(0x2000, 0x8000)?),
            Some(expected)
        );
        assert_eq!(a.intersection(&a), Some(a));
        Ok(())
    }
}
