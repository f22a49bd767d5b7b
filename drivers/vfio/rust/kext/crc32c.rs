// SPDX-License-Identifier: GPL-2.0

//! CRC-32C (Castagnoli), with an initial value and a final XOR of all ones.
//!
//! C header: [`include/linux/crc32.h`](srctree/include/linux/crc32.h)

use crate::bindings;
use kernel::prelude::*;

/// A checksum that is computed piece by piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Crc32c(u32);

impl Crc32c {
    /// Starts a checksum over no bytes.
    pub(crate) const fn new() -> Self {
        Self(!0)
    }

    /// Adds `data` to the checksum.
    pub(crate) fn update(&mut self, data: &[u8]) {
        // SAFETY: `data` is valid for reads of its length.
        self.0 = unsafe { bindings::crc32c(self.0, data.as_ptr().cast(), data.len()) };
    }

    /// Returns the checksum of all bytes added so far.
    pub(crate) const fn value(self) -> u32 {
        !self.0
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the checksum of `data`.
pub(crate) fn crc32c(data: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(data);
    crc.value()
}

#[kunit_tests(kext_crc32c)]
mod tests {
    use super::*;

    #[test]
    fn check_value_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn pieces_equal_the_whole() {
        let mut crc = Crc32c::new();
        crc.update(b"1234");
        crc.update(b"");
        crc.update(b"56789");
        assert_eq!(crc.value(), crc32c(b"123456789"));
    }
}
