// SPDX-License-Identifier: GPL-2.0

//! The trait of the memory between the parser of a stream and the device.

use crate::ext::crc32c::Crc32c;
use kernel::prelude::*;

/// The stream as it comes, and the place where its sections are kept for the device.
pub(crate) trait Room {
    /// Copies the next bytes of the stream to `to`.
    ///
    /// # Errors
    ///
    /// `EFAULT` if not all of them can be copied.
    fn read(&mut self, to: &mut [u8]) -> Result;

    /// Begins a section of `bytes` bytes, its header included. May sleep.
    ///
    /// # Errors
    ///
    /// Any error ends the stream.
    fn begin(&mut self, bytes: usize) -> Result;

    /// Stores `bytes`, which came from [`Self::read`], at byte `at` of the section.
    ///
    /// # Errors
    ///
    /// Any error ends the stream.
    fn put(&mut self, at: usize, bytes: &[u8]) -> Result;

    /// Stores the next bytes of the stream, at least one and at most `len`, at byte `at` of the
    /// section. Adds what was stored to `crc`, and returns the number of bytes.
    ///
    /// # Errors
    ///
    /// `EFAULT` if no byte can be copied. Any other error ends the stream, too.
    fn fill(&mut self, at: usize, len: usize, crc: &mut Crc32c) -> Result<usize>;
}
