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
        unsafe { self.update_raw(data.as_ptr(), data.len()) };
    }

    /// Adds `len` bytes at `data` to the checksum.
    ///
    /// # Safety
    ///
    /// `data` is valid for reads of `len` bytes. A device may write them meanwhile; which bytes are
    /// in the checksum is undefined then.
    pub(super) unsafe fn update_raw(&mut self, data: *const u8, len: usize) {
        // SAFETY: By the requirements of this function.
        self.0 = unsafe { bindings::crc32c(self.0, data.cast(), len) };
    }

    /// Adds `len` bytes whose checksum is `crc` without reading them. This takes as long as adding
    /// some tens of bytes, whatever `len` is.
    pub(crate) fn append(&mut self, crc: u32, len: u32) {
        // With the final XOR undone on both sides, the checksum of two pieces is that of the first,
        // followed by as many zeros as the second has bytes, plus that of the second.
        self.0 = !(multiply(self.value(), zeros(len)) ^ crc);
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

/// The polynomial. Here and below the coefficient of x^0 is the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// x^0.
const ONE: u32 = 1 << 31;
/// Item `n` is x^(8 * 2^n) modulo the polynomial: the factor of 2^n bytes.
const BYTES: [u32; 32] = {
    // x^8.
    let mut factor = ONE >> 8;
    let mut table = [0; 32];
    let mut n = 0;
    while n < table.len() {
        table[n] = factor;
        factor = multiply(factor, factor);
        n += 1;
    }
    table
};

/// Returns the product of two polynomials modulo [`POLYNOMIAL`].
const fn multiply(mut a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    // Ends with the last coefficient of `a`.
    while a != 0 {
        if a & ONE != 0 {
            product ^= b;
        }
        a <<= 1;
        // `b` times x.
        b = b >> 1 ^ if b & 1 != 0 { POLYNOMIAL } else { 0 };
    }
    product
}

/// Returns the factor by which `len` bytes of zeros multiply a checksum.
fn zeros(len: u32) -> u32 {
    let set = |n: usize| len >> n & 1 != 0;
    let factors = BYTES.iter().enumerate().filter(|(n, _)| set(*n));
    factors.fold(ONE, |product, (_, factor)| multiply(product, *factor))
}

/// Returns the checksum of `data`.
pub(crate) fn crc32c(data: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(data);
    crc.value()
}

#[kunit_tests(ext_crc32c)]
mod tests {
    use super::*;

    #[test]
    fn check_value_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    /// For each length up to some hundred bytes, and around each power of two up to the length of a
    /// section of a stream.
    #[test]
    fn a_piece_of_known_checksum_equals_its_bytes() -> Result {
        let mut data = KVVec::new();
        let mut value = 1u32;
        for _ in 0..70_000 {
            value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            data.push((value >> 24) as u8, GFP_KERNEL)?;
        }
        let powers = (8..17).flat_map(|n| [(1 << n) - 1, 1 << n, (1 << n) + 1]);
        for len in Iterator::chain(0..300, powers) {
            for first in [0, 1, 32] {
                let whole = &data[..first + len];
                let (head, tail) = whole.split_at(first);
                let mut crc = Crc32c::new();
                crc.update(head);
                crc.append(crc32c(tail), len as u32);
                assert_eq!(crc.value(), crc32c(whole));
                // Bytes after a known piece are added as before.
                crc.update(b"more");
                let mut all = Crc32c::new();
                all.update(whole);
                all.update(b"more");
                assert_eq!(crc, all);
            }
        }
        Ok(())
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
