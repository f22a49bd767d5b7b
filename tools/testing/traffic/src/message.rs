// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One message: layout, generation, verification.
//!
//! ```text
//!  0  magic   "DLRm"      (all fields little endian)
//!  4  stream  u32
//!  8  seq     u64
//! 16  len     u32         whole message, header included
//! 20  crc     u32         CRC-32 of bytes 0..20
//! 24  body                SplitMix64 seeded from (stream, seq)
//! ```
//!
//! The header has a checksum of its own because the two parts live differently in a
//! guest: Linux copies the first bytes of a received frame, the body stays where the
//! NIC's DMA put it. A page that a migration lost shows as a good header with a bad body.

use std::fmt;

use rand_core::{RngCore, SeedableRng};
use rand_xoshiro::SplitMix64;
use serde::{Deserialize, Serialize};

/// Bytes of a message before its body; also the shortest message.
pub const HEADER_LEN: usize = 24;

const MAGIC: [u8; 4] = *b"DLRm";
const CRC_AT: usize = 20;

/// What a message says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Stream that the message belongs to.
    pub stream: u32,
    /// Its number in the stream, from 0.
    pub seq: u64,
    /// Length in bytes with the header.
    pub len: u32,
}

impl Header {
    /// Reads and checks the header at the start of `bytes`, which may go on with anything.
    ///
    /// # Errors
    ///
    /// [`Fault::Truncated`], [`Fault::Magic`], [`Fault::HeaderCrc`], or [`Fault::Length`]
    /// for a length below [`HEADER_LEN`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let Some(raw) = bytes.get(..HEADER_LEN) else {
            return Err(Fault::Truncated { len: bytes.len() });
        };
        if !raw.starts_with(&MAGIC) {
            return Err(Fault::Magic {
                found: u32_at(raw, 0),
            });
        }
        if crc32fast::hash(&raw[..CRC_AT]) != u32_at(raw, CRC_AT) {
            return Err(Fault::HeaderCrc);
        }
        let header = Self {
            stream: u32_at(raw, 4),
            seq: u64::from(u32_at(raw, 8)) | u64::from(u32_at(raw, 12)) << 32,
            len: u32_at(raw, 16),
        };
        if (header.len as usize) < HEADER_LEN {
            return Err(Fault::Length {
                header,
                found: bytes.len(),
            });
        }
        Ok(header)
    }
}

/// A message cannot be shorter than [`HEADER_LEN`] nor longer than `u32::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooShort(
    /// The length asked for.
    pub usize,
);

impl fmt::Display for TooShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message of {} bytes is not possible", self.0)
    }
}

impl std::error::Error for TooShort {}

/// What is wrong with received bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// Not even a header.
    Truncated {
        /// Bytes there are.
        len: usize,
    },
    /// Not a message at all.
    Magic {
        /// First four bytes, little endian.
        found: u32,
    },
    /// The header is damaged, so its fields mean nothing.
    HeaderCrc,
    /// The header is good, but the message is not as long as it says.
    Length {
        /// The header.
        header: Header,
        /// Bytes there are.
        found: usize,
    },
    /// The header is good, the body is not what belongs to it.
    Body {
        /// The header.
        header: Header,
        /// Offset of the first wrong byte in the message.
        first: usize,
        /// Offset of the last wrong byte.
        last: usize,
        /// Number of wrong bytes.
        wrong: usize,
        /// All wrong bytes are zero: a page that was never copied.
        zeros: bool,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { len } => write!(f, "only {len} bytes, no header"),
            Self::Magic { found } => write!(f, "starts with {found:#010x}, not with the magic"),
            Self::HeaderCrc => f.write_str("header checksum"),
            Self::Length { header, found } => write!(
                f,
                "stream {} seq {}: {} bytes announced, {found} there",
                header.stream, header.seq, header.len
            ),
            Self::Body {
                header,
                first,
                last,
                wrong,
                zeros,
            } => write!(
                f,
                "stream {} seq {}: {wrong} wrong bytes in {first}..={last} of {}{}",
                header.stream,
                header.seq,
                header.len,
                if *zeros { ", all zero" } else { "" }
            ),
        }
    }
}

impl std::error::Error for Fault {}

/// Makes the message (`stream`, `seq`) that fills `buf`.
///
/// # Errors
///
/// The length of `buf` is not possible; it is then untouched.
pub fn fill(buf: &mut [u8], stream: u32, seq: u64) -> Result<(), TooShort> {
    let len = u32::try_from(buf.len()).map_err(|_| TooShort(buf.len()))?;
    if buf.len() < HEADER_LEN {
        return Err(TooShort(buf.len()));
    }
    let (head, body) = buf.split_at_mut(HEADER_LEN);
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&stream.to_le_bytes());
    head[8..16].copy_from_slice(&seq.to_le_bytes());
    head[16..20].copy_from_slice(&len.to_le_bytes());
    let crc = crc32fast::hash(&head[..CRC_AT]);
    head[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    generator(stream, seq).fill_bytes(body);
    Ok(())
}

/// The message (`stream`, `seq`) of `len` bytes.
///
/// # Errors
///
/// `len` is not possible.
pub fn build(stream: u32, seq: u64, len: usize) -> Result<Vec<u8>, TooShort> {
    let mut buf = vec![0; len];
    fill(&mut buf, stream, seq)?;
    Ok(buf)
}

/// Checks that `bytes` is exactly one undamaged message.
///
/// # Errors
///
/// The first of the [`Fault`]s that applies, in their order.
pub fn verify(bytes: &[u8]) -> Result<Header, Fault> {
    let header = Header::parse(bytes)?;
    if header.len as usize != bytes.len() {
        return Err(Fault::Length {
            header,
            found: bytes.len(),
        });
    }
    let body = &bytes[HEADER_LEN..];
    let mut expected = vec![0; body.len()];
    generator(header.stream, header.seq).fill_bytes(&mut expected);
    if body == expected {
        return Ok(header);
    }
    let mut bad = body
        .iter()
        .zip(&expected)
        .enumerate()
        .filter(|(_, (a, b))| a != b);
    let Some((first, (&byte, _))) = bad.next() else {
        return Ok(header);
    };
    let (mut last, mut wrong, mut zeros) = (first, 1, byte == 0);
    for (at, (&byte, _)) in bad {
        last = at;
        wrong += 1;
        zeros &= byte == 0;
    }
    Err(Fault::Body {
        header,
        first: first + HEADER_LEN,
        last: last + HEADER_LEN,
        wrong,
        zeros,
    })
}

fn generator(stream: u32, seq: u64) -> SplitMix64 {
    // Odd multiplier: neighbouring sequence numbers start far apart in the one cycle that
    // all SplitMix64 generators share, so no body is a shifted copy of its neighbour.
    SplitMix64::seed_from_u64(
        seq.wrapping_mul(0xd129_0d3b_3f6d_0b25)
            .wrapping_add(u64::from(stream).rotate_left(40)),
    )
}

fn u32_at(raw: &[u8], at: usize) -> u32 {
    raw[at..]
        .iter()
        .take(4)
        .rev()
        .fold(0, |acc, &b| acc << 8 | u32::from(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_verifies() {
        for len in [HEADER_LEN, HEADER_LEN + 1, 1400, 8192, 65000] {
            let message = build(7, u64::MAX - 3, len).unwrap();
            let header = verify(&message).unwrap();
            assert_eq!(
                header,
                Header {
                    stream: 7,
                    seq: u64::MAX - 3,
                    len: len as u32
                }
            );
        }
    }

    #[test]
    fn impossible_lengths_are_refused() {
        assert_eq!(build(0, 0, HEADER_LEN - 1), Err(TooShort(HEADER_LEN - 1)));
    }

    #[test]
    fn every_single_byte_matters() {
        let good = build(1, 2, 100).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(verify(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_lost_page_is_named() {
        let mut message = build(1, 2, 8192).unwrap();
        message[4000..8096].fill(0);
        let Err(Fault::Body {
            first,
            last,
            zeros,
            header,
            ..
        }) = verify(&message)
        else {
            panic!("not noticed");
        };
        assert!((4000..4010).contains(&first) && (8086..8096).contains(&last) && zeros);
        assert_eq!((header.stream, header.seq), (1, 2));
    }

    #[test]
    fn bodies_differ_between_messages() {
        let a = build(1, 2, 200).unwrap();
        for (stream, seq) in [(1, 3), (2, 2), (1, 1)] {
            let b = build(stream, seq, 200).unwrap();
            let same = a[HEADER_LEN..]
                .iter()
                .zip(&b[HEADER_LEN..])
                .filter(|(x, y)| x == y)
                .count();
            assert!(same < 16, "{same} of 176 bytes equal");
        }
    }

    #[test]
    fn truncation_and_trailing_bytes_are_noticed() {
        let message = build(1, 2, 100).unwrap();
        assert!(matches!(
            verify(&message[..99]),
            Err(Fault::Length { found: 99, .. })
        ));
        assert!(matches!(
            verify(&message[..10]),
            Err(Fault::Truncated { len: 10 })
        ));
        let longer = [message.as_slice(), &[0]].concat();
        assert!(matches!(
            verify(&longer),
            Err(Fault::Length { found: 101, .. })
        ));
        assert!(matches!(verify(&[0; 100]), Err(Fault::Magic { found: 0 })));
    }
}
