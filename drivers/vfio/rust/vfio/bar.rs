// SPDX-License-Identifier: GPL-2.0

//! Views of the BARs of a VFIO device.
//!
//! vfio-pci-core requests and maps all BARs while the device is open, so that requesting one by
//! `pci::Bar` would fail. These views use the mapping of vfio-pci-core.
//!
//! C header: [`include/linux/vfio_pci_core.h`](srctree/include/linux/vfio_pci_core.h)

use super::function::PciFunction;
use crate::{
    bindings,
    ext::pm::Awake, //
};
use core::marker::PhantomData;
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    ffi::c_void,
    prelude::*, //
};

/// Number of BARs of a function.
pub(super) const BARS: u32 = 6;

/// A set of BARs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct BarSet(u8);

impl BarSet {
    /// The empty set.
    pub(crate) const NONE: Self = Self(0);

    /// Makes a set of the BAR `number`; it is empty for a number above 5.
    pub(crate) const fn only(number: u32) -> Self {
        if number < BARS {
            Self(1 << number)
        } else {
            Self::NONE
        }
    }

    /// Returns the union of both sets.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether the BAR `number` is in the set.
    pub(crate) const fn contains(self, number: u32) -> bool {
        number < BARS && self.0 & (1 << number) != 0
    }

    /// Returns whether the set is empty.
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Returns the length in bytes of the BAR `number` of `function`, and does not resume it.
///
/// # Errors
///
/// `EINVAL` for a number above 5, `ENODEV` for a BAR that the function lacks.
pub(super) fn len(function: PciFunction<'_>, number: u32) -> Result<usize> {
    if number >= BARS {
        return Err(EINVAL);
    }
    match usize::try_from(function.resource_len(number)?)? {
        0 => Err(ENODEV),
        len => Ok(len),
    }
}

/// The mapping of a BAR by vfio-pci-core.
///
/// # Invariants
///
/// During `'a`, `io` maps `len` bytes of the BAR, and `core` is the device of the BAR.
#[derive(Clone, Copy)]
struct Mapping<'a> {
    core: *mut bindings::vfio_pci_core_device,
    io: *mut c_void,
    len: usize,
    _device: PhantomData<&'a ()>,
}

impl Mapping<'_> {
    /// Returns the address of `size` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an offset that is not aligned to `size` or lies beyond the end.
    fn at(&self, offset: usize, size: usize) -> Result<*mut c_void> {
        let end = offset.checked_add(size).ok_or(EINVAL)?;
        if end > self.len || offset % size != 0 {
            return Err(EINVAL);
        }
        Ok(self.io.wrapping_byte_add(offset))
    }
}

/// A BAR of an open device. Accesses follow the rules for those of the user: while memory decoding
/// is disabled in the command register they fail with `EIO`. The function is kept in D0.
///
/// Accesses take `memory_lock` for reading and may sleep, so the caller must not hold it. Code that
/// [`Migration::reset`](super::migration::Migration::reset) reaches may run with it held.
pub(crate) struct Bar<'a> {
    map: Mapping<'a>,
    is_memory: bool,
    _awake: Awake<'a>,
}

/// A memory BAR that the function decodes whatever the user has written to the command register.
///
/// `memory_lock` is held for writing. So no read() or write() of the BAR by the user runs at the
/// same time, and no page fault on it ends. A user who has mapped the BAR and touched it before
/// still accesses it: only trapped BARs ([`Operations::trapped_bars`]) cannot be mapped.
///
/// The holder must not take `memory_lock` again, for which it would wait for ever: it must not
/// access or hold another [`Bar`], make one, call [`PciFunction::config_read32`] or
/// [`PciFunction::awake`], or access user memory, which may be a BAR of the device.
///
/// [`Operations::trapped_bars`]: super::pci::Operations::trapped_bars
pub(crate) struct HeldBar<'a> {
    map: Mapping<'a>,
    command: u16,
}

macro_rules! bar_access {
    ($($read:ident $write:ident $ty:ty, $ioread:ident $iowrite:ident;)*) => {
        impl Bar<'_> {
            $(
                /// Reads from the BAR.
                ///
                /// # Errors
                ///
                /// `EINVAL` for an offset that is not aligned or beyond the end, `EIO`.
                pub(crate) fn $read(&self, offset: usize) -> Result<$ty> {
                    let at = self.map.at(offset, size_of::<$ty>())?;
                    let mut value = 0;
                    // SAFETY: By the invariant of `Mapping`; `at` is in it.
                    to_result(unsafe {
                        bindings::$ioread(self.map.core, self.is_memory, &mut value, at)
                    })?;
                    Ok(value)
                }

                /// Writes to the BAR.
                ///
                /// # Errors
                ///
                /// `EINVAL` for an offset that is not aligned or beyond the end, `EIO`.
                pub(crate) fn $write(&self, offset: usize, value: $ty) -> Result {
                    let at = self.map.at(offset, size_of::<$ty>())?;
                    // SAFETY: By the invariant of `Mapping`; `at` is in it.
                    to_result(unsafe {
                        bindings::$iowrite(self.map.core, self.is_memory, value, at)
                    })
                }
            )*
        }

        impl HeldBar<'_> {
            $(
                /// Reads from the BAR.
                ///
                /// # Errors
                ///
                /// `EINVAL` for an offset that is not aligned or beyond the end.
                pub(crate) fn $read(&self, offset: usize) -> Result<$ty> {
                    let at = self.map.at(offset, size_of::<$ty>())?;
                    let mut value = 0;
                    // SAFETY: By the invariant of `Mapping`; `at` is in it. `memory_lock` is held
                    // and memory is decoded, so the core is told to check neither.
                    to_result(unsafe {
                        bindings::$ioread(self.map.core, false, &mut value, at)
                    })?;
                    Ok(value)
                }

                /// Writes to the BAR.
                ///
                /// # Errors
                ///
                /// `EINVAL` for an offset that is not aligned or beyond the end.
                pub(crate) fn $write(&self, offset: usize, value: $ty) -> Result {
                    let at = self.map.at(offset, size_of::<$ty>())?;
                    // SAFETY: By the invariant of `Mapping`; `at` is in it. `memory_lock` is held
                    // and memory is decoded, so the core is told to check neither.
                    to_result(unsafe { bindings::$iowrite(self.map.core, false, value, at) })
                }
            )*
        }
    };
}

bar_access! {
    read8 write8 u8, vfio_pci_core_ioread8 vfio_pci_core_iowrite8;
    read16 write16 u16, vfio_pci_core_ioread16 vfio_pci_core_iowrite16;
    read32 write32 u32, vfio_pci_core_ioread32 vfio_pci_core_iowrite32;
    read64 write64 u64, vfio_bar_read64 vfio_bar_write64;
}

impl<'a> Bar<'a> {
    /// Makes a view of the BAR `number` of the device `core`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a number above 5, `ENODEV` for a BAR that the function lacks, `EBUSY` or
    /// `ENOMEM` for a BAR that vfio-pci-core could not request or map, and those of
    /// [`PciFunction::awake`].
    ///
    /// # Safety
    ///
    /// `core` is the device of `function` and stays open during `'a`.
    pub(super) unsafe fn new(
        core: *mut bindings::vfio_pci_core_device,
        function: PciFunction<'a>,
        number: u32,
    ) -> Result<Self> {
        let len = len(function, number)?;
        // SAFETY: `core` is valid. vfio-pci-core sets the entry when it enables the device, and
        // does not change it until it disables the device.
        let io = from_err_ptr(unsafe { (*core).barmap[number as usize] })?;
        if io.is_null() {
            return Err(ENODEV);
        }
        // SAFETY: `core` is valid, and resources of a bound device do not change.
        let is_memory = unsafe { bindings::pci_bar_is_memory((*core).pdev, number) };
        Ok(Self {
            // INVARIANT: The core keeps the mapping until the device is closed.
            map: Mapping {
                core,
                io,
                len,
                _device: PhantomData,
            },
            is_memory,
            _awake: function.awake()?,
        })
    }

    /// Returns the length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.map.len
    }

    /// Takes `memory_lock` for writing and enables memory decoding, both until the result is
    /// dropped. Sleeps; the caller must not hold `memory_lock`. The BAR is borrowed mutably,
    /// because its own accesses take that lock as well.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a BAR of I/O ports, `EIO` when the user has put the function into D3hot.
    pub(crate) fn hold(&mut self) -> Result<HeldBar<'_>> {
        if !self.is_memory {
            return Err(EINVAL);
        }
        let mut command = 0;
        // SAFETY: `core` is an open device; `HeldBar` releases the lock when dropped.
        to_result(unsafe { bindings::vfio_pci_hold_memory(self.map.core, &mut command) })?;
        Ok(HeldBar {
            map: self.map,
            command,
        })
    }
}

impl HeldBar<'_> {
    /// Copies from the BAR by `memcpy_fromio()`, whose access width is not specified: reads of this
    /// memory must have no side effects.
    ///
    /// # Errors
    ///
    /// `EINVAL` beyond the end.
    pub(crate) fn copy_from(&self, offset: usize, to: &mut [u8]) -> Result {
        let end = offset.checked_add(to.len()).ok_or(EINVAL)?;
        if end > self.map.len {
            return Err(EINVAL);
        }
        let from = self.map.io.wrapping_byte_add(offset);
        // SAFETY: By the invariant of `Mapping`; `to` is valid for its length.
        unsafe { bindings::vfio_copy_from_bar(to.as_mut_ptr().cast(), from, to.len()) };
        Ok(())
    }

    /// Copies into the BAR by `memcpy_toio()`, whose access width is not specified.
    ///
    /// # Errors
    ///
    /// `EINVAL` beyond the end.
    pub(crate) fn copy_to(&self, offset: usize, from: &[u8]) -> Result {
        let end = offset.checked_add(from.len()).ok_or(EINVAL)?;
        if end > self.map.len {
            return Err(EINVAL);
        }
        let to = self.map.io.wrapping_byte_add(offset);
        // SAFETY: By the invariant of `Mapping`; `from` is valid for its length.
        unsafe { bindings::vfio_copy_to_bar(to, from.as_ptr().cast(), from.len()) };
        Ok(())
    }
}

impl Drop for HeldBar<'_> {
    fn drop(&mut self) {
        // SAFETY: Undoes `hold`, on the same thread: `HeldBar` has a raw pointer and so is not
        // `Send`.
        unsafe { bindings::vfio_pci_release_memory(self.map.core, self.command) };
    }
}

#[kunit_tests(vfio_bar)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_the_bars_that_can_be() {
        let set = BarSet::only(0).and(BarSet::only(5));
        assert!(set.contains(0) && set.contains(5) && !set.contains(1));
        for number in [6, 7, 8, 32, u32::MAX] {
            assert!(BarSet::only(number).is_empty());
            assert!(!set.contains(number));
        }
        assert!(BarSet::NONE.is_empty() && !set.is_empty());
    }

    #[test]
    fn accesses_are_aligned_and_in_the_bar() {
        let map = Mapping {
            core: core::ptr::null_mut(),
            io: core::ptr::null_mut(),
            len: 10,
            _device: PhantomData,
        };
        assert!(map.at(0, 8).is_ok() && map.at(8, 2).is_ok() && map.at(9, 1).is_ok());
        for (offset, size) in [
            (8, 4),
            (2, 4),
            (10, 1),
            (9, 2),
            (usize::MAX, 1),
            (usize::MAX - 7, 8),
        ] {
            assert_eq!(map.at(offset, size).err(), Some(EINVAL));
        }
    }
}
