// SPDX-License-Identifier: GPL-2.0

//! The status page: a block of host memory that the device keeps up to date ("Status page" in
//! `dlr-contract.rst`).

use crate::proto::dlr;
use core::mem::offset_of;
use kernel::{
    prelude::*,
    sync::barrier::{
        dma_mb,
        Read, //
    },
};

/// Size of a status page in bytes.
pub(crate) const SIZE: usize = dlr::DLR_STATUS_PAGE_SIZE as usize;
/// Size of a status page in words of eight bytes.
pub(crate) const WORDS: usize = SIZE / 8;
/// Number of attempts at a consistent read of the page before [`StatusPage::snapshot`] gives up.
const MAX_TRIES: usize = 64;

static_assert!(size_of::<dlr::dlr_status_page>() == SIZE);
/// Indices of the words that are read. The words after them are reserved.
const SEQ: usize = 0;
const INITIAL: usize = offset_of!(dlr::dlr_status_page, initial_bytes) / 8;
const DIRTY: usize = offset_of!(dlr::dlr_status_page, dirty_bytes) / 8;
const TOTAL: usize = offset_of!(dlr::dlr_status_page, total_bytes) / 8;
const COUNTS: usize = offset_of!(dlr::dlr_status_page, reinit_count) / 8;

// Both words of 32 bits that share one of 64 are its halves, in this order.
static_assert!(offset_of!(dlr::dlr_status_page, seq) == SEQ * 8);
static_assert!(offset_of!(dlr::dlr_status_page, health) == SEQ * 8 + 4);
static_assert!(offset_of!(dlr::dlr_status_page, reinit_count) == COUNTS * 8);
static_assert!(offset_of!(dlr::dlr_status_page, log_lost_count) == COUNTS * 8 + 4);

/// A consistent copy of a status page (`struct dlr_status_page`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct StatusPage {
    /// Bytes of the initial image that the device has yet to deliver.
    pub(crate) initial_bytes: u64,
    /// Bytes of later changes that the device has yet to deliver.
    pub(crate) dirty_bytes: u64,
    /// Estimate of the bytes that SAVE_READ would deliver if the function stopped now.
    pub(crate) total_bytes: u64,
    /// Number of times that the device has restarted the initial image of a session.
    pub(crate) reinit_count: u32,
    /// Number of LOST entries since the function was created.
    pub(crate) log_lost_count: u32,
    /// The log has failed (`DLR_HEALTH_LOG_FAILED`).
    pub(crate) log_failed: bool,
    /// The save or load engine needs a reset.
    pub(crate) state_failed: bool,
}

impl StatusPage {
    /// Reads a page. `word(i)` loads the `i`th word of eight bytes in one access.
    ///
    /// Returns `None` if the device was updating the page on every attempt. Never sleeps.
    pub(crate) fn snapshot(mut word: impl FnMut(usize) -> u64) -> Option<Self> {
        for _ in 0..MAX_TRIES {
            let first = word(SEQ);
            if first & 1 != 0 {
                core::hint::spin_loop();
                continue;
            }
            // ORDERING: Loads the contents after the sequence number. The device writes an odd
            // number, the contents, and an even number.
            dma_mb(Read);
            let page = Self::decode(
                first,
                [word(INITIAL), word(DIRTY), word(TOTAL)],
                word(COUNTS),
            );
            // ORDERING: Loads the contents before the second load of the sequence number.
            dma_mb(Read);
            if word(SEQ) as u32 == first as u32 {
                return Some(page);
            }
        }
        None
    }

    /// Decodes the words `SEQ`, `INITIAL` to `TOTAL`, and `COUNTS`.
    fn decode(seq: u64, bytes: [u64; 3], counts: u64) -> Self {
        let [initial_bytes, dirty_bytes, total_bytes] = bytes;
        let health = high(seq);
        Self {
            initial_bytes,
            dirty_bytes,
            total_bytes,
            // CAST: Only the low half is wanted.
            reinit_count: counts as u32,
            log_lost_count: high(counts),
            log_failed: health & dlr::DLR_HEALTH_LOG_FAILED != 0,
            state_failed: health & dlr::DLR_HEALTH_STATE_FAILED != 0,
        }
    }
}

/// Returns the half of a word that comes second in memory.
fn high(word: u64) -> u32 {
    // CAST: 32 bits are left.
    (word >> 32) as u32
}

#[kunit_tests(dlr_proto_status_page)]
mod tests {
    use super::*;

    fn page(seq: u32) -> [u64; WORDS] {
        zerocopy::transmute!(dlr::dlr_status_page {
            seq,
            health: dlr::DLR_HEALTH_STATE_FAILED,
            initial_bytes: 1,
            dirty_bytes: 2,
            total_bytes: 3,
            reinit_count: 4,
            log_lost_count: 5,
            reserved: [0; 3],
        })
    }

    #[test]
    fn quiet_page() {
        let words = page(6);
        let want = StatusPage {
            initial_bytes: 1,
            dirty_bytes: 2,
            total_bytes: 3,
            reinit_count: 4,
            log_lost_count: 5,
            log_failed: false,
            state_failed: true,
        };
        assert_eq!(StatusPage::snapshot(|i| words[i]), Some(want));
    }

    #[test]
    fn update_in_between() {
        // The first pass sees the sequence number change, the second does not.
        let mut reads = 0;
        let got = StatusPage::snapshot(|i| {
            reads += 1;
            let mut words = page(if reads > 4 { 8 } else { 6 });
            words[3] = reads;
            words[i]
        });
        assert!(got.is_some_and(|p| p.total_bytes > 8));
    }

    /// Each idle call of a VMM reads the page, so it loads no word that it does not need.
    #[test]
    fn a_quiet_page_takes_six_loads() {
        let mut loads = 0;
        assert!(StatusPage::snapshot(|i| {
            loads += 1;
            page(6)[i]
        })
        .is_some());
        assert_eq!(loads, 6);
    }

    #[test]
    fn never_quiet() {
        let mut seq = 0;
        assert_eq!(
            StatusPage::snapshot(|i| {
                seq += 2;
                page(seq)[i]
            }),
            None
        );
        assert_eq!(StatusPage::snapshot(|i| page(7)[i]), None);
    }
}
