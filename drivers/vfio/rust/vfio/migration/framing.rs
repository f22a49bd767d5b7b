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

use super::save::StreamCheck;
use kernel::prelude::*;

/// A section of a stream, as its header describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Section {
    /// Number of bytes behind the header. At least 1.
    pub(crate) length: usize,
    /// The stream ends with this section.
    pub(crate) is_trailer: bool,
}

/// The header of a section: what a device puts before each part of its stream.
///
/// # Examples
///
/// From `drivers/vfio/pci/dlr/vf/framing.rs`:
///
/// ```ignore
/// impl SectionHeader for dlr::dlr_section {
///     fn section(&self) -> Option<Section> {
///         let header = Header::decode(self)?;
///         if !(1..=dlr::DLR_SECTION_MAX).contains(&header.length) {
///             return None;
///         }
///         Some(Section {
///             length: header.length as usize,
///             is_trailer: u32::from(header.kind) == dlr::DLR_SECTION_TRAILER,
///         })
///     }
/// }
/// ```
pub(crate) trait SectionHeader: FromBytes + IntoBytes {
    /// Returns the section, or `None` if these bytes are no header.
    fn section(&self) -> Option<Section>;
}

/// Position of the user in a stream that it reads: section by section, up to the trailer.
pub(crate) struct Framing<H> {
    /// Number of bytes that the stream may still have.
    left: u64,
    too_long: bool,
    header: H,
    /// Number of bytes of `header` that were read.
    have: usize,
    /// Number of bytes of the payload that are left to read.
    payload: usize,
    trailer: bool,
    /// Something was no section, or came after the trailer.
    bad: bool,
}

impl<H: SectionHeader> Framing<H> {
    /// Creates the state at the start of a stream of at most `max_bytes` bytes.
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self {
            left: max_bytes,
            too_long: false,
            header: H::new_zeroed(),
            have: 0,
            payload: 0,
            trailer: false,
            bad: false,
        }
    }

    /// Follows the next bytes of the stream. Returns `EIO` for bytes that are no section.
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
            let missing = self.header.as_mut_bytes().get_mut(self.have..).ok_or(EIO)?;
            let n = missing.len().min(bytes.len());
            let (head, rest) = bytes.split_at_checked(n).ok_or(EIO)?;
            missing.get_mut(..n).ok_or(EIO)?.copy_from_slice(head);
            self.have += n;
            bytes = rest;
            if self.have == size_of::<H>() {
                let section = self.header.section().ok_or(EIO)?;
                self.trailer = section.is_trailer;
                self.payload = section.length;
                self.have = 0;
            }
        }
        Ok(())
    }
}

impl<H: SectionHeader> StreamCheck for Framing<H> {
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

    /// Returns whether the user has read more bytes than the device allows. An endless stream would
    /// otherwise never be found to lack its trailer.
    fn is_hopeless(&self) -> bool {
        self.too_long
    }
}

#[kunit_tests(vfio_migration_framing)]
mod tests {
    use super::*;

    const MAGIC: u32 = 0x5345_4354;
    const HEADER_BYTES: usize = size_of::<Header>();

    /// Magic, trailer or not, length.
    type Header = [u32; 3];

    impl SectionHeader for Header {
        fn section(&self) -> Option<Section> {
            match *self {
                [MAGIC, is_trailer, length @ 1..=u32::MAX] => Some(Section {
                    length: length as usize,
                    is_trailer: is_trailer != 0,
                }),
                _ => None,
            }
        }
    }

    fn framing(max_bytes: u64) -> Framing<Header> {
        Framing::new(max_bytes)
    }

    #[test]
    fn whole_only_after_the_trailer_at_any_split() -> Result {
        let stream = stream()?;
        for step in [1, 3, 11, 12, 13, 4096] {
            let mut check = framing(u64::MAX);
            let mut at = 0;
            while at < stream.len() {
                assert!(!check.is_whole());
                let end = (at + step).min(stream.len());
                check.push(&stream[at..end]);
                at = end;
            }
            assert!(check.is_whole());
        }
        Ok(())
    }

    #[test]
    fn l12_a_stream_has_no_more_bytes_than_the_device_says() -> Result {
        let stream = stream()?;
        let length = stream.len() as u64;
        for (max, too_long) in [(length - 1, true), (length, false), (u64::MAX, false)] {
            let mut check = framing(max);
            let (first, last) = stream.split_at(stream.len() - 1);
            check.push(first);
            assert!(!check.is_hopeless());
            check.push(last);
            assert_eq!(check.is_hopeless(), too_long);
            assert_eq!(check.is_whole(), !too_long);
        }
        Ok(())
    }

    #[test]
    fn every_truncation_is_noticed() -> Result {
        let stream = stream()?;
        for end in 0..stream.len() {
            let mut check = framing(u64::MAX);
            check.push(&stream[..end]);
            assert!(!check.is_whole());
        }
        Ok(())
    }

    #[test]
    fn what_is_no_section_never_becomes_whole() -> Result {
        let good = stream()?;
        let mut check = framing(u64::MAX);
        check.push(&good);
        check.push(&[0]);
        assert!(!check.is_whole());

        let mut bad = stream()?;
        bad[0] ^= 1;
        let mut check = framing(u64::MAX);
        check.push(&bad);
        check.push(&good);
        assert!(!check.is_whole());

        let mut check = framing(u64::MAX);
        check.push(&section(false, 0));
        check.push(&good);
        assert!(!check.is_whole());
        Ok(())
    }

    fn section(is_trailer: bool, length: u32) -> [u8; HEADER_BYTES] {
        zerocopy::transmute!([MAGIC, u32::from(is_trailer), length])
    }

    fn stream() -> Result<KVVec<u8>> {
        let mut stream = KVVec::new();
        for (is_trailer, length) in [(false, 32), (false, 100), (true, 16)] {
            stream.extend_from_slice(&section(is_trailer, length), GFP_KERNEL)?;
            for _ in 0..length {
                stream.push(0x53, GFP_KERNEL)?;
            }
        }
        Ok(stream)
    }
}
