// SPDX-License-Identifier: GPL-2.0

//! Entries of a dirty-log ring ("Log ring" in `include/uapi/linux/dlr.h`).
//!
//! [`bitfield!`] takes literal positions. They are compared with those of the header below.

use crate::{
    proto::dlr,
    vfio::dirty::{
        ring::{
            format::{
                self,
                Entry,
                Format, //
            },
            CHUNK, //
        },
        run::Run,
    },
};
use kernel::{
    bitfield,
    prelude::*, //
};

bitfield! {
    /// An entry, as the device writes it.
    pub(crate) struct LogWord(u64) {
        /// WRITE: number of the first page. SYNC: the cookie. LOST: 0.
        63:12 high;
        /// WRITE: number of granules less one. Otherwise 0.
        11:4 run;
        /// `DLR_LOG_WRITE`, `DLR_LOG_SYNC` or `DLR_LOG_LOST`.
        3:1 kind;
        /// Flips with each pass over the ring.
        0:0 phase => bool;
    }
}

static_assert!(LogWord::PHASE_SHIFT == dlr::DLR_LOG_ENTRY_PHASE_SHIFT);
static_assert!(LogWord::KIND_SHIFT == dlr::DLR_LOG_ENTRY_TYPE_SHIFT);
static_assert!(
    LogWord::KIND_MASK >> LogWord::KIND_SHIFT == (1 << dlr::DLR_LOG_ENTRY_TYPE_BITS) - 1
);
static_assert!(LogWord::RUN_SHIFT == dlr::DLR_LOG_ENTRY_RUN_SHIFT);
static_assert!(LogWord::RUN_MASK >> LogWord::RUN_SHIFT == dlr::DLR_LOG_ENTRY_MAX_RUN as u64 - 1);
static_assert!(dlr::DLR_LOG_ENTRY_RUN_BITS == 8);
static_assert!(LogWord::HIGH_SHIFT == dlr::DLR_LOG_ENTRY_ADDR_SHIFT);
static_assert!(LogWord::HIGH_SHIFT == format::PAGE_SHIFT);
static_assert!(dlr::DLR_LOG_COOKIE_BITS == 64 - dlr::DLR_LOG_ENTRY_ADDR_SHIFT);
// `Format` requires these positions of a WRITE entry.
static_assert!(LogWord::KIND_MASK | LogWord::PHASE_MASK == (1 << LogWord::RUN_SHIFT) - 1);
static_assert!(LogWord::HIGH_SHIFT == LogWord::RUN_SHIFT + 8);
static_assert!(1 << *crate::proto::LOG_RING_ORDERS.start() == CHUNK);
static_assert!(dlr::DLR_LOG_POSTED_COUNT_MASK == u32::MAX >> (32 - LogWord::COUNT_BITS));

impl Format for LogWord {
    const TAG_BITS: u32 = LogWord::RUN_SHIFT;
    const COUNT_BITS: u32 = 31;

    #[inline]
    fn phase(word: u64) -> bool {
        Self::from_raw(word).phase()
    }

    #[inline]
    fn write_tag(phase: bool) -> u64 {
        Self::zeroed()
            .with_const_kind::<{ dlr::DLR_LOG_WRITE as u64 }>()
            .with_phase(phase)
            .into_raw()
    }

    /// Undefined entries are those of "Dirty log", rule 10, in `dlr-contract.rst`.
    #[inline]
    fn decode(word: u64) -> Option<Entry> {
        let entry = Self::from_raw(word);
        let (run, high) = (entry.run().get(), entry.high().get());
        match entry.kind().get() as u32 {
            dlr::DLR_LOG_WRITE => Some(Entry::Write(Run::from_word(word >> Self::TAG_BITS))),
            dlr::DLR_LOG_SYNC if run == 0 => Some(Entry::Sync { cookie: high }),
            dlr::DLR_LOG_LOST if run == 0 && high == 0 => Some(Entry::Lost),
            _ => None,
        }
    }

    #[cfg(any(CONFIG_KUNIT = "y", vfio_bench))]
    fn encode(entry: Entry, phase: bool) -> u64 {
        let (kind, above) = match entry {
            Entry::Write(run) => (dlr::DLR_LOG_WRITE, run.start() << 8 | run.more()),
            Entry::Sync { cookie } => (dlr::DLR_LOG_SYNC, cookie << 8),
            Entry::Lost => (dlr::DLR_LOG_LOST, 0),
        };
        above << Self::TAG_BITS | u64::from(kind) << Self::KIND_SHIFT | u64::from(phase)
    }
}

#[kunit_tests(dlr_proto_log)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for entry in [
            Entry::Write(Run::from_word(1 << 8)),
            Entry::Write(Run::from_word(u64::MAX >> 4)),
            Entry::Sync { cookie: 0 },
            Entry::Sync {
                cookie: (1 << 52) - 1,
            },
            Entry::Lost,
        ] {
            for p in [false, true] {
                let word = LogWord::encode(entry, p);
                assert_eq!(<LogWord as Format>::phase(word), p);
                assert_eq!(LogWord::decode(word), Some(entry));
            }
        }
    }

    #[test]
    fn known_words() {
        assert_eq!(
            LogWord::decode(0x0000_0000_0000_5023),
            Some(Entry::Write(Run::from_word(5 << 8 | 2)))
        );
        assert_eq!(
            LogWord::decode(0x0000_0000_0000_7005),
            Some(Entry::Sync { cookie: 7 })
        );
        assert_eq!(LogWord::decode(0x7), Some(Entry::Lost));
    }

    #[test]
    fn garbage_is_refused() {
        assert_eq!(LogWord::decode(0), None);
        assert_eq!(LogWord::decode(1), None);
        assert_eq!(LogWord::decode(u64::MAX), None);
        // A SYNC with a run, a LOST with a run, and a LOST with an address.
        assert_eq!(LogWord::decode(0x7015), None);
        assert_eq!(LogWord::decode(0x17), None);
        assert_eq!(LogWord::decode(0x1007), None);
        for kind in 4..8u64 {
            assert_eq!(LogWord::decode(kind << 1), None);
        }
    }
}
