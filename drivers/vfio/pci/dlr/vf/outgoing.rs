// SPDX-License-Identifier: GPL-2.0

//! Check of the framing of a stream that the user reads, to find a stream that ends too early.
//!
//! The target refuses a stream without a trailer only in the transition that leaves RESUMING. QEMU
//! then calls the migration completed, and the guest continues on a function that was just reset.
//! So the source must not report the end of such a stream: its last read() fails, and the guest
//! continues on the source.
//!
//! This checks only lengths and types. The target verifies checksums and contents, and refuses a
//! bad section while the source can still continue.

use crate::{
    proto::dlr,
    vfio::migration::save::StreamCheck, //
};
use core::mem::size_of;
use kernel::prelude::*;

const HEADER_BYTES: usize = size_of::<dlr::dlr_section>();

static_assert!(HEADER_BYTES == 32);

/// Position of the user in a stream that it reads: section by section, up to the trailer.
pub(crate) struct Framing {
    /// Number of bytes that the stream may still have.
    left: u64,
    too_long: bool,
    header: [u8; HEADER_BYTES],
    /// Number of bytes of `header` that were read.
    have: usize,
    /// Number of bytes of the payload that are left to read.
    payload: usize,
    trailer: bool,
    /// Something was no section, or came after the trailer.
    bad: bool,
}

impl Framing {
    /// Creates the state at the start of a stream of at most `max_bytes` bytes.
    pub(crate) const fn new(max_bytes: u64) -> Self {
        Self {
            left: max_bytes,
            too_long: false,
            header: [0; HEADER_BYTES],
            have: 0,
            payload: 0,
            trailer: false,
            bad: false,
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

    /// Evaluates a complete section header.
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

impl StreamCheck for Framing {
    /// Follows the next bytes of the stream. The result stays bad after bytes that are no section,
    /// and after bytes behind the trailer.
    fn push(&mut self, bytes: &[u8]) {
        match self.left.checked_sub(bytes.len() as u64) {
            Some(left) => self.left = left,
            None => self.too_long = true,
        }
        if !self.bad && self.follow(bytes).is_err() {
            self.bad = true;
        }
    }

    /// Returns whether the user has read the whole trailer, and no error came before.
    fn is_whole(&self) -> bool {
        self.trailer && self.payload == 0 && !self.bad && !self.too_long
    }

    /// Returns whether the user has read more bytes than `max_state_bytes` of the device allows. An
    /// endless stream would otherwise never be found to lack its trailer.
    fn is_hopeless(&self) -> bool {
        self.too_long
    }
}

#[kunit_tests(dlr_vf_outgoing)]
mod tests {
    use super::*;

    #[test]
    fn whole_only_after_the_trailer_at_any_split() -> Result {
        let stream = stream()?;
        for step in [1, 3, 31, 32, 33, 4096] {
            let mut framing = Framing::new(u64::MAX);
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
    fn l12_a_stream_has_no_more_bytes_than_the_device_says() -> Result {
        let stream = stream()?;
        let length = stream.len() as u64;
        for (max, too_long) in [(length - 1, true), (length, false), (u64::MAX, false)] {
            let mut framing = Framing::new(max);
            let (first, last) = stream.split_at(stream.len() - 1);
            framing.push(first);
            assert!(!framing.is_hopeless());
            framing.push(last);
            assert_eq!(framing.is_hopeless(), too_long);
            assert_eq!(framing.is_whole(), !too_long);
        }
        Ok(())
    }

    #[test]
    fn every_truncation_is_noticed() -> Result {
        let stream = stream()?;
        for end in 0..stream.len() {
            let mut framing = Framing::new(u64::MAX);
            framing.push(&stream[..end]);
            assert!(!framing.is_whole());
        }
        Ok(())
    }

    #[test]
    fn what_is_no_section_never_becomes_whole() -> Result {
        let good = stream()?;
        let mut framing = Framing::new(u64::MAX);
        framing.push(&good);
        framing.push(&[0]);
        assert!(!framing.is_whole());

        let mut bad = stream()?;
        bad[0] ^= 1;
        let mut framing = Framing::new(u64::MAX);
        framing.push(&bad);
        framing.push(&good);
        assert!(!framing.is_whole());

        for length in [0, dlr::DLR_SECTION_MAX + 1] {
            let mut framing = Framing::new(u64::MAX);
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
