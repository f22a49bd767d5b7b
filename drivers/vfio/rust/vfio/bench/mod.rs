// SPDX-License-Identifier: GPL-2.0

//! The native part of `make bench`. This file has what is not safe: the C baselines and user
//! memory.
//!
//! Built only with `DLR_BENCH=y` (see Kbuild), never into the driver that users load.

pub(crate) mod ring;

use super::iova_bitmap::{
    IovaBitmap,
    IovaRange, //
};
use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    dma::Coherent,
    error::from_err_ptr,
    prelude::*, //
};

mod c {
    use crate::bindings::iova_bitmap;

    extern "C" {
        pub(super) fn vfio_bench_passes() -> u32;
        pub(super) fn vfio_bench_now() -> u64;
        pub(super) fn vfio_bench_user(bytes: usize) -> usize;
        pub(super) fn vfio_bench_user_clear(user: usize, bytes: usize) -> bool;
        pub(super) fn vfio_bench_user_count(user: usize, bytes: usize) -> u64;
        pub(super) fn vfio_bench_flat(bits: *mut u64, words: *const u64, count: usize);
        pub(super) fn vfio_bench_each(bitmap: *mut iova_bitmap, words: *const u64, count: usize);
        pub(super) fn vfio_bench_xor(
            bitmap: *mut iova_bitmap,
            seq: *const u64,
            ack: *mut u64,
            dwords: usize,
        );
        pub(super) fn vfio_bench_copy(to: *mut u64, from: *const u64, count: usize);
    }
}

/// Returns the number of passes of each case.
pub(crate) fn passes() -> u32 {
    // SAFETY: A plain read of a parameter that does not change.
    unsafe { c::vfio_bench_passes() }
}

/// Returns the time of a monotonic clock in nanoseconds.
pub(crate) fn now() -> u64 {
    // SAFETY: `ktime_get_ns()` may be called from everywhere.
    unsafe { c::vfio_bench_now() }
}

/// Words of a log ring, as C reads them. No device or thread writes them meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a>(&'a [u64]);

impl<'a> Words<'a> {
    /// Returns the first `count` words of `memory`, or all if there are fewer.
    pub(crate) fn of<const N: usize>(memory: &'a Coherent<[[u64; N]]>, count: usize) -> Self {
        let ptr: *const [[u64; N]] = memory.as_ptr();
        let count = count.min(ptr.len().saturating_mul(N));
        // SAFETY: The memory lives as long as `memory`, is initialised, holds `count` words, and
        // no device writes it: the benchmark's device is a stub.
        Self(unsafe { core::slice::from_raw_parts(ptr.cast::<u64>(), count) })
    }

    /// Returns the first `count` of the words, or all if there are fewer.
    pub(crate) fn first(self, count: usize) -> Self {
        Self(self.0.get(..count).unwrap_or(self.0))
    }

    /// Returns the number of words.
    pub(crate) fn len(self) -> usize {
        self.0.len()
    }
}

/// A flat bitmap of kernel memory.
pub(crate) struct Flat(KVVec<u64>);

impl Flat {
    /// Creates a bitmap for `pages` pages, with all its memory touched.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(pages: u64) -> Result<Self> {
        let words = usize::try_from(pages.div_ceil(64))?;
        Ok(Self(KVVec::from_elem(0, words, GFP_KERNEL)?))
    }

    /// Clears all bits.
    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Sets one bit. Returns whether it was clear, and `false` out of bounds.
    pub(crate) fn insert(&mut self, page: u64) -> bool {
        let bit = 1u64 << (page % 64);
        match self.0.get_mut((page / 64) as usize) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// Calls `__set_bit()` for the page of each word: the limit of what is possible.
    ///
    /// # Safety
    ///
    /// The pages of `words` lie within the bitmap.
    unsafe fn set_all(&mut self, words: Words<'_>) {
        // SAFETY: Both slices are valid; the caller promises that all bits lie in the first.
        unsafe { c::vfio_bench_flat(self.0.as_mut_ptr(), words.0.as_ptr(), words.0.len()) }
    }

    /// Returns whether the pages of all `words` are within the bitmap. Called outside of the
    /// measurement, before [`Self::run`].
    pub(crate) fn bound(&self, words: Words<'_>) -> bool {
        let pages = self.0.len() as u64 * 64;
        words.0.iter().all(|word| word >> 12 < pages)
    }

    /// Calls `__set_bit()` for the page of each word if `bounded`, the result of [`Self::bound`].
    pub(crate) fn run(&mut self, words: Words<'_>, bounded: bool) {
        if bounded {
            // SAFETY: `bound` has looked at the same words, which do not change.
            unsafe { self.set_all(words) }
        }
    }

    /// Copies the words into this memory, as far as they fit.
    pub(crate) fn copy(&mut self, words: Words<'_>) {
        let count = words.0.len().min(self.0.len());
        // SAFETY: Both slices have `count` words and do not overlap, as one is borrowed mutably.
        unsafe { c::vfio_bench_copy(self.0.as_mut_ptr(), words.0.as_ptr(), count) }
    }
}

/// A bitmap in memory of the process that loads the module, for reports.
pub(crate) struct User {
    address: usize,
    bytes: usize,
}

impl User {
    /// Creates a bitmap for `pages` pages, with all its memory touched.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(pages: u64) -> Result<Self> {
        let bytes = usize::try_from(pages.div_ceil(64))?
            .checked_mul(8)
            .ok_or(EINVAL)?;
        // SAFETY: Maps fresh memory into the running process.
        let address = unsafe { c::vfio_bench_user(bytes) };
        // An errno as a pointer.
        if address.wrapping_neg() < 4096 {
            return Err(ENOMEM);
        }
        let this = Self { address, bytes };
        this.clear()?;
        Ok(this)
    }

    /// Clears all bits.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub(crate) fn clear(&self) -> Result {
        // SAFETY: `clear_user()` checks the address.
        let cleared = unsafe { c::vfio_bench_user_clear(self.address, self.bytes) };
        cleared.then_some(()).ok_or(EFAULT)
    }

    /// Returns the number of bits that are set.
    pub(crate) fn count(&self) -> u64 {
        // SAFETY: `get_user()` checks the address.
        unsafe { c::vfio_bench_user_count(self.address, self.bytes) }
    }

    /// Runs `f` with the core's object for a report of `range`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn with<R>(
        &self,
        range: IovaRange,
        f: impl FnOnce(&mut Report<'_>) -> R,
    ) -> Result<R> {
        // SAFETY: The core checks the user's memory when it pins it.
        let raw = from_err_ptr(unsafe {
            bindings::iova_bitmap_alloc(
                range.iova() as usize,
                range.length() as usize,
                4096,
                self.address as *mut u64,
            )
        })?;
        let mut report = Report {
            raw: NonNull::new(raw).ok_or(ENOMEM)?,
            range,
            user: self,
        };
        let result = f(&mut report);
        // SAFETY: From `iova_bitmap_alloc()`, freed once.
        unsafe { bindings::iova_bitmap_free(raw) };
        Ok(result)
    }
}

/// A report of the core into the bitmap of a [`User`].
pub(crate) struct Report<'a> {
    raw: NonNull<bindings::iova_bitmap>,
    range: IovaRange,
    #[allow(dead_code, reason = "keeps the memory")]
    user: &'a User,
}

impl Report<'_> {
    /// Returns the report as a driver gets it.
    pub(crate) fn sink(&mut self) -> IovaBitmap<'_> {
        // SAFETY: Valid for as long as `self`, and for this range.
        unsafe { IovaBitmap::from_raw(self.raw.as_ptr(), self.range) }
    }

    /// Calls `iova_bitmap_set()` for the page of each word, as a C driver does.
    pub(crate) fn each(&mut self, words: Words<'_>) {
        // SAFETY: The object is valid; it checks addresses itself.
        unsafe { c::vfio_bench_each(self.raw.as_ptr(), words.0.as_ptr(), words.0.len()) }
    }

    /// Reports the bits in which `seq` differs from `ack`, as the pds driver does. `ack` equals
    /// `seq` afterwards.
    pub(crate) fn xor(&mut self, seq: &Flat, ack: &mut Flat) {
        let dwords = seq.0.len().min(ack.0.len());
        // SAFETY: As above; both bitmaps have `dwords` words.
        unsafe {
            c::vfio_bench_xor(
                self.raw.as_ptr(),
                seq.0.as_ptr(),
                ack.0.as_mut_ptr(),
                dwords,
            )
        }
    }
}
