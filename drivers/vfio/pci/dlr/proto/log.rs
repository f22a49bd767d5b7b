// SPDX-License-Identifier: GPL-2.0

//! Entries of a dirty-log ring ("Log ring" in `include/uapi/linux/dlr.h`).

use super::PAGE_SHIFT;
use crate::proto::dlr;
use kernel::prelude::*;

const TYPE_MASK: u64 = (1 << dlr::DLR_LOG_ENTRY_TYPE_BITS) - 1;
const RUN_MASK: u64 = (1 << dlr::DLR_LOG_ENTRY_RUN_BITS) - 1;

static_assert!(RUN_MASK + 1 == dlr::DLR_LOG_ENTRY_MAX_RUN as u64);
static_assert!(dlr::DLR_LOG_COOKIE_BITS == 64 - dlr::DLR_LOG_ENTRY_ADDR_SHIFT);

/// A decoded entry of a log ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// The function wrote into these granules.
    Write {
        /// First byte of the first granule.
        iova: u64,
        /// Number of granules, 1 to 256.
        granules: u32,
    },
    /// Marker of the SYNC with this cookie.
    Sync {
        /// Cookie of the command.
        cookie: u64,
    },
    /// The ring was full. The device logs no writes until a SYNC with `DLR_LOG_SYNC_F_ALL`.
    Lost,
}

impl Entry {
    /// Decodes an entry that the device has written, according to its phase bit.
    ///
    /// Returns `None` for an entry that the contract does not define. After such an entry the log
    /// cannot be trusted ("Dirty log", rule 10, in `dlr-contract.rst`).
    #[inline]
    pub(crate) fn decode(word: u64) -> Option<Self> {
        let kind = ((word >> dlr::DLR_LOG_ENTRY_TYPE_SHIFT) & TYPE_MASK) as u32;
        let run = (word >> dlr::DLR_LOG_ENTRY_RUN_SHIFT) & RUN_MASK;
        let high = word >> dlr::DLR_LOG_ENTRY_ADDR_SHIFT;
        match kind {
            dlr::DLR_LOG_WRITE => Some(Self::Write {
                iova: high << PAGE_SHIFT,
                granules: run as u32 + 1,
            }),
            dlr::DLR_LOG_SYNC if run == 0 => Some(Self::Sync { cookie: high }),
            dlr::DLR_LOG_LOST if run == 0 && high == 0 => Some(Self::Lost),
            _ => None,
        }
    }

    /// Encodes the entry as a device writes it on a pass with `phase`.
    #[cfg(any(CONFIG_KUNIT = "y", dlr_bench))]
    pub(crate) fn encode(self, phase: bool) -> u64 {
        let (kind, run, high) = match self {
            Self::Write { iova, granules } => (
                dlr::DLR_LOG_WRITE,
                u64::from(granules - 1),
                iova >> PAGE_SHIFT,
            ),
            Self::Sync { cookie } => (dlr::DLR_LOG_SYNC, 0, cookie),
            Self::Lost => (dlr::DLR_LOG_LOST, 0, 0),
        };
        high << dlr::DLR_LOG_ENTRY_ADDR_SHIFT
            | run << dlr::DLR_LOG_ENTRY_RUN_SHIFT
            | u64::from(kind) << dlr::DLR_LOG_ENTRY_TYPE_SHIFT
            | u64::from(phase) << dlr::DLR_LOG_ENTRY_PHASE_SHIFT
    }
}

/// Mask of the type and the phase of an entry.
pub(crate) const TAG_MASK: u64 =
    TYPE_MASK << dlr::DLR_LOG_ENTRY_TYPE_SHIFT | 1 << dlr::DLR_LOG_ENTRY_PHASE_SHIFT;

/// Returns type and phase of a WRITE entry.
#[inline]
pub(crate) const fn write_tag(phase: bool) -> u64 {
    (dlr::DLR_LOG_WRITE as u64) << dlr::DLR_LOG_ENTRY_TYPE_SHIFT
        | (phase as u64) << dlr::DLR_LOG_ENTRY_PHASE_SHIFT
}

/// Position of the payload of a WRITE entry: 8 bits with the number of granules less one, and the
/// page number above them.
pub(crate) const WRITE_SHIFT: u32 = dlr::DLR_LOG_ENTRY_RUN_SHIFT;

static_assert!(TAG_MASK == (1 << WRITE_SHIFT) - 1);
static_assert!(dlr::DLR_LOG_ENTRY_RUN_BITS == 8);
static_assert!(dlr::DLR_LOG_ENTRY_ADDR_SHIFT == WRITE_SHIFT + 8);

/// Returns the phase bit of an entry.
#[inline]
pub(crate) const fn phase(word: u64) -> bool {
    (word >> dlr::DLR_LOG_ENTRY_PHASE_SHIFT) & 1 != 0
}

#[kunit_tests(dlr_proto_log)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for entry in [
            Entry::Write {
                iova: 0x1000,
                granules: 1,
            },
            Entry::Write {
                iova: 0xffff_ffff_ffff_f000,
                granules: 256,
            },
            Entry::Sync { cookie: 0 },
            Entry::Sync {
                cookie: (1 << 52) - 1,
            },
            Entry::Lost,
        ] {
            for p in [false, true] {
                let word = entry.encode(p);
                assert_eq!(phase(word), p);
                assert_eq!(Entry::decode(word), Some(entry));
            }
        }
    }

    #[test]
    fn known_words() {
        assert_eq!(
            Entry::decode(0x0000_0000_0000_5023),
            Some(Entry::Write {
                iova: 0x5000,
                granules: 3
            })
        );
        assert_eq!(
            Entry::decode(0x0000_0000_0000_7005),
            Some(Entry::Sync { cookie: 7 })
        );
        assert_eq!(Entry::decode(0x7), Some(Entry::Lost));
    }

    #[test]
    fn garbage_is_refused() {
        assert_eq!(Entry::decode(0), None);
        assert_eq!(Entry::decode(1), None);
        assert_eq!(Entry::decode(u64::MAX), None);
        // A SYNC with a run, a LOST with a run, and a LOST with an address.
        assert_eq!(Entry::decode(0x7015), None);
        assert_eq!(Entry::decode(0x17), None);
        assert_eq!(Entry::decode(0x1007), None);
        for kind in 4..8u64 {
            assert_eq!(Entry::decode(kind << 1), None);
        }
    }
}
