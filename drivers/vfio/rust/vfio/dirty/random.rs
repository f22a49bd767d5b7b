// SPDX-License-Identifier: GPL-2.0

//! Random numbers for tests.

/// A generator of pseudo-random numbers (xorshift64*), which are the same in every run.
pub(crate) struct Random(u64);

impl Random {
    /// Creates a generator that begins at `seed`, which is not 0.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number, which has 48 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// Returns a number below `n`. `n` is not 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}
