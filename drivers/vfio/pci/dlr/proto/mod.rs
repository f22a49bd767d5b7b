// SPDX-License-Identifier: GPL-2.0

//! Layouts and constants of the DLR hardware contract. This module does no I/O and takes no locks.
//!
//! All numbers come from the header through [`dlr`]. The normative text is
//! `Documentation/hardware/dlr-contract.rst`.
//!
//! C header: [`include/uapi/linux/dlr.h`](srctree/include/uapi/linux/dlr.h)
//!
//! | word | meaning |
//! | --- | --- |
//! | MF, DF | management function; data function, the one a guest gets |
//! | granule | unit of dirty logging, a power of two of at least 4 KiB |
//! | entry | eight bytes in a log ring |
//! | section | one part of a device state stream |
//!
//! Fields in shared memory are little-endian. The driver builds for little-endian machines only, so
//! it uses them without conversion.

#![forbid(unsafe_code)]

use kernel::prelude::*;

pub(crate) mod admin;
pub(crate) mod dlr;
pub(crate) mod dvsec;
pub(crate) mod identify;
pub(crate) mod log;
pub(crate) mod regs;
pub(crate) mod section;
pub(crate) mod status_page;

pub(crate) use identify::{
    FnInfo,
    NicInfo, //
};
pub(crate) use status_page::StatusPage;

static_assert!(cfg!(target_endian = "little"));

/// Log2 of the unit in which log entries count addresses.
pub(crate) const PAGE_SHIFT: u32 = dlr::DLR_LOG_ENTRY_ADDR_SHIFT;

/// PCI vendor of the reference NIC.
pub(crate) const PCI_VENDOR_ID: u16 = dlr::DLR_PCI_VENDOR_ID as u16;
/// PCI device id of its management function.
pub(crate) const PCI_DEVICE_ID_MF: u16 = dlr::DLR_PCI_DEVICE_ID_MF as u16;
/// Maximum number of data functions of one NIC.
pub(crate) const MAX_FUNCTIONS: u32 = dlr::DLR_MAX_FUNCTIONS;

/// Orders (log2 of the number of entries) that the contract allows for a log ring.
pub(crate) const LOG_RING_ORDERS: core::ops::RangeInclusive<u32> =
    dlr::DLR_LOG_RING_MIN_ORDER..=dlr::DLR_LOG_RING_MAX_ORDER;

/// Run state of a data function (`enum dlr_fn_state`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FnState {
    /// The function starts DMA and raises interrupts.
    Running,
    /// The function starts no DMA and raises no interrupt. It still accepts accesses by others.
    RunningP2p,
    /// In addition, the internal state of the function does not change: it ignores register writes
    /// and answers reads.
    Stopped,
}

impl FnState {
    /// Returns the value of the state in `struct dlr_level_params`.
    pub(crate) const fn raw(self) -> u32 {
        match self {
            Self::Running => dlr::DLR_FN_RUNNING,
            Self::RunningP2p => dlr::DLR_FN_RUNNING_P2P,
            Self::Stopped => dlr::DLR_FN_STOPPED,
        }
    }
}

/// A range of a function's IOVA space (`struct dlr_range`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    /// IOVA of the first byte.
    pub(crate) iova: u64,
    /// Length in bytes.
    pub(crate) length: u64,
}

impl Range {
    /// Returns whether the range is not empty, consists of whole granules and ends at or below
    /// `1 << iova_bits`.
    pub(crate) fn is_valid(self, page_shift: u32, iova_bits: u32) -> bool {
        let Some(granule) = 1u64.checked_shl(page_shift) else {
            return false;
        };
        let mask = granule.wrapping_sub(1);
        let Some(last) = self.iova.checked_add(self.length.wrapping_sub(1)) else {
            return false;
        };
        self.length != 0
            && (self.iova | self.length) & mask == 0
            && last.checked_shr(iova_bits).unwrap_or(0) == 0
    }

    /// Returns the range as the buffers of LOG_START and LOG_ADD hold it.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        zerocopy::transmute!(dlr::dlr_range {
            iova: self.iova,
            length: self.length,
        })
    }
}

/// Scope of a LOG_SYNC command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SyncScope {
    /// All tracked ranges. The SYNC also re-arms the log after LOST.
    All,
    /// One range.
    Range(Range),
}

/// Number of bits of the cookie of a LOG_SYNC command.
pub(crate) const COOKIE_BITS: u32 = dlr::DLR_LOG_COOKIE_BITS;

#[kunit_tests(dlr_proto)]
mod tests {
    use super::*;

    fn range(iova: u64, length: u64) -> Range {
        Range { iova, length }
    }

    #[test]
    fn ranges_are_checked() {
        assert!(range(0, 0x1000).is_valid(12, 48));
        assert!(range(0x1000, 0xf000).is_valid(12, 16));
        assert!(!range(0x1000, 0x10000).is_valid(12, 16));
        assert!(!range(0, 0).is_valid(12, 48));
        assert!(!range(0, 0x800).is_valid(12, 48));
        assert!(!range(0x1000, 0x10000).is_valid(16, 48));
        assert!(range(u64::MAX - 0xfff, 0x1000).is_valid(12, 64));
        assert!(!range(u64::MAX - 0xfff, 0x2000).is_valid(12, 64));
        assert!(!range(0, 0x1000).is_valid(64, 64));
    }

    #[test]
    fn range_layout() {
        let bytes = range(0x0102_0304_0506_0708, 0x1000).to_bytes();
        assert_eq!(bytes[0], 8);
        assert_eq!(bytes[7], 1);
        assert_eq!(bytes[9], 0x10);
    }
}
