// SPDX-License-Identifier: GPL-2.0

//! Reading configuration space with parts of it hidden.
//!
//! VMMs compare configuration space across hosts. Words that identify one particular device would fail
//! a migration at its very end, so the user reads zeros in their place.

use core::ops::Range;
use kernel::prelude::*;

/// A byte range of configuration space, not empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ConfigRange {
    start: u32,
    end: u32,
}

impl ConfigRange {
    /// Bytes `start` up to but not including `end`.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the range is empty.
    pub(crate) fn new(range: Range<u32>) -> Result<Self> {
        if range.is_empty() {
            return Err(EINVAL);
        }
        Ok(Self {
            start: range.start,
            end: range.end,
        })
    }
}

/// What comes next in a read: this many bytes of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    /// From the device.
    Visible(usize),
    /// Zeros.
    Hidden(usize),
}

/// The first piece of the read of `len` bytes at `pos`. `None` when `len` is zero.
pub(super) fn next_piece(hidden: &[ConfigRange], pos: u64, len: usize) -> Option<Piece> {
    if len == 0 {
        return None;
    }
    let clamp = |bytes: u64| len.min(usize::try_from(bytes).unwrap_or(usize::MAX));
    let mut visible_until = u64::MAX;
    for range in hidden {
        let (start, end) = (u64::from(range.start), u64::from(range.end));
        if (start..end).contains(&pos) {
            return Some(Piece::Hidden(clamp(end - pos)));
        }
        if start > pos {
            visible_until = visible_until.min(start);
        }
    }
    Some(Piece::Visible(clamp(visible_until - pos)))
}

#[kunit_tests(dlr_vfio_config_space)]
mod tests {
    use super::*;

    #[test]
    fn empty_range_is_refused() {
        assert!(ConfigRange::new(4..4).is_err());
        let (high, low) = (8, 4);
        assert!(ConfigRange::new(high..low).is_err());
    }

    #[test]
    fn pieces_cover_every_byte_once() -> Result {
        let hidden = [ConfigRange::new(4..8)?, ConfigRange::new(10..11)?];
        for start in 0..16u64 {
            for len in 0..16usize {
                let (mut pos, mut left) = (start, len);
                while let Some(piece) = next_piece(&hidden, pos, left) {
                    let (bytes, is_hidden) = match piece {
                        Piece::Visible(n) => (n, false),
                        Piece::Hidden(n) => (n, true),
                    };
                    assert!(bytes > 0 && bytes <= left);
                    for at in pos..pos + bytes as u64 {
                        let expected = (4..8).contains(&at) || at == 10;
                        assert_eq!(is_hidden, expected);
                    }
                    pos += bytes as u64;
                    left -= bytes;
                }
                assert_eq!(pos, start + len as u64);
            }
        }
        Ok(())
    }

    #[test]
    fn nothing_hidden() {
        assert_eq!(next_piece(&[], 0, 4096), Some(Piece::Visible(4096)));
        assert_eq!(next_piece(&[], 17, 0), None);
    }
}
