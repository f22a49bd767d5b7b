// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Random numbers that are the same in every run.

/// A generator (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    /// The generator of one stream: streams of neighbouring numbers have nothing in common.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut mixed = seed ^ number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self((mixed ^ mixed >> 27).max(1))
    }

    /// The next number, which has 48 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
