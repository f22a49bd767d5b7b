// SPDX-License-Identifier: GPL-2.0

//! Reads and writes of regions, as passed to the hooks of [`Operations`](super::pci::Operations).
//!
//! A hook either forwards an access to vfio-pci-core or completes it itself; both consume the
//! value. So a hook cannot copy the data of a write from user memory and then let the core copy it
//! a second time, when the user may have changed it.

use super::{
    bar::Bar,
    config_space::{
        in_pieces,
        ConfigRange,
        Piece, //
    }, //
};
use crate::{
    bindings,
    ext::user, //
};
use core::ops::Range;
use kernel::{
    ffi::c_void,
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// `VFIO_PCI_OFFSET_SHIFT`: the file offset has the index of the region above the offset in it.
pub(super) const VFIO_PCI_OFFSET_SHIFT: u32 = 40;
pub(super) const VFIO_PCI_OFFSET_MASK: i64 = (1 << VFIO_PCI_OFFSET_SHIFT) - 1;

/// The buffer and the file position of an access.
///
/// # Invariants
///
/// VFIO passed `vdev`, `buffer`, `len` and `position` to a read or write that has not returned yet.
struct Place<'a> {
    vdev: *mut bindings::vfio_device,
    buffer: usize,
    len: usize,
    position: i64,
    hidden: &'a [ConfigRange],
}

impl Place<'_> {
    fn region(&self) -> u32 {
        // CAST: The VFS refuses negative positions, so 23 bits are left.
        (self.position >> VFIO_PCI_OFFSET_SHIFT) as u32
    }

    fn offset(&self) -> u64 {
        (self.position & VFIO_PCI_OFFSET_MASK).unsigned_abs()
    }

    fn touches(&self, region: u32, offsets: Range<u64>) -> bool {
        let end = self.offset().saturating_add(self.len as u64);
        self.region() == region && end > offsets.start && self.offset() < offsets.end
    }

    /// Returns offset and length of an access to a register of one of these lengths.
    fn register(&self, lengths: &[usize]) -> Result<(usize, usize)> {
        let offset = usize::try_from(self.offset())?;
        if !lengths.contains(&self.len) || offset.checked_rem(self.len) != Some(0) {
            return Err(EINVAL);
        }
        Ok((offset, self.len))
    }

    /// Carries out the access, with `core` for visible parts and `hide` for hidden ones. Both get
    /// the offset of the part in the access and its length; `core` also gets the file position.
    fn forward(
        &self,
        mut core: impl FnMut(usize, usize, &mut i64) -> isize,
        mut hide: impl FnMut(usize, usize) -> isize,
    ) -> Result<usize> {
        let config = self.region() == bindings::VFIO_PCI_CONFIG_REGION_INDEX;
        let result = if self.hidden.is_empty() || !config {
            core(0, self.len, &mut self.position.clone())
        } else {
            in_pieces(self.hidden, self.offset(), self.len, |at, piece| {
                // OVERFLOW: The piece lies in the range that VFIO passed, which does not overflow.
                let mut position = self.position + at as i64;
                match piece {
                    Piece::Visible(len) => core(at, len, &mut position),
                    Piece::Masked(len) => hide(at, len),
                }
            })
        };
        // CAST: An errno fits.
        usize::try_from(result).map_err(|_| Error::from_errno(result as c_int))
    }
}

/// A read of a region by a user.
pub(crate) struct Read<'a>(Place<'a>);

/// A write to a region by a user.
pub(crate) struct Write<'a>(Place<'a>);

// With a second one a hook could take the data and forward them, too.
crate::ext::assert_not_impl!(Read<'static>: Clone);
crate::ext::assert_not_impl!(Write<'static>: Clone);

macro_rules! place {
    ($($name:ident)*) => {$(
        impl<'a> $name<'a> {
            /// # Safety
            ///
            /// VFIO passed the arguments to a read or write that returns after `'a`.
            pub(super) unsafe fn new(
                vdev: *mut bindings::vfio_device,
                buffer: usize,
                len: usize,
                position: i64,
                hidden: &'a [ConfigRange],
            ) -> Self {
                // INVARIANT: By the requirements of this function.
                Self(Place {
                    vdev,
                    buffer,
                    len,
                    position,
                    hidden,
                })
            }

            /// Returns the index of the region; BARs are 0 to 5 (`VFIO_PCI_BAR0_REGION_INDEX`).
            pub(crate) fn region(&self) -> u32 {
                self.0.region()
            }

            /// Returns the offset in the region.
            pub(crate) fn offset(&self) -> u64 {
                self.0.offset()
            }

            /// Returns the length in bytes.
            pub(crate) fn len(&self) -> usize {
                self.0.len
            }

            /// Returns whether the access is to the region and a part of it within `offsets`.
            pub(crate) fn touches(&self, region: u32, offsets: Range<u64>) -> bool {
                self.0.touches(region, offsets)
            }
        }
    )*};
}

place!(Read Write);

impl Read<'_> {
    /// Lets vfio-pci-core do the read. Hidden parts of configuration space read as zeros; their
    /// bytes are never copied to the user's buffer. Returns the number of bytes read.
    ///
    /// # Errors
    ///
    /// Those of vfio-pci-core.
    pub(crate) fn forward(self) -> Result<usize> {
        let place = &self.0;
        let core = |at: usize, len, position: &mut i64| {
            let to = place.buffer.wrapping_add(at) as *mut c_char;
            // SAFETY: A part of the buffer and of the range that VFIO passed; `position` is ours.
            unsafe { bindings::vfio_pci_core_read(place.vdev, to, len, position) }
        };
        let hide = |at: usize, len| {
            let to = place.buffer.wrapping_add(at) as *mut c_void;
            match user::clear(to, len) {
                // CAST: A length of configuration space.
                Ok(()) => len as isize,
                Err(error) => error.to_errno() as isize,
            }
        };
        place.forward(core, hide)
    }

    /// Completes the read with `bytes`, of which the user gets at most as many as asked for.
    /// Returns the number of bytes read.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub(crate) fn answer(self, bytes: &[u8]) -> Result<usize> {
        let len = bytes.len().min(self.0.len);
        let bytes = bytes.get(..len).ok_or(EINVAL)?;
        let user = UserSlice::new(UserPtr::from_addr(self.0.buffer), len);
        user.writer().write_slice(bytes)?;
        Ok(len)
    }
}

impl Write<'_> {
    /// Lets vfio-pci-core do the write. Writes to hidden parts of configuration space are dropped.
    /// Returns the number of bytes written.
    ///
    /// # Errors
    ///
    /// Those of vfio-pci-core.
    pub(crate) fn forward(self) -> Result<usize> {
        let place = &self.0;
        let core = |at: usize, len, position: &mut i64| {
            let from = place.buffer.wrapping_add(at) as *const c_char;
            // SAFETY: A part of the buffer and of the range that VFIO passed; `position` is ours.
            unsafe { bindings::vfio_pci_core_write(place.vdev, from, len, position) }
        };
        // CAST: A length of configuration space.
        place.forward(core, |_, len| len as isize)
    }

    /// Completes the write by copying its data to `to`, whose length must be that of the write.
    /// Returns the number of bytes written.
    ///
    /// # Errors
    ///
    /// `EINVAL` for another length, `EFAULT`.
    pub(crate) fn take(self, to: &mut [u8]) -> Result<usize> {
        if to.len() != self.0.len {
            return Err(EINVAL);
        }
        let user = UserSlice::new(UserPtr::from_addr(self.0.buffer), to.len());
        user.reader().read_slice(to)?;
        Ok(to.len())
    }

    /// Completes a write to one register by copying its data. VFIO would split a write that is not
    /// aligned or longer than a register into several accesses.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a length that is not in `lengths`, of which none is above 8, and for an offset
    /// that is not a multiple of the length. `EFAULT`.
    pub(crate) fn take_register(self, lengths: &[usize]) -> Result<RegisterWrite> {
        let (offset, len) = self.0.register(lengths)?;
        let mut bytes = [0; 8];
        self.take(bytes.get_mut(..len).ok_or(EINVAL)?)?;
        Ok(RegisterWrite {
            offset,
            value: u64::from_le_bytes(bytes),
            len,
        })
    }
}

/// The data of a write to one register of a BAR, which the user cannot change any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RegisterWrite {
    offset: usize,
    value: u64,
    len: usize,
}

impl RegisterWrite {
    /// Returns the offset in the BAR, a multiple of the length.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Returns the value; the upper bits of one of less than 8 bytes are 0.
    pub(crate) fn value(&self) -> u64 {
        self.value
    }

    /// Returns the length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Writes the value to `bar` in one access. Returns the number of bytes written.
    ///
    /// # Errors
    ///
    /// `EINVAL` beyond the end of the BAR, `EIO` while memory decoding is disabled.
    pub(crate) fn write_to(&self, bar: &Bar<'_>) -> Result<usize> {
        // CAST: The upper bits are 0.
        match self.len {
            1 => bar.write8(self.offset, self.value as u8)?,
            2 => bar.write16(self.offset, self.value as u16)?,
            4 => bar.write32(self.offset, self.value as u32)?,
            8 => bar.write64(self.offset, self.value)?,
            _ => return Err(EINVAL),
        }
        Ok(self.len)
    }
}

#[kunit_tests(vfio_region)]
mod tests {
    use super::*;

    fn place(position: i64) -> Place<'static> {
        Place {
            vdev: core::ptr::null_mut(),
            buffer: 0,
            len: 8,
            position,
            hidden: &[],
        }
    }

    #[test]
    fn a_file_position_is_a_region_and_an_offset() {
        let place = place(3 << 40 | 0x98);
        assert_eq!((place.region(), place.offset()), (3, 0x98));
    }

    #[test]
    fn an_access_is_forwarded_as_it_came_and_errors_come_back() {
        let place = place(2 << 40);
        let done = place.forward(
            |at, len, position| {
                assert_eq!((at, len, *position), (0, 8, 2 << 40));
                8
            },
            |_, _| 0,
        );
        assert_eq!(done, Ok(8));
        let failed = place.forward(|_, _, _| EIO.to_errno() as isize, |_, _| 0);
        assert_eq!(failed, Err(EIO));
    }
    #[test]
    fn an_access_touches_what_it_overlaps() {
        let place = place(2 << 40 | 0x98);
        assert!(place.touches(2, 0x80..0xa0));
        assert!(place.touches(2, 0x9f..0xa0) && place.touches(2, 0x80..0x99));
        assert!(!place.touches(2, 0xa0..0xb0) && !place.touches(2, 0x80..0x98));
        assert!(!place.touches(1, 0x80..0xa0));
    }

    /// What VFIO would split is no access to a register.
    #[test]
    fn a_register_is_aligned_and_of_a_length_that_it_has() {
        let at = |offset: i64, len, lengths: &[usize]| {
            let mut place = place(2 << 40 | offset);
            place.len = len;
            place.register(lengths)
        };
        assert_eq!(at(0x98, 8, &[4, 8]), Ok((0x98, 8)));
        assert_eq!(at(0x9c, 4, &[4, 8]), Ok((0x9c, 4)));
        assert_eq!(at(0x99, 1, &[1]), Ok((0x99, 1)));
        for (offset, len) in [(0x9c, 8), (0x9a, 4), (0x98, 2), (0x98, 16), (0x98, 0)] {
            assert_eq!(at(offset, len, &[4, 8]), Err(EINVAL));
        }
        assert_eq!(at(0x98, 0, &[0]), Err(EINVAL));
    }
}
