// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Pages that are in the filter, looked at without the lock of the log. No I/O.
//!
//! A frame costs several writes, and all but that of its data go to the same few pages: headers,
//! and the used ring. Each of them would take the lock only to find its page in the filter.

use std::sync::atomic::{AtomicU64, Ordering};

/// Number of pages that are remembered.
const SLOTS: usize = 16;
/// log2 of the bytes of a page: the smallest granule.
const PAGE_SHIFT: u32 = 12;
/// In a slot: no page. Page numbers are smaller.
const NONE: u64 = u64::MAX;

/// A part of the filter of a log: whatever page is here, its granule is there.
///
/// [`Self::remember`] and [`Self::clear`] are called with the lock of the log held, [`Self::has`]
/// with the function's DMA gate held (see `DirtySink`). A SYNC holds both when it clears the filter.
/// So a write is announced either before the SYNC, with its data visible, or after it, and then its
/// page is not here.
#[derive(Debug)]
pub(super) struct Recent([AtomicU64; SLOTS]);

impl Recent {
    /// No pages.
    pub(super) fn new() -> Self {
        Self([const { AtomicU64::new(NONE) }; SLOTS])
    }

    /// Whether all of `[iova, iova + len)`, which is not empty, lies in one page that is here.
    pub(super) fn has(&self, iova: u64, len: u64) -> bool {
        page(iova, len).is_some_and(|page| self.slot(page).load(Ordering::Acquire) == page)
    }

    /// The granules of `[iova, iova + len)`, which is not empty, are in the filter. A range of
    /// several pages is not remembered.
    pub(super) fn remember(&self, iova: u64, len: u64) {
        if let Some(page) = page(iova, len) {
            self.slot(page).store(page, Ordering::Release);
        }
    }

    /// Granules leave the filter, or nothing is logged any more.
    pub(super) fn clear(&self) {
        for slot in &self.0 {
            slot.store(NONE, Ordering::Release);
        }
    }

    fn slot(&self, page: u64) -> &AtomicU64 {
        &self.0[page as usize % SLOTS]
    }
}

/// The page in which all of the range lies.
fn page(iova: u64, len: u64) -> Option<u64> {
    let (first, last) = (iova, iova.checked_add(len - 1)?);
    (first >> PAGE_SHIFT == last >> PAGE_SHIFT).then_some(first >> PAGE_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_pages_that_were_remembered_until_it_is_cleared() {
        let recent = Recent::new();
        assert!(!recent.has(0, 1));
        recent.remember(0x1ffc, 4);
        assert!(recent.has(0x1000, 4096) && recent.has(0x1fff, 1));
        assert!(!recent.has(0x1fff, 2), "over the end of the page");
        assert!(!recent.has(0xfff, 1) && !recent.has(0x2000, 1));
        recent.remember(0x2fff, 2);
        assert!(!recent.has(0x2fff, 1) && !recent.has(0x3000, 1));
        // The same slot: the newer one stays.
        recent.remember(0x1_1000, 1);
        assert!(recent.has(0x1_1000, 1) && !recent.has(0x1000, 1));
        recent.clear();
        assert!(!recent.has(0x1_1000, 1));
        recent.remember(u64::MAX, 1);
        assert!(recent.has(u64::MAX, 1) && !recent.has(u64::MAX, 2));
    }
}
