// SPDX-License-Identifier: GPL-2.0

//! State of the device, in the order of the image: registers, byte order, picture.

use crate::{
    ext::crc32c::crc32c,
    vfio::prelude::*, //
};
use core::ops::Range;
use kernel::{
    alloc::Flags,
    prelude::*, //
};

/// Offset of the EDID in the BAR of the registers.
const EDID: usize = 0x000;
const EDID_BYTES: usize = 0x100;
const VBE: usize = 0x500;
const BYTE_ORDER: usize = 0x604;

/// Indices of the registers that are saved (`VBE_DISPI_INDEX_XRES` to `VBE_DISPI_INDEX_Y_OFFSET`).
/// The other registers read as constants.
const KEPT: Range<usize> = 1..10;
/// Index of the register `VBE_DISPI_INDEX_VIDEO_MEMORY_64K`.
const MEMORY_64K: usize = 10;

/// Number of bytes of the image before the picture.
const REGISTERS: usize = 2 * (KEPT.end - KEPT.start) + 4;

/// Number of bytes of the picture that are copied in one hold of the BAR, during which the user
/// cannot access it.
const PIECE: usize = 64 << 10;

/// Returns the size of the state in bytes.
pub(super) fn bytes(picture: &Bar<'_>) -> Result<u32> {
    let bytes = picture.len().checked_add(REGISTERS).ok_or(EOVERFLOW)?;
    Ok(u32::try_from(bytes)?)
}

/// Returns the format of the image. Its magic identifies the model: a device with another EDID or
/// another size of memory refuses the image.
pub(super) fn format(picture: &Bar<'_>, registers: &Bar<'_>) -> Result<Format> {
    let mut edid = [0; EDID_BYTES];
    let held = registers.hold()?;
    held.copy_from(EDID, &mut edid)?;
    let memory = held.read16(VBE + 2 * MEMORY_64K)?;
    let model = u64::from(crc32c(&edid)) << 16 | u64::from(memory);
    Ok(Format {
        magic: 0xb0c5_0000_0000_0000 | model,
        version: 1,
        max_bytes: bytes(picture)?,
    })
}

/// Reads the state.
pub(super) fn read(picture: &Bar<'_>, registers: &Bar<'_>, flags: Flags) -> Result<KVVec<u8>> {
    let mut state = KVVec::with_capacity(usize::try_from(bytes(picture)?)?, flags)?;
    {
        let held = registers.hold()?;
        for index in KEPT {
            state.extend_from_slice(&held.read16(VBE + 2 * index)?.to_le_bytes(), flags)?;
        }
        state.extend_from_slice(&held.read32(BYTE_ORDER)?.to_le_bytes(), flags)?;
    }
    for first in (0..picture.len()).step_by(PIECE) {
        let len = PIECE.min(picture.len().saturating_sub(first));
        let at = state.len();
        state.resize(at.saturating_add(len), 0, flags)?;
        let piece = state.get_mut(at..).ok_or(EINVAL)?;
        picture.hold()?.copy_from(first, piece)?;
    }
    Ok(state)
}

/// Writes the state. `ENABLE` needs no special order, because the device reads it only when it
/// draws the picture.
pub(super) fn write(picture: &Bar<'_>, registers: &Bar<'_>, state: &[u8]) -> Result {
    let (first, image) = state.split_at_checked(REGISTERS).ok_or(EINVAL)?;
    if image.len() != picture.len() {
        return Err(EINVAL);
    }
    for (n, piece) in image.chunks(PIECE).enumerate() {
        picture.hold()?.copy_to(n.saturating_mul(PIECE), piece)?;
    }
    let held = registers.hold()?;
    let (kept, order) = first.split_last_chunk().ok_or(EINVAL)?;
    for (index, value) in KEPT.zip(kept.chunks_exact(2)) {
        let value = value.try_into().map_err(|_| EINVAL)?;
        held.write16(VBE + 2 * index, u16::from_le_bytes(value))?;
    }
    held.write32(BYTE_ORDER, u32::from_le_bytes(*order))
}
