// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A range of memory reported in pieces, whose ends need not be those of the log's granules.

use std::io;

use crate::{bitmap::DirtyBitmap, device::DirtyLog, range::IovaRange};

/// The pieces of `range`, `at_once` pages each but the last: the first page in the range, and the piece.
fn pieces(
    range: IovaRange,
    page_size: u64,
    at_once: u64,
) -> impl Iterator<Item = (u64, IovaRange)> {
    let step = at_once.max(1).saturating_mul(page_size);
    let mut at = 0;
    std::iter::from_fn(move || {
        let length = range.length.checked_sub(at).filter(|left| *left != 0)?;
        let piece = IovaRange {
            iova: range.iova + at,
            length: length.min(step),
        };
        let first = at / page_size;
        at += piece.length;
        Some((first, piece))
    })
}

/// The pages of `range` that the device wrote since they were last reported, by one REPORT for each
/// piece of `at_once` pages; and the bits that were set beyond the pieces.
///
/// # Errors
///
/// The kernel's errno; every page has to count as dirty then.
pub(super) fn report(
    log: &DirtyLog<'_>,
    range: IovaRange,
    page_size: u64,
    at_once: u64,
) -> io::Result<(DirtyBitmap, u32)> {
    let mut all = DirtyBitmap::new(range.length / page_size);
    let mut stray = 0;
    for (first, piece) in pieces(range, page_size, at_once) {
        let dirty = log.report(piece, page_size)?;
        stray += dirty.stray_bits();
        for page in dirty.runs().flatten() {
            all.set(first + page);
        }
    }
    Ok((all, stray))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    #[test]
    fn pieces_cover_all_once() {
        let range = IovaRange {
            iova: 1 << 32,
            length: 30 * PAGE,
        };
        let list = |pages| -> Vec<(u64, u64, u64)> {
            pieces(range, PAGE, pages)
                .map(|(first, piece)| (first, piece.iova - range.iova, piece.length / PAGE))
                .collect()
        };
        assert_eq!(
            list(13),
            [(0, 0, 13), (13, 13 * PAGE, 13), (26, 26 * PAGE, 4)]
        );
        assert_eq!(list(15), [(0, 0, 15), (15, 15 * PAGE, 15)]);
        assert_eq!(list(u64::MAX), [(0, 0, 30)]);
        assert_eq!(list(1).len(), 30);
        let empty = IovaRange { length: 0, ..range };
        assert_eq!(pieces(empty, PAGE, 1).count(), 0);
    }
}
