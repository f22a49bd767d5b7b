// SPDX-License-Identifier: GPL-2.0

//! The state of a device whose registers and memory are all in its BARs: a list of them, which is
//! read into an image and written back.

use super::{
    bar::Bar,
    device::OpenDevice, //
};
use crate::ext::gfp::USER;
use core::ops::Range;
use kernel::prelude::*;

#[cfg(CONFIG_KUNIT = "y")]
mod tests_of_states;

/// Number of bytes that are copied in one hold of a BAR, during which read() and write() of the
/// user and page faults on the device's BARs wait.
const PIECE: usize = 64 << 10;

/// The size of one access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Width {
    One,
    Two,
    Four,
    Eight,
    /// That of `memcpy_fromio()` and `memcpy_toio()`, which is not specified.
    Any,
}

/// A part of the state of a device.
pub(crate) struct Part {
    bar: u32,
    width: Width,
    /// `None` for all of the BAR.
    offsets: Option<Range<usize>>,
}

impl Part {
    /// `count` registers of 8 bits in a memory BAR, the first of them at the offset `first`.
    pub(crate) const fn registers8(bar: u32, first: usize, count: usize) -> Self {
        Self::registers(bar, Width::One, first, count)
    }

    /// `count` registers of 16 bits in a memory BAR, the first of them at the offset `first`.
    pub(crate) const fn registers16(bar: u32, first: usize, count: usize) -> Self {
        Self::registers(bar, Width::Two, first, count.saturating_mul(2))
    }

    /// `count` registers of 32 bits in a memory BAR, the first of them at the offset `first`.
    pub(crate) const fn registers32(bar: u32, first: usize, count: usize) -> Self {
        Self::registers(bar, Width::Four, first, count.saturating_mul(4))
    }

    /// `count` registers of 64 bits in a memory BAR, the first of them at the offset `first`.
    pub(crate) const fn registers64(bar: u32, first: usize, count: usize) -> Self {
        Self::registers(bar, Width::Eight, first, count.saturating_mul(8))
    }

    /// All of a memory BAR whose accesses have no side effects, such as a frame buffer. The width
    /// of the accesses is not specified.
    pub(crate) const fn memory(bar: u32) -> Self {
        Self {
            bar,
            width: Width::Any,
            offsets: None,
        }
    }

    const fn registers(bar: u32, width: Width, first: usize, bytes: usize) -> Self {
        Self {
            bar,
            width,
            offsets: Some(first..first.saturating_add(bytes)),
        }
    }

    /// Returns the offsets in a BAR of `len` bytes.
    fn offsets(&self, len: usize) -> Range<usize> {
        self.offsets.clone().unwrap_or(0..len)
    }

    /// Returns offset and length of the pieces of at most [`PIECE`] bytes in a BAR of `len` bytes.
    fn pieces(&self, len: usize) -> impl Iterator<Item = (usize, usize)> {
        let Range { start, end } = self.offsets(len);
        (start..end)
            .step_by(PIECE)
            .map(move |offset| (offset, PIECE.min(end.saturating_sub(offset))))
    }
}

/// The state of a device as a list of parts, in the order in which they are in the image and in
/// which they are written.
///
/// # Examples
///
/// From `samples/vfio/bochs.rs`:
///
/// ```ignore
/// const STATE: BarState = BarState::new(&[
///     // …
///     Part::registers16(REGISTERS, 0x502, 9),
///     Part::memory(PICTURE),
/// ]);
/// ```
pub(crate) struct BarState(&'static [Part]);

impl BarState {
    /// Makes a state of these parts. Put a register last if writing it makes the device use the
    /// others.
    pub(crate) const fn new(parts: &'static [Part]) -> Self {
        Self(parts)
    }

    /// Returns the size of the state in bytes. Accesses no register and does not resume the
    /// function.
    ///
    /// # Errors
    ///
    /// `EOVERFLOW` for more than 4 GiB, and those of [`OpenDevice::bar_len`].
    pub(crate) fn bytes<T, O>(&self, dev: &OpenDevice<'_, T, O>) -> Result<u32> {
        self.bytes_in(|number| dev.bar_len(number))
    }

    /// Reads the state of a stopped device, also while memory decoding is disabled. Sleeps; the
    /// caller must not hold `memory_lock`, and so no [`HeldBar`](super::bar::HeldBar).
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINVAL` for a part that is not aligned or beyond the end of its BAR, and those of
    /// [`OpenDevice::bar`] and [`Bar::hold`].
    pub(crate) fn read<T, O>(&self, dev: &OpenDevice<'_, T, O>) -> Result<KVVec<u8>> {
        self.read_from(|number| dev.bar(number))
    }

    /// Writes the state to a stopped device, as [`Self::read`] reads it.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a state of another size, and nothing is written. Otherwise as for
    /// [`Self::read`], after which the device may have a part of the state.
    pub(crate) fn write<T, O>(&self, dev: &OpenDevice<'_, T, O>, state: &[u8]) -> Result {
        self.write_to(|number| dev.bar(number), state)
    }

    /// Returns the size of the state in BARs of the lengths that `len` returns.
    fn bytes_in(&self, len: impl Fn(u32) -> Result<usize>) -> Result<u32> {
        let mut bytes = 0usize;
        for part in self.0 {
            let len = part.offsets(len(part.bar)?).len();
            bytes = bytes.checked_add(len).ok_or(EOVERFLOW)?;
        }
        u32::try_from(bytes).map_err(|_| EOVERFLOW)
    }

    fn read_from<A: Access>(&self, bar: impl Fn(u32) -> Result<A>) -> Result<KVVec<u8>> {
        let bytes = self.bytes_in(|number| Ok(bar(number)?.len()))?;
        let mut state = KVVec::with_capacity(usize::try_from(bytes)?, USER)?;
        for part in self.0 {
            let mut bar = bar(part.bar)?;
            for (offset, len) in part.pieces(bar.len()) {
                let at = state.len();
                state.resize(at.saturating_add(len), 0, USER)?;
                bar.read(part.width, offset, state.get_mut(at..).ok_or(EINVAL)?)?;
            }
        }
        Ok(state)
    }

    fn write_to<A: Access>(&self, bar: impl Fn(u32) -> Result<A>, state: &[u8]) -> Result {
        let bytes = self.bytes_in(|number| Ok(bar(number)?.len()))?;
        if usize::try_from(bytes)? != state.len() {
            return Err(EINVAL);
        }
        let mut rest = state;
        for part in self.0 {
            let mut bar = bar(part.bar)?;
            for (offset, len) in part.pieces(bar.len()) {
                let (piece, next) = rest.split_at_checked(len).ok_or(EINVAL)?;
                bar.write(part.width, offset, piece)?;
                rest = next;
            }
        }
        Ok(())
    }
}

/// A BAR as this file accesses it. Tests have one without a device.
trait Access {
    fn len(&self) -> usize;
    fn read(&mut self, width: Width, offset: usize, to: &mut [u8]) -> Result;
    fn write(&mut self, width: Width, offset: usize, from: &[u8]) -> Result;
}

impl Access for Bar<'_> {
    fn len(&self) -> usize {
        Bar::len(self)
    }

    fn read(&mut self, width: Width, offset: usize, to: &mut [u8]) -> Result {
        let held = self.hold()?;
        match width {
            Width::One => fill(offset, to, |at| Ok(held.read8(at)?.to_le_bytes())),
            Width::Two => fill(offset, to, |at| Ok(held.read16(at)?.to_le_bytes())),
            Width::Four => fill(offset, to, |at| Ok(held.read32(at)?.to_le_bytes())),
            Width::Eight => fill(offset, to, |at| Ok(held.read64(at)?.to_le_bytes())),
            Width::Any => held.copy_from(offset, to),
        }
    }

    fn write(&mut self, width: Width, offset: usize, from: &[u8]) -> Result {
        let held = self.hold()?;
        match width {
            Width::One => each(offset, from, |at, b| held.write8(at, u8::from_le_bytes(b))),
            Width::Two => each(offset, from, |at, b| {
                held.write16(at, u16::from_le_bytes(b))
            }),
            Width::Four => each(offset, from, |at, b| {
                held.write32(at, u32::from_le_bytes(b))
            }),
            Width::Eight => each(offset, from, |at, b| {
                held.write64(at, u64::from_le_bytes(b))
            }),
            Width::Any => held.copy_to(offset, from),
        }
    }
}

/// Fills `to` with registers of `N` bytes, of which `read` gets the offsets.
fn fill<const N: usize>(
    offset: usize,
    to: &mut [u8],
    read: impl Fn(usize) -> Result<[u8; N]>,
) -> Result {
    for (at, bytes) in (offset..).step_by(N).zip(to.chunks_exact_mut(N)) {
        bytes.copy_from_slice(&read(at)?);
    }
    Ok(())
}

/// Passes each register of `N` bytes in `from` to `write`, with its offset.
fn each<const N: usize>(
    offset: usize,
    from: &[u8],
    write: impl Fn(usize, [u8; N]) -> Result,
) -> Result {
    for (at, bytes) in (offset..).step_by(N).zip(from.chunks_exact(N)) {
        write(at, bytes.try_into().map_err(|_| EINVAL)?)?;
    }
    Ok(())
}
