// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What lies where in the virtual machine's memory.
//!
//! The low region begins with 2 MiB of rings, control commands and send buffers; all other pages of both
//! regions are receive buffers.

use anyhow::{ensure, Result};

use super::{
    memory::{HUGE_PAGE, PAGE},
    queue::Rings,
};
use crate::range::IovaRange;

/// Start of the low region.
pub const LOW: u64 = 1 << 30;
/// Start of the high region: beyond 4 GiB.
pub const HIGH: u64 = 1 << 32;
/// Largest queue that is used.
pub const QUEUE_LIMIT: u16 = 256;
/// Bytes of a send buffer: a jumbo frame.
pub const SEND_BUFFER: u64 = 3 * PAGE;

const RX: u64 = LOW;
const TX: u64 = LOW + 4 * PAGE;
const CTRL: u64 = LOW + 8 * PAGE;
const COMMANDS: u64 = LOW + 12 * PAGE;
const ACKS: u64 = LOW + 13 * PAGE;
/// Number of control commands whose answers have a byte of their own.
pub const ACK_LIMIT: u64 = 3 * PAGE;
const SEND: u64 = LOW + 16 * PAGE;

/// The memory's ranges: `size` bytes altogether, a quarter of them low.
///
/// # Errors
///
/// The size is too small or no multiple of what it has to be.
pub fn ranges(size: u64) -> Result<Vec<IovaRange>> {
    ensure!(
        size >= 4 * HUGE_PAGE && size % (4 * HUGE_PAGE) == 0 && size <= 1 << 38,
        "the memory's size must be a multiple of 8 MiB, at most 256 GiB"
    );
    let (low, high) = (size / 4, size / 4 * 3);
    Ok(vec![
        IovaRange {
            iova: LOW,
            length: low,
        },
        IovaRange {
            iova: HIGH,
            length: high,
        },
    ])
}

fn rings(at: u64, limit: u16) -> Rings {
    let size = limit.min(QUEUE_LIMIT);
    Rings {
        // The device may offer any number; a split queue needs a power of two.
        size: 1 << size.max(1).ilog2(),
        desc: at,
        avail: at + PAGE,
        // It ends with its page, so that `avail_event` behind it has a page of its own: a page that
        // the function writes for nothing else.
        used: at + 3 * PAGE - used_bytes(1 << size.max(1).ilog2()),
    }
}

/// Bytes of a used ring without `avail_event`.
fn used_bytes(size: u16) -> u64 {
    4 + 8 * u64::from(size)
}

/// Rings of the control queue; at most `limit` descriptors.
pub fn ctrl_rings(limit: u16) -> Rings {
    rings(CTRL, limit)
}

/// Where control command `number` is written, and where its answer comes: a byte that the function
/// writes once and nothing else does.
pub fn command(number: u64) -> (u64, u64) {
    (
        COMMANDS + number % (PAGE / 4) * 4,
        ACKS + number % ACK_LIMIT,
    )
}

/// Rings of the receive queue; at most `limit` descriptors.
pub fn rx_rings(limit: u16) -> Rings {
    rings(RX, limit)
}

/// Rings of the send queue; at most `limit` descriptors.
pub fn tx_rings(limit: u16) -> Rings {
    rings(TX, limit)
}

/// The send buffers.
pub fn send_buffers() -> Vec<u64> {
    let count = (LOW + HUGE_PAGE - SEND) / SEND_BUFFER;
    (0..count).map(|n| SEND + n * SEND_BUFFER).collect()
}

/// Where the buffers begin that frames are received into, each of `pages` pages.
pub fn receive_buffers(ranges: &[IovaRange], pages: u64) -> Vec<u64> {
    let size = pages.max(1) * PAGE;
    let within = |range: &IovaRange| {
        let end = range.iova + range.length;
        let start = match range.iova {
            LOW => LOW + HUGE_PAGE,
            iova => iova,
        };
        (0..end.saturating_sub(start) / size).map(move |n| start + n * size)
    };
    ranges.iter().flat_map(within).collect()
}

/// What lies at `iova`, for people.
pub fn describe(iova: u64) -> &'static str {
    let page = iova / PAGE * PAGE;
    let part = |at: u64, names: [&'static str; 4]| {
        (page >= at && page < at + 4 * PAGE).then(|| names[((page - at) / PAGE) as usize])
    };
    let ring = part(
        RX,
        [
            "receive descriptors",
            "receive available ring",
            "receive used ring",
            "receive avail_event",
        ],
    )
    .or_else(|| {
        part(
            TX,
            [
                "send descriptors",
                "send available ring",
                "send used ring",
                "send avail_event",
            ],
        )
    })
    .or_else(|| {
        part(
            CTRL,
            [
                "control descriptors",
                "control available ring",
                "control used ring",
                "control avail_event",
            ],
        )
    });
    match ring {
        Some(name) => name,
        None if page == COMMANDS => "control commands",
        None if (ACKS..ACKS + ACK_LIMIT).contains(&page) => "answers to control commands",
        None if (SEND..LOW + HUGE_PAGE).contains(&page) => "send buffer",
        None => "receive buffer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn nothing_overlaps() {
        let ranges = ranges(64 << 20).expect("good size");
        let pages = receive_buffers(&ranges, 1);
        assert_eq!(pages.len() as u64, (62 << 20) / PAGE);
        for pages in [2, 3, 16] {
            let size = pages * PAGE;
            let buffers = receive_buffers(&ranges, pages);
            assert!(buffers.is_sorted_by(|a, b| a + size <= *b));
            let within = |at: &u64| {
                ranges
                    .iter()
                    .any(|r| r.iova <= *at && at + size <= r.iova + r.length)
            };
            assert!(buffers
                .iter()
                .all(|at| within(at) && !(LOW..LOW + HUGE_PAGE).contains(at)));
            let whole = (14 << 20) / size + (48 << 20) / size;
            assert_eq!(buffers.len() as u64, whole);
        }
        let mut all: HashSet<u64> = pages.into_iter().collect();
        for buffer in send_buffers() {
            for page in 0..3 {
                assert!(all.insert(buffer + page * PAGE));
                assert_eq!(describe(buffer + page * PAGE), "send buffer");
            }
        }
        for rings in [rx_rings(1024), tx_rings(1024), ctrl_rings(1024)] {
            assert_eq!(rings.size, QUEUE_LIMIT);
            let event = rings.used + used_bytes(rings.size);
            assert_eq!((rings.used % 4, event % PAGE), (0, 0));
            for page in [rings.desc, rings.avail, rings.used / PAGE * PAGE, event] {
                assert!(all.insert(page));
            }
        }
        let (first, ack) = command(0);
        assert!(all.insert(first));
        for page in 0..ACK_LIMIT / PAGE {
            assert!(all.insert(ack + page * PAGE));
        }
        assert_eq!(command(ACK_LIMIT).1, ack);
    }

    #[test]
    fn everything_has_a_name() {
        assert_eq!(describe(rx_rings(8).used + 4), "receive used ring");
        assert_eq!(describe(tx_rings(8).desc), "send descriptors");
        assert_eq!(describe(ctrl_rings(64).used + 4), "control used ring");
        assert_eq!(
            describe(rx_rings(64).used + 4 + 8 * 64),
            "receive avail_event"
        );
        assert_eq!(describe(command(5000).1), "answers to control commands");
        assert_eq!(describe(HIGH), "receive buffer");
    }

    #[test]
    fn sizes() {
        for size in [0, 1 << 20, 9 << 20, 1 << 40] {
            assert!(ranges(size).is_err());
        }
        assert_eq!(rx_rings(100).size, 64);
    }
}
