// SPDX-License-Identifier: GPL-2.0

//! Follows the sections of a stream on its way out, to know whether it ends whole.
//!
//! A stream that ends without its trailer is refused on the target only by the arc that
//! leaves RESUMING, and QEMU calls such a migration completed: the guest goes on with a
//! freshly reset device. So the source must not call such a stream ended: its last read()
//! fails, and the guest goes on here.
//!
//! Only lengths and types are looked at. Checksums are the target's; what is wrong in a
//! section it refuses while the source can still go on.

use crate::bindings::dlr;
use core::mem::size_of;
use kernel::prelude::*;

const HEADER_BYTES: usize = size_of::<dlr::dlr_section>();

/// See the module's page.
pub(crate) struct Framing {
    header: [u8; HEADER_BYTES],
    /// Bytes of `header` that have come.
    have: usize,
    /// Bytes of the payload that are to come.
    payload: usize,
    trailer: bool,
    /// Something was no section, or stood behind the trailer.
    bad: bool,
}

impl Framing {
    /// At the start of a stream.
    pub(crate) const fn new() -> Self {
        Self {
            header: [0; HEADER_BYTES],
            have: 0,
            payload: 0,
            trailer: false,
            bad: false,
        }
    }

    /// The next bytes of the stream. Nothing makes a stream whole again that was not made of
    /// sections once, or went on behind its trailer.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if !self.bad && self.follow(bytes).is_err() {
            self.bad = true;
        }
    }

    fn follow(&mut self, mut bytes: &[u8]) -> Result {
        while !bytes.is_empty() {
            if self.payload != 0 {
                let n = self.payload.min(bytes.len());
                self.payload -= n;
                bytes = bytes.get(n..).unwrap_or_default();
                continue;
            }
            if self.trailer {
                return Err(EIO);
            }
            let n = (HEADER_BYTES - self.have).min(bytes.len());
            let (head, rest) = bytes.split_at_checked(n).ok_or(EIO)?;
            self.header
                .get_mut(self.have..self.have + n)
                .ok_or(EIO)?
                .copy_from_slice(head);
            self.have += n;
            bytes = rest;
            if self.have == HEADER_BYTES {
                self.section()?;
            }
        }
        Ok(())
    }

    /// Whether the trailer has gone out, all of it.
    pub(crate) fn is_whole(&self) -> bool {
        self.trailer && self.payload == 0 && !self.bad
    }

    /// A header is complete.
    fn section(&mut self) -> Result {
        let section = dlr::dlr_section::read_from_bytes(&self.header).map_err(|_| EIO)?;
        let length = u32::from_le(section.length);
        if u32::from_le(section.magic) != dlr::DLR_SECTION_MAGIC
            || length == 0
            || length > dlr::DLR_SECTION_MAX
        {
            return Err(EIO);
        }
        self.trailer = u32::from(u16::from_le(section.type_)) == dlr::DLR_SECTION_TRAILER;
        self.payload = length as usize;
        self.have = 0;
        Ok(())
    }
}

#[kunit_tests(dlr_vf_outgoing)]
mod tests {
    use super::*;

    #[test]
    fn whole_only_after_the_trailer_at_any_split() -> Result {
        let stream = stream()?;
        for step in [1, 3, 31, 32, 33, 4096] {
            let mut framing = Framing::new();
            let mut at = 0;
            while at < stream.len() {
                assert!(!framing.is_whole());
                let end = (at + step).min(stream.len());
                framing.push(&stream[at..end]);
                at = end;
            }
            assert!(framing.is_whole());
        }
        Ok(())
    }

    #[test]
    fn every_truncation_is_noticed() -> Result {
        let stream = stream()?;
        for end in 0..stream.len() {
            let mut framing = Framing::new();
            framing.push(&stream[..end]);
            assert!(!framing.is_whole());
        }
        Ok(())
    }

    #[test]
    fn what_is_no_section_never_becomes_whole() -> Result {
        let good = stream()?;
        let mut framing = Framing::new();
        framing.push(&good);
        framing.push(&[0]);
        assert!(!framing.is_whole());

        let mut bad = stream()?;
        bad[0] ^= 1;
        let mut framing = Framing::new();
        framing.push(&bad);
        framing.push(&good);
        assert!(!framing.is_whole());

        for length in [0, dlr::DLR_SECTION_MAX + 1] {
            let mut framing = Framing::new();
            framing.push(&section(dlr::DLR_SECTION_HEADER, length));
            framing.push(&good);
            assert!(!framing.is_whole());
        }
        Ok(())
    }

    fn section(kind: u32, length: u32) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&dlr::DLR_SECTION_MAGIC.to_le_bytes());
        header[4..6].copy_from_slice(&(kind as u16).to_le_bytes());
        header[16..20].copy_from_slice(&length.to_le_bytes());
        header
    }

    fn stream() -> Result<KVVec<u8>> {
        let mut stream = KVVec::new();
        for (kind, length) in [
            (dlr::DLR_SECTION_HEADER, 32),
            (dlr::DLR_SECTION_DEVICE_FIRST, 100),
            (dlr::DLR_SECTION_TRAILER, 16),
        ] {
            stream.extend_from_slice(&section(kind, length), GFP_KERNEL)?;
            for _ in 0..length {
                stream.push(0x53, GFP_KERNEL)?;
            }
        }
        Ok(stream)
    }
}
