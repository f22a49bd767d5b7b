// SPDX-License-Identifier: GPL-2.0

//! Copies of the device, as its registers describe them. Without side effects.

use crate::vfio::prelude::*;
use core::ops::Range;
use kernel::prelude::*;

/// Offset of the source register in BAR 0; the other registers follow.
const SRC: usize = 0x80;
const DST: usize = 0x88;
const CNT: usize = 0x90;
pub(super) const CMD: usize = 0x98;
/// Range of the DMA registers.
pub(super) const REGISTERS: Range<u64> = 0x80..0xa0;

/// Bit of the command register: begins a copy, and is set while one is under way.
pub(super) const CMD_RUN: u64 = 1 << 0;
/// Bit of the command register: the copy is from the device's buffer to memory.
const CMD_TO_MEMORY: u64 = 1 << 1;

/// The device's buffer, in the address space of the device.
const BUFFER: Range<u64> = 0x40000..0x41000;
/// Address bits that reach the bus (`dma_mask` of the device, with QEMU's default).
const ADDRESS_MASK: u64 = (1 << 28) - 1;

/// A copy of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Transfer {
    /// Address of the first byte of the source.
    src: u64,
    /// Address of the first byte of the destination.
    dst: u64,
    /// Length in bytes.
    cnt: u64,
    /// Contents of the command register.
    cmd: u64,
}

impl Transfer {
    /// Reads the registers of a copy with the command `cmd`.
    pub(super) fn read(cmd: u64, register: impl Fn(usize) -> Result<u64>) -> Result<Self> {
        Ok(Self {
            src: register(SRC)?,
            dst: register(DST)?,
            cnt: register(CNT)?,
            cmd,
        })
    }

    /// Returns whether the copy stays within the device's buffer. QEMU only logs a copy that does
    /// not, and then accesses memory beyond the end of its array.
    pub(super) fn is_valid(&self) -> bool {
        let inside = if self.cmd & CMD_TO_MEMORY != 0 {
            self.src
        } else {
            self.dst
        };
        match inside.checked_add(self.cnt) {
            Some(end) => BUFFER.start <= inside && end <= BUFFER.end,
            None => false,
        }
    }

    /// Returns the memory that the copy writes. The device ignores the upper bits of the address.
    pub(super) fn written(&self) -> Option<IovaRange> {
        if self.cmd & CMD_TO_MEMORY == 0 {
            return None;
        }
        IovaRange::new(self.dst & ADDRESS_MASK, self.cnt).ok()
    }
}

#[kunit_tests(edu_transfer)]
mod tests {
    use super::*;

    const TO_MEMORY: u64 = CMD_RUN | CMD_TO_MEMORY;

    fn transfer(src: u64, dst: u64, cnt: u64, cmd: u64) -> Transfer {
        Transfer { src, dst, cnt, cmd }
    }

    #[test]
    fn copies_beyond_the_buffer_are_not_valid() {
        for (inside, cnt, valid) in [
            (0x40000, 4096, true),
            (0x40fff, 1, true),
            (0x41000, 0, true),
            (0x40000, 4097, false),
            (0x40001, 4096, false),
            (0x3ffff, 1, false),
            (0, 16, false),
            (u64::MAX, 1, false),
            (0x40000, u64::MAX, false),
        ] {
            assert_eq!(transfer(inside, 0, cnt, TO_MEMORY).is_valid(), valid);
            assert_eq!(transfer(0, inside, cnt, CMD_RUN).is_valid(), valid);
        }
    }

    #[test]
    fn a_copy_to_memory_is_logged_where_it_lands() -> Result {
        let copy = transfer(0x40000, 0x7000_0123_4567, 100, TO_MEMORY);
        assert_eq!(copy.written(), Some(IovaRange::new(0x0123_4567, 100)?));
        assert_eq!(transfer(0x40000, 0x1000, 0, TO_MEMORY).written(), None);
        assert_eq!(transfer(0x1000, 0x40000, 100, CMD_RUN).written(), None);
        Ok(())
    }
}
