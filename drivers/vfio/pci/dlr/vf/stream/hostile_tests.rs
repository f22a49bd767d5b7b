// SPDX-License-Identifier: GPL-2.0

//! Random streams, most of them damaged, through the parser and the check of the framing. Both are
//! compared with functions that have the whole stream at once and say what the contract says.

use super::{
    hostile::{
        Hostile,
        ACCEPTS, //
    },
    *, //
};
use crate::{
    ext::testing::holds,
    vf::framing::Framing,
    vfio::{
        dirty::random::Random,
        migration::save::StreamCheck, //
    },
};

/// Number of streams: more where the processor is not emulated, and fewer where each access is
/// checked.
const STREAMS: u32 = match (cfg!(CONFIG_UML), cfg!(CONFIG_KASAN)) {
    (true, false) => 1_000_000,
    (true, true) => 100_000,
    (false, _) => 3_000,
};

/// A room that compares what the parser keeps with the stream.
struct Same<'a> {
    stream: &'a [u8],
    /// Number of bytes that were copied.
    copied: usize,
    /// Start of the current section, and number of its bytes that were kept.
    start: usize,
    kept: usize,
    declared: usize,
    /// Most bytes that one copy brings.
    most: usize,
}

impl Same<'_> {
    fn next(&mut self, n: usize) -> Result<&[u8]> {
        let end = self.copied.checked_add(n).ok_or(EIO)?;
        let bytes = self.stream.get(self.copied..end).ok_or(EIO)?;
        self.copied = end;
        Ok(bytes)
    }
}

impl Room for Same<'_> {
    fn read(&mut self, to: &mut [u8]) -> Result {
        to.copy_from_slice(self.next(to.len())?);
        Ok(())
    }

    fn begin(&mut self, bytes: usize) -> Result {
        self.start = self.copied.checked_sub(HEADER_BYTES).ok_or(EIO)?;
        (self.kept, self.declared) = (0, bytes);
        Ok(())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> Result {
        let (start, end) = (self.start + at, self.start + at + bytes.len());
        let is_same = self.stream.get(start..end) == Some(bytes);
        if !is_same || at != self.kept || at + bytes.len() > self.declared {
            return Err(EIO);
        }
        self.kept += bytes.len();
        Ok(())
    }

    fn fill(&mut self, at: usize, len: usize, crc: &mut Crc32c) -> Result<usize> {
        let n = len.min(self.most);
        crc.update(self.next(n)?);
        if at != self.kept || at + n > self.declared {
            return Err(EIO);
        }
        self.kept += n;
        Ok(n)
    }
}

/// What the parser makes of a stream in pieces of at most `piece` bytes: the number of bytes of its
/// complete sections, and whether it is complete.
fn parsed(stream: &[u8], piece: usize, most: usize) -> Result<(u64, Result<bool>)> {
    let mut parser = Parser::new(ACCEPTS);
    let mut room = Same {
        stream,
        copied: 0,
        start: 0,
        kept: 0,
        declared: 0,
        most,
    };
    let mut taken = 0;
    while taken < stream.len() {
        match parser.take(piece.min(stream.len() - taken), &mut room) {
            Ok((n, complete)) => {
                taken += n;
                holds(n > 0 && taken == room.copied)?;
                if complete.is_some() {
                    let bytes = parser.section_bytes();
                    holds(bytes == room.kept && bytes == room.declared)?;
                    holds(parser.bytes() == taken as u64)?;
                }
            }
            Err(e) => {
                // The error is final.
                let again = parser.take(1, &mut room);
                holds(again == Err(ENODEV) && !parser.is_complete())?;
                return Ok((parser.bytes(), Err(e)));
            }
        }
    }
    Ok((parser.bytes(), Ok(parser.is_complete())))
}

fn u16_at(bytes: &[u8], at: usize) -> u32 {
    let two = bytes.get(at..at + 2).and_then(|b| b.try_into().ok());
    two.map_or(0, |b| u16::from_le_bytes(b).into())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u16_at(bytes, at) | u16_at(bytes, at + 2) << 16
}

/// What the contract says of a stream, in the order of its checks.
fn expected(stream: &[u8]) -> (u64, Result<bool>) {
    let mut at = 0;
    for seq in 0.. {
        let Some(header) = stream.get(at..at + 32) else {
            break;
        };
        let (kind, version) = (u16_at(header, 4), u16_at(header, 6));
        let (flags, length) = (u32_at(header, 8), u32_at(header, 16));
        if header.get(..4) != Some(b"DLRS")
            || u32_at(header, 28) != crc32c(header.get(..28).unwrap_or_default())
            || u32_at(header, 12) != seq
            || u32_at(header, 20) != 0
            || (kind == 1) != (seq == 0)
        {
            return (at as u64, Err(EINVAL));
        }
        let known = match kind {
            1 | 2 => version == 1,
            dlr::DLR_SECTION_DEVICE_FIRST..=dlr::DLR_SECTION_DEVICE_LAST => version > 0,
            _ => false,
        };
        if flags > 1 || (flags == 0 && !known) {
            return (at as u64, Err(EOPNOTSUPP));
        }
        if length == 0 || (kind == 1 && length != 32) || (kind == 2 && length != 16) {
            return (at as u64, Err(EINVAL));
        }
        let end = at as u64 + 32 + u64::from(length);
        if length > dlr::DLR_SECTION_MAX || end > ACCEPTS.max_bytes {
            return (at as u64, Err(ENOMEM));
        }
        let Some(payload) = stream.get(at + 32..end as usize) else {
            break;
        };
        if u32_at(header, 24) != crc32c(payload) {
            return (at as u64, Err(EINVAL));
        }
        if kind == 1 {
            let is_ours = payload.get(..16) == Some(&ACCEPTS.compat)
                && (1..=3).contains(&u32_at(payload, 16))
                && u32_at(payload, 20) >> 16 == dlr::DLR_CONTRACT_VERSION >> 16;
            if !is_ours {
                return (at as u64, Err(EOPNOTSUPP));
            }
        }
        if kind == 2 {
            let before = crc32c(stream.get(..at).unwrap_or_default());
            if u32_at(payload, 0) != seq
                || u32_at(payload, 4) != before
                || u32_at(payload, 8) != at as u32
                || u32_at(payload, 12) != 0
            {
                return (at as u64, Err(EINVAL));
            }
            let is_end = end == stream.len() as u64;
            return (end, if is_end { Ok(true) } else { Err(EINVAL) });
        }
        at = end as usize;
    }
    (at as u64, Ok(false))
}

/// Whether the stream has sections up to a trailer, and nothing else.
fn is_framed(mut stream: &[u8], max_bytes: u64) -> bool {
    if stream.len() as u64 > max_bytes {
        return false;
    }
    while let Some((header, rest)) = stream.split_at_checked(32) {
        let length = u32_at(header, 16);
        let is_section =
            header.starts_with(b"DLRS") && (1..=dlr::DLR_SECTION_MAX).contains(&length);
        if !is_section {
            return false;
        }
        if u16_at(header, 4) == 2 {
            return rest.len() == length as usize;
        }
        stream = rest.get(length as usize..).unwrap_or_default();
    }
    false
}

#[kunit_tests(dlr_vf_stream_hostile)]
mod tests {
    use super::*;

    /// Draws streams and gives `judge` each of them, with the length of the pieces in which it
    /// comes. Logs the number of the one that fails.
    fn streams(
        name: &CStr,
        seed: u64,
        mut judge: impl FnMut(&[u8], usize, &mut Random) -> Result,
    ) -> Result {
        let mut random = Random::new(seed);
        let mut hostile = Hostile::new()?;
        for n in 0..STREAMS {
            hostile.draw(&mut random);
            let piece = match random.below(8) {
                0 => 1 + random.below(3) as usize,
                1..=3 => 1 + random.below(100) as usize,
                _ => usize::MAX,
            };
            judge(hostile.bytes(), piece, &mut random)
                .inspect_err(|_| pr_err!("{}: fails at stream {}\n", name, n))?;
        }
        Ok(())
    }

    #[test]
    fn the_parser_says_what_the_contract_says() -> Result {
        // Good, incomplete, and by error.
        let mut ends = [0u32; 5];
        streams(c"parser", 17, |stream, piece, random| {
            let expected = expected(stream);
            let most = 1 + random.below(80) as usize;
            holds(parsed(stream, piece, most)? == expected)?;
            let end = match expected.1 {
                Ok(true) => 0,
                Ok(false) => 1,
                Err(e) if e == EINVAL => 2,
                Err(e) if e == EOPNOTSUPP => 3,
                Err(_) => 4,
            };
            if let Some(count) = ends.get_mut(end) {
                *count += 1;
            }
            Ok(())
        })?;
        // Each end comes, and often.
        holds(ends.iter().all(|count| *count > STREAMS / 100))
    }

    #[test]
    fn the_framing_is_whole_if_the_sections_are() -> Result {
        let mut whole = 0;
        streams(c"framing", 18, |stream, piece, _| {
            let mut framing = Framing::new(ACCEPTS.max_bytes);
            stream.chunks(piece).for_each(|bytes| framing.push(bytes));
            holds(framing.is_whole() == is_framed(stream, ACCEPTS.max_bytes))?;
            whole += u32::from(framing.is_whole());
            // What the target takes, the source has not held back.
            holds(framing.is_whole() || expected(stream).1 != Ok(true))
        })?;
        holds(whole > STREAMS / 100)
    }
}
