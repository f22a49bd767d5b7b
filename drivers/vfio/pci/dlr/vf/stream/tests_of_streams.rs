// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the stream parser: good streams, split in any way, and all kinds of bad ones.

use kernel::prelude::*;

#[kunit_tests(dlr_vf_stream)]
mod tests {
    use super::super::{
        kept::Kept,
        *, //
    };

    #[test]
    fn whole_stream_in_one_piece() -> Result {
        let s = stream(&[(0x100, 0, 100), (0x101, 1, 65536)])?;
        let mut p = parser();
        assert_eq!(feed(&mut p, &s, usize::MAX)?, (4, true));
        assert!(p.is_complete());
        assert_eq!(p.bytes(), s.len() as u64);
        // Nothing may follow the trailer, and after that error the parser refuses everything.
        assert_eq!(p.take(1, &mut Kept::new(b"x")), Err(EINVAL));
        assert_eq!(p.take(1, &mut Kept::new(b"x")), Err(ENODEV));
        assert!(!p.is_complete());
        Ok(())
    }

    #[test]
    fn any_split() -> Result {
        let s = stream(&[(0x100, 0, 1), (0x100, 0, 33), (0x100, 0, 500)])?;
        for piece in [1, 2, 3, 31, 32, 33, 64, 100] {
            let (mut p, mut room) = (parser(), Kept::new(&s));
            assert_eq!(feed_to(&mut room, &mut p, &s, piece)?, (5, true));
            // The device gets what the user has written.
            assert_eq!(room.all, s);
        }
        Ok(())
    }

    #[test]
    fn truncated_is_not_complete() -> Result {
        let s = stream(&[(0x100, 0, 64)])?;
        for end in 0..s.len() {
            let mut p = parser();
            feed(&mut p, s.get(..end).ok_or(EINVAL)?, 17)?;
            assert!(!p.is_complete());
        }
        Ok(())
    }

    #[test]
    fn every_flipped_bit_is_seen() -> Result {
        let mut s = stream(&[(0x100, 0, 40), (0x105, 1, 7)])?;
        for byte in 0..s.len() {
            for bit in 0..8 {
                flip(&mut s, byte, bit);
                let mut p = parser();
                assert!(feed(&mut p, &s, usize::MAX).is_err());
                assert_eq!(p.take(1, &mut Kept::new(b"x")), Err(ENODEV));
                flip(&mut s, byte, bit);
            }
        }
        Ok(())
    }

    #[test]
    fn sections_cannot_be_dropped_or_swapped() -> Result {
        let s = stream(&[(0x100, 0, 32), (0x100, 0, 32)])?;
        let section = |i: usize| s.get(i * 64..s.len().min(i * 64 + 64)).ok_or(EINVAL);
        for order in [
            &[0usize, 2, 3][..],
            &[0, 2, 1, 3],
            &[1, 2, 3],
            &[0, 0, 1, 2, 3],
        ] {
            let mut p = parser();
            let mut failed = false;
            for i in order {
                failed |= feed(&mut p, section(*i)?, usize::MAX).is_err();
            }
            assert!(failed);
        }
        Ok(())
    }

    /// The checksum of a section is checked even if all later checksums fit the damaged bytes.
    #[test]
    fn a_damaged_payload_is_seen_by_its_own_checksum() -> Result {
        for kind in [0x100, 0x101, 0x105] {
            let mut s = begin(0)?;
            let head = header(kind, 0, 1, 8, crc32c(b"sections"));
            s.extend_from_slice(head.as_bytes(), GFP_KERNEL)?;
            s.extend_from_slice(b"sectionS", GFP_KERNEL)?;
            assert_eq!(feed(&mut parser(), &s, usize::MAX), Err(EINVAL));
            // The same with a trailer that fits the damaged bytes.
            trailer(&mut s, 2, |_| ())?;
            assert_eq!(feed(&mut parser(), &s, usize::MAX), Err(EINVAL));
        }
        Ok(())
    }

    /// Each field of the trailer is checked on its own.
    #[test]
    fn each_word_of_the_trailer_is_checked() -> Result {
        type Change = fn(&mut dlr::dlr_stream_trailer);
        let changes: [(Change, _); 5] = [
            (|t| t.stream_crc ^= 1u32.to_le(), Err(EINVAL)),
            (|t| t.stream_bytes ^= 1u64.to_le(), Err(EINVAL)),
            (|t| t.stream_bytes = 0, Err(EINVAL)),
            (|t| t.sections ^= 1u32.to_le(), Err(EINVAL)),
            (|_| (), Ok((3, true))),
        ];
        for (change, want) in changes {
            let mut s = begin(0)?;
            section(&mut s, 0x100, 0, 1, b"payload")?;
            trailer(&mut s, 2, change)?;
            let mut p = parser();
            assert_eq!(feed(&mut p, &s, usize::MAX), want);
            assert_eq!(p.is_complete(), want.is_ok());
        }
        Ok(())
    }

    /// A section with a wrong number is refused at its header.
    #[test]
    fn each_section_has_its_number() -> Result {
        for (first, second) in [(1, None), (0, Some(0)), (0, Some(2))] {
            let mut s = begin(first)?;
            if let Some(second) = second {
                assert_eq!(feed(&mut parser(), &s, usize::MAX)?, (1, false));
                s.extend_from_slice(header(0x100, 0, second, 8, 0).as_bytes(), GFP_KERNEL)?;
            } else {
                s.truncate(HEADER_BYTES);
            }
            assert_eq!(feed(&mut parser(), &s, usize::MAX), Err(EINVAL));
        }
        Ok(())
    }

    #[test]
    fn other_models_and_versions() -> Result {
        let s = stream(&[])?;
        for change in [
            |a: &mut Accepts| a.compat = [8; 16],
            |a: &mut Accepts| a.version_max = 2,
            |a: &mut Accepts| a.version_min = 4,
        ] {
            let mut a = accepts();
            change(&mut a);
            assert_eq!(feed(&mut Parser::new(a), &s, usize::MAX), Err(EOPNOTSUPP));
        }
        Ok(())
    }

    #[test]
    fn unknown_sections() -> Result {
        for (kind, flags, want) in [
            (0x50, 1, Ok((3, true))),
            (0x50, 0, Err(EOPNOTSUPP)),
            (0x9000, 0, Err(EOPNOTSUPP)),
        ] {
            let s = stream(&[(kind, flags, 8)])?;
            assert_eq!(feed(&mut parser(), &s, usize::MAX), want);
        }
        Ok(())
    }

    #[test]
    fn lengths() -> Result {
        for (length, error) in [(0, EINVAL), (65537, ENOMEM), (u32::MAX, ENOMEM)] {
            let mut s = begin(0)?;
            s.extend_from_slice(header(0x100, 0, 1, length, 0).as_bytes(), GFP_KERNEL)?;
            assert_eq!(feed(&mut parser(), &s, usize::MAX), Err(error));
        }
        // Within the limit of a section, but beyond the limit of the function.
        let mut a = accepts();
        a.max_bytes = 64 + 32 + 9;
        let s = stream(&[(0x100, 0, 10)])?;
        assert_eq!(feed(&mut Parser::new(a), &s, usize::MAX), Err(ENOMEM));
        Ok(())
    }

    #[test]
    fn memory_follows_the_data() -> Result {
        let s = stream(&[])?;
        let h = header(0x100, 0, 1, 65536, 0);
        let (mut p, mut room) = (parser(), Kept::new(&s));
        feed_to(&mut room, &mut p, &s[..64], usize::MAX)?;
        feed_to(&mut room, &mut p, h.as_bytes(), usize::MAX)?;
        // The parser keeps nothing, and the room what has come.
        assert_eq!(room.declared, 65536 + HEADER_BYTES);
        assert_eq!(room.section.len(), HEADER_BYTES);
        Ok(())
    }

    #[test]
    fn a_failed_copy_is_final() -> Result {
        let mut p = parser();
        assert_eq!(p.take(10, &mut Kept::new(b"")), Err(EFAULT));
        assert_eq!(p.take(10, &mut Kept::new(b"0123456789")), Err(ENODEV));
        Ok(())
    }

    fn accepts() -> Accepts {
        Accepts {
            compat: [7; 16],
            version_min: 1,
            version_max: 3,
            max_bytes: 1 << 20,
        }
    }

    fn parser() -> Parser {
        Parser::new(accepts())
    }

    fn flip(s: &mut [u8], byte: usize, bit: u32) {
        if let Some(b) = s.get_mut(byte) {
            *b ^= 1 << bit;
        }
    }

    /// Feeds `data` in pieces. Returns the number of complete sections and whether the trailer was
    /// seen.
    fn feed(p: &mut Parser, data: &[u8], piece: usize) -> Result<(usize, bool)> {
        feed_to(&mut Kept::new(data), p, data, piece)
    }

    /// The same with a room that keeps what it gets.
    fn feed_to<'a>(
        room: &mut Kept<'a>,
        p: &mut Parser,
        mut data: &'a [u8],
        piece: usize,
    ) -> Result<(usize, bool)> {
        let mut seen = (0, false);
        while !data.is_empty() {
            room.data = data;
            let (n, complete) = p.take(data.len().min(piece), room)?;
            data = data.get(n..).ok_or(EINVAL)?;
            // What was taken was copied, and nothing else.
            if room.data.len() != data.len() {
                return Err(EIO);
            }
            if complete.is_some() {
                room.keep(p.section_bytes())?;
            }
            seen.0 += usize::from(complete.is_some());
            seen.1 |= complete == Some(Complete::Trailer);
        }
        Ok(seen)
    }

    fn header(kind: u32, flags: u32, seq: u32, length: u32, payload_crc: u32) -> dlr::dlr_section {
        let mut h = dlr::dlr_section {
            magic: dlr::DLR_SECTION_MAGIC.to_le(),
            type_: (kind as u16).to_le(),
            version: 1u16.to_le(),
            flags: flags.to_le(),
            seq: seq.to_le(),
            length: length.to_le(),
            reserved: 0,
            payload_crc: payload_crc.to_le(),
            header_crc: 0,
        };
        h.header_crc = crc32c(&h.as_bytes()[..HEADER_CRC_BYTES]).to_le();
        h
    }

    fn section(s: &mut KVVec<u8>, kind: u32, flags: u32, seq: u32, payload: &[u8]) -> Result {
        let h = header(kind, flags, seq, payload.len() as u32, crc32c(payload));
        s.extend_from_slice(h.as_bytes(), GFP_KERNEL)?;
        s.extend_from_slice(payload, GFP_KERNEL)?;
        Ok(())
    }

    /// Builds a good stream with these (type, flags, length) sections between header and trailer.
    fn stream(middle: &[(u32, u32, usize)]) -> Result<KVVec<u8>> {
        let mut s = begin(0)?;
        let mut seq = 1;
        for (kind, flags, length) in middle {
            let payload = KVVec::from_elem(seq as u8, *length, GFP_KERNEL)?;
            section(&mut s, *kind, *flags, seq, &payload)?;
            seq += 1;
        }
        trailer(&mut s, seq, |_| ())?;
        Ok(s)
    }

    /// Builds the first section of a stream, with this number.
    fn begin(seq: u32) -> Result<KVVec<u8>> {
        let mut s = KVVec::new();
        let head = dlr::dlr_stream_header {
            compat: [7; 16],
            state_version: 3u32.to_le(),
            contract: dlr::DLR_CONTRACT_VERSION.to_le(),
            reserved: 0,
        };
        section(&mut s, dlr::DLR_SECTION_HEADER, 0, seq, head.as_bytes())?;
        Ok(s)
    }

    /// Adds a trailer that is right except for what `change` does to it.
    fn trailer(
        s: &mut KVVec<u8>,
        seq: u32,
        change: impl FnOnce(&mut dlr::dlr_stream_trailer),
    ) -> Result {
        let mut tail = dlr::dlr_stream_trailer {
            sections: seq.to_le(),
            stream_crc: crc32c(s).to_le(),
            stream_bytes: (s.len() as u64).to_le(),
        };
        change(&mut tail);
        section(s, dlr::DLR_SECTION_TRAILER, 0, seq, tail.as_bytes())
    }
}
