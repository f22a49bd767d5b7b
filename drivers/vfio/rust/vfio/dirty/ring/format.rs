// SPDX-License-Identifier: GPL-2.0

//! The format of an entry of a log ring.

use crate::vfio::dirty::run::Run;
use kernel::prelude::*;

/// Log2 of the unit in which entries count addresses.
pub(crate) const PAGE_SHIFT: u32 = 12;

/// A decoded entry of a log ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// The function wrote into these granules: the number of the first page of 4 KiB, and of the
    /// granules, which may be larger than a page.
    Write(Run),
    /// Marker of the SYNC with this cookie.
    Sync {
        /// Cookie of the command.
        cookie: u64,
    },
    /// The ring was full. The device logs no writes until a SYNC of everything.
    Lost,
}

/// The format of an entry, which is one word of eight bytes. The device writes it in one access.
///
/// The low [`Self::TAG_BITS`] bits of a word are its *tag*: the type of the entry, and a phase bit
/// that flips with each pass over the ring. Above the tag of a WRITE entry is a [`Run`]: 8 bits
/// with the number of granules less one, and the page number.
///
/// # Examples
///
/// The format of the tests, with the phase in bit 0 and the type in the three bits above it. From
/// `drivers/vfio/rust/vfio/dirty/ring/format.rs`:
///
/// ```ignore
/// impl Format for Plain {
///     const TAG_BITS: u32 = 4;
///     const COUNT_BITS: u32 = 31;
///
///     fn phase(word: u64) -> bool {
///         word & 1 != 0
///     }
///
///     fn write_tag(phase: bool) -> u64 {
///         1 << 1 | u64::from(phase)
///     }
///
///     fn decode(word: u64) -> Option<Entry> {
///         match word >> 1 & 7 {
///             1 => Some(Entry::Write(Run::from_word(word >> Self::TAG_BITS))),
///             2 => Some(Entry::Sync { cookie: word >> 12 }),
///             3 => Some(Entry::Lost),
///             _ => None,
///         }
///     }
///     // …
/// }
/// ```
pub(crate) trait Format: 'static {
    /// Number of bits of the tag.
    const TAG_BITS: u32;

    /// Number of bits of the count of posted entries, which wraps.
    const COUNT_BITS: u32;

    /// Returns the phase bit of an entry. It is 1 on the first pass over a ring of zeros.
    fn phase(word: u64) -> bool;

    /// Returns the tag of a WRITE entry.
    fn write_tag(phase: bool) -> u64;

    /// Decodes an entry that the device has written, according to its phase bit. Returns `None` for
    /// an undefined one, after which the log cannot be trusted.
    fn decode(word: u64) -> Option<Entry>;

    /// Encodes an entry as the device writes it on a pass with `phase`.
    #[cfg(any(CONFIG_KUNIT = "y", vfio_bench))]
    fn encode(entry: Entry, phase: bool) -> u64;
}

/// A format for tests: the phase is bit 0, and the types are 1 to 3.
#[cfg(CONFIG_KUNIT = "y")]
pub(super) struct Plain;

#[cfg(CONFIG_KUNIT = "y")]
impl Format for Plain {
    const TAG_BITS: u32 = 4;
    const COUNT_BITS: u32 = 31;

    fn phase(word: u64) -> bool {
        word & 1 != 0
    }

    fn write_tag(phase: bool) -> u64 {
        1 << 1 | u64::from(phase)
    }

    fn decode(word: u64) -> Option<Entry> {
        match word >> 1 & 7 {
            1 => Some(Entry::Write(Run::from_word(word >> Self::TAG_BITS))),
            2 => Some(Entry::Sync { cookie: word >> 12 }),
            3 => Some(Entry::Lost),
            _ => None,
        }
    }

    fn encode(entry: Entry, phase: bool) -> u64 {
        let rest = match entry {
            Entry::Write(run) => run.start() << 12 | run.more() << 4 | 1 << 1,
            Entry::Sync { cookie } => cookie << 12 | 2 << 1,
            Entry::Lost => 3 << 1,
        };
        rest | u64::from(phase)
    }
}
