// SPDX-License-Identifier: GPL-2.0

//! The limits of a log: the address bits of the device and the memory of its bitmap.

use super::{
    ranges::Tracked,
    span::MAX_GRANULE, //
};
use kernel::prelude::*;

/// Bytes that the bitmap may take for intervals that are dirty as a whole, however little is
/// tracked.
const MEMORY_FLOOR: usize = 1 << 20;
/// Bytes that the bitmap may take for each range: the chunks at both ends, and the nodes above
/// them.
const MEMORY_OF_RANGE: u64 = 16 << 10;

/// Returns the number after the last granule that a device with `iova_bits` can track.
///
/// Of a space of 64 bits the last granule is left out and so is always dirty: otherwise the length
/// of a range in bytes or its end could be 2^64. START cannot ask for this granule, as its ranges
/// end below 2^64.
pub(crate) fn top(iova_bits: u32, shift: u32) -> u64 {
    let Some(bits) = iova_bits.min(64).checked_sub(shift) else {
        return 0;
    };
    let last = if iova_bits >= 64 { 1 } else { 0 };
    1u64.checked_shl(bits)
        .map_or(MAX_GRANULE, |granules| granules.min(MAX_GRANULE))
        .saturating_sub(last)
}

/// Returns the bytes that the bitmap of a log may take: `mib` in MiB. If `mib` is 0, it is 1.2 bits
/// for each tracked granule, of which the chunks and nodes of a full bitmap need 1.016, and a
/// constant for each range and for intervals.
pub(crate) fn memory_limit(mib: u32, tracked: &Tracked) -> usize {
    let bytes = match mib {
        0 => {
            let granules = tracked
                .iter()
                .fold(0u64, |sum, span| sum.saturating_add(span.len()));
            // 1.2 / 8 = 3 / 20.
            let ranges = MEMORY_OF_RANGE.saturating_mul(tracked.len() as u64);
            granules / 20 * 3 + ranges + MEMORY_FLOOR as u64
        }
        mib => u64::from(mib) << 20,
    };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[kunit_tests(vfio_dirty_limits)]
mod tests {
    use super::super::span::Span;
    use super::*;

    #[test]
    fn top_of_the_address_space() {
        assert_eq!(top(48, 12), 1 << 36);
        assert_eq!(top(48, 16), 1 << 32);
        assert_eq!(top(12, 12), 1);
        assert_eq!(top(11, 12), 0);
        assert_eq!(top(63, 12), 1 << 51);
        // A range with the last granule would end at 2^64.
        assert_eq!(top(64, 12), MAX_GRANULE - 1);
        assert_eq!(top(64, 63), 1);
        assert_eq!(top(u32::MAX, 12), MAX_GRANULE - 1);
    }

    #[test]
    fn memory_follows_what_is_tracked() -> Result {
        let tracked = |granules| Tracked::combine(Span::new(0, granules).into_iter(), 1);
        assert_eq!(memory_limit(0, &tracked(1)?), MEMORY_FLOOR + (16 << 10));
        // 1 TiB in pages of 4 KiB has a limit of 39 MiB, of which all bits need 32.5 MiB.
        let limit = memory_limit(0, &tracked(1 << 28)?);
        assert!(limit > (1 << 28) / 8 * 17 / 16);
        assert!(limit < 40 << 20);
        assert_eq!(memory_limit(3, &tracked(1 << 28)?), 3 << 20);
        assert!(memory_limit(0, &tracked(MAX_GRANULE)?) > 1 << 49);
        Ok(())
    }
}
