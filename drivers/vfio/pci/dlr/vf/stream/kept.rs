// SPDX-License-Identifier: GPL-2.0

//! A [`Room`] for tests of the parser.

use super::Room;
use crate::ext::crc32c::Crc32c;
use kernel::prelude::*;

/// A room that keeps the sections in a vector.
pub(super) struct Kept<'a> {
    /// The rest of the stream.
    pub(super) data: &'a [u8],
    /// Length of the section according to the parser.
    pub(super) declared: usize,
    /// What has come of the section.
    pub(super) section: KVVec<u8>,
    /// All sections that are complete.
    pub(super) all: KVVec<u8>,
}

impl<'a> Kept<'a> {
    /// Creates a room for a stream that goes on with `data`.
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            declared: 0,
            section: KVVec::new(),
            all: KVVec::new(),
        }
    }

    /// Notes that the section is complete and has so many bytes.
    pub(super) fn keep(&mut self, bytes: usize) -> Result {
        if bytes != self.section.len() || bytes != self.declared {
            return Err(EIO);
        }
        self.all.extend_from_slice(&self.section, GFP_KERNEL)?;
        Ok(())
    }
}

impl Room for Kept<'_> {
    fn read(&mut self, to: &mut [u8]) -> Result {
        let (now, rest) = self.data.split_at_checked(to.len()).ok_or(EFAULT)?;
        to.copy_from_slice(now);
        self.data = rest;
        Ok(())
    }

    fn begin(&mut self, bytes: usize) -> Result {
        self.declared = bytes;
        self.section.clear();
        Ok(())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> Result {
        // Nothing is left out, and nothing is behind the end.
        if at != self.section.len() || at.saturating_add(bytes.len()) > self.declared {
            return Err(EIO);
        }
        self.section.extend_from_slice(bytes, GFP_KERNEL)?;
        Ok(())
    }

    /// Less than there is, as if a page were missing.
    fn fill(&mut self, at: usize, len: usize, crc: &mut Crc32c) -> Result<usize> {
        let n = len.min(40);
        let (now, rest) = self.data.split_at_checked(n).ok_or(EFAULT)?;
        self.data = rest;
        crc.update(now);
        self.put(at, now)?;
        Ok(n)
    }
}
