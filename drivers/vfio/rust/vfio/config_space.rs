// SPDX-License-Identifier: GPL-2.0

//! Accesses to configuration space of which the driver masks ranges.
//!
//! A VMM compares the configuration space of source and destination. Words that identify one
//! particular device would make a migration fail at its end, so the user reads them as zeros.
//! Writes to them are dropped, because the driver pairs the device with a management function by
//! these words.

use core::ops::Range;
use kernel::prelude::*;

/// A byte range of configuration space that is not empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ConfigRange {
    start: u32,
    end: u32,
}

impl ConfigRange {
    /// Makes a range of the bytes from `start` up to but not including `end`.
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

/// A part of an access whose bytes are all visible or all masked, by its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    /// Bytes that the device reads or writes.
    Visible(usize),
    /// Bytes that read as zeros and are not written.
    Masked(usize),
}

/// Returns the first piece of an access of `len` bytes at `pos`, or `None` if `len` is zero.
pub(super) fn next_piece(masked: &[ConfigRange], pos: u64, len: usize) -> Option<Piece> {
    if len == 0 {
        return None;
    }
    let clamp = |bytes: u64| len.min(usize::try_from(bytes).unwrap_or(usize::MAX));
    let mut visible_until = u64::MAX;
    for range in masked {
        let (start, end) = (u64::from(range.start), u64::from(range.end));
        if (start..end).contains(&pos) {
            return Some(Piece::Masked(clamp(end - pos)));
        }
        if start > pos {
            visible_until = visible_until.min(start);
        }
    }
    Some(Piece::Visible(clamp(visible_until - pos)))
}

/// Reads or writes `len` bytes at `pos` piece by piece. `access` gets the offset of the piece from
/// `pos` and the piece, and returns what read(2) and write(2) return.
///
/// Returns what vfio-pci-core returns for configuration space: an error even if earlier pieces were
/// done. An access that crosses the end is such an error (`EFAULT`).
pub(super) fn in_pieces(
    masked: &[ConfigRange],
    pos: u64,
    len: usize,
    mut access: impl FnMut(usize, Piece) -> isize,
) -> isize {
    let mut done = 0usize;
    // OVERFLOW: `done <= len`, and `pos + len` is a range of a file.
    while let Some(piece) = next_piece(masked, pos + done as u64, len - done) {
        let (Piece::Visible(wanted) | Piece::Masked(wanted)) = piece;
        let got = access(done, piece);
        match usize::try_from(got) {
            Ok(bytes) if bytes == wanted => done += bytes,
            // CAST: The VFS limits a transfer to `MAX_RW_COUNT`, which fits.
            Ok(bytes) => return (done + bytes.min(wanted)) as isize,
            Err(_) => return got,
        }
    }
    done as isize
}

#[kunit_tests(vfio_config_space)]
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
        let masked = [ConfigRange::new(4..8)?, ConfigRange::new(10..11)?];
        for start in 0..16u64 {
            for len in 0..16usize {
                let (mut pos, mut left) = (start, len);
                while let Some(piece) = next_piece(&masked, pos, left) {
                    let (bytes, is_masked) = match piece {
                        Piece::Visible(n) => (n, false),
                        Piece::Masked(n) => (n, true),
                    };
                    assert!(bytes > 0 && bytes <= left);
                    for at in pos..pos + bytes as u64 {
                        let expected = (4..8).contains(&at) || at == 10;
                        assert_eq!(is_masked, expected);
                    }
                    pos += bytes as u64;
                    left -= bytes;
                }
                assert_eq!(pos, start + len as u64);
            }
        }
        Ok(())
    }

    /// Of a write that covers masked and visible words, only the visible words reach the device.
    #[test]
    fn l4_hidden_words_are_not_written() -> Result {
        let masked = [ConfigRange::new(4..8)?];
        let mut space = [0u8; 12];
        let written = in_pieces(&masked, 2, 8, |at, piece| match piece {
            Piece::Visible(len) => {
                space[2 + at..2 + at + len].fill(0xff);
                len as isize
            }
            Piece::Masked(len) => len as isize,
        });
        assert_eq!(written, 8);
        assert_eq!(space, [0, 0, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0, 0]);
        Ok(())
    }

    /// The core fails a read that crosses the end with `EFAULT` as a whole.
    #[test]
    fn l9_a_read_across_the_end_is_an_error() -> Result {
        let masked = [ConfigRange::new(4..8)?];
        let efault = EFAULT.to_errno() as isize;
        let mut touched = 0;
        let result = in_pieces(&masked, 0, 32, |at, piece| match piece {
            Piece::Masked(len) => len as isize,
            Piece::Visible(len) => {
                touched += 1;
                if at + len > 16 {
                    efault
                } else {
                    len as isize
                }
            }
        });
        assert_eq!((result, touched), (efault, 2));
        Ok(())
    }

    #[test]
    fn short_and_whole_reads_count_what_was_read() -> Result {
        let masked = [ConfigRange::new(4..8)?];
        let all = |_, piece| match piece {
            Piece::Masked(len) | Piece::Visible(len) => len as isize,
        };
        assert_eq!(in_pieces(&masked, 0, 16, all), 16);
        assert_eq!(in_pieces(&masked, 0, 0, all), 0);
        let short = |at, piece| match piece {
            Piece::Visible(_) if at == 8 => 3,
            Piece::Masked(len) | Piece::Visible(len) => len as isize,
        };
        assert_eq!(in_pieces(&masked, 0, 16, short), 11);
        Ok(())
    }

    #[test]
    fn nothing_hidden() {
        assert_eq!(next_piece(&[], 0, 4096), Some(Piece::Visible(4096)));
        assert_eq!(next_piece(&[], 17, 0), None);
    }
}
