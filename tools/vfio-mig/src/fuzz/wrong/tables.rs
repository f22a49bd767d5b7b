// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Arguments of calls on the log that are wrong, or odd.

use rustix::io::Errno;

pub(super) const K4: u64 = 4096;
pub(super) const M1: u64 = 1 << 20;
pub(super) const G1: u64 = 1 << 30;

/// Ranges of a log: IOVA and bytes.
pub(super) type Ranges = &'static [(u64, u64)];

/// START that the core refuses: page size, ranges, errno.
pub(super) const STARTS: [(u64, Ranges, Errno); 10] = [
    (K4, &[], Errno::INVAL),
    (K4, &[(M1 + 1, K4)], Errno::INVAL),
    (K4, &[(M1, K4 + 512)], Errno::INVAL),
    (2 * M1, &[(M1, 2 * M1)], Errno::INVAL),
    (K4, &[(M1, M1), (M1, M1)], Errno::INVAL),
    (K4, &[(M1, M1), (2 * M1 - K4, M1)], Errno::INVAL),
    (K4, &[(M1, G1), (4 * G1, K4), (G1, K4)], Errno::INVAL),
    (0, &[(0, K4)], Errno::INVAL),
    (K4, &[(0u64.wrapping_sub(K4), K4)], Errno::OVERFLOW),
    (K4, &[(M1, 0u64.wrapping_sub(M1))], Errno::OVERFLOW),
];

/// START that a device may take or not. It is stopped at once.
pub(super) const ODD_STARTS: [(u64, Ranges); 8] = [
    (K4, &[(1 << 62, G1)]),
    (K4, &[(M1, 0)]),
    (K4, &[(0, 0)]),
    (3, &[(48 * G1, 3 * G1)]),
    (1 << 11, &[(48 * G1, 3 * G1)]),
    (G1, &[(0, 4 * G1)]),
    (K4, &[(0, 1 << 47)]),
    (
        2 * M1,
        &[(2 * M1, 2 * M1), (8 * M1, 2 * M1), (64 * G1, 512 * G1)],
    ),
];

/// REPORT that the core refuses: argsz, range, page size, errno.
pub(super) const REPORTS: [(u32, (u64, u64), u64, Errno); 8] = [
    (8, (M1, M1), K4, Errno::INVAL),
    (39, (M1, M1), K4, Errno::INVAL),
    (40, (M1, M1), 0, Errno::INVAL),
    (40, (M1, M1), 2048, Errno::INVAL),
    (40, (M1, M1), 3 * K4, Errno::INVAL),
    (40, (0u64.wrapping_sub(K4), 2 * K4), K4, Errno::OVERFLOW),
    (40, (K4, 0u64.wrapping_sub(K4)), K4, Errno::OVERFLOW),
    (40, (M1, 0), K4, Errno::INVAL),
];

/// REPORT of what START did not name, or partly: range and page size.
pub(in crate::fuzz) const ODD_REPORTS: [((u64, u64), u64); 8] = [
    ((0, M1), K4),
    ((G1 + K4, 3 * K4), K4),
    ((G1 - K4, 2 * K4), K4),
    ((G1 + 1, K4 - 1), K4),
    ((G1, M1), 16 * K4),
    ((4 * G1 + 17 * K4, 200 * M1), 2 * M1),
    ((1 << 50, M1), K4),
    ((G1 + 5 * K4, 64 * M1 + K4), 1 << 31),
];

pub(super) fn at<T: Copy>(list: &[T], number: u8) -> Option<T> {
    list.get(usize::from(number).checked_rem(list.len())?)
        .copied()
}
