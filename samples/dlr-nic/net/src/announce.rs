// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a guest that has moved is announced with.
//!
//! A switch sends frames for the guest to the port that the guest was seen at last, and the guest
//! does not know that it has moved. So the function says it, with the frame that hypervisors use
//! for this: a reverse ARP request (RFC 903), broadcast, which needs no address but Ethernet's.

use std::time::{Duration, Instant};

use crate::{device::Device, filter::Mac};

/// Pauses between the announcements of one move, in milliseconds, as QEMU makes them: a frame may
/// be lost, and one that was on its way from the old place may arrive after the first.
const PAUSES: [u64; 4] = [50, 150, 250, 350];

/// Shortest Ethernet frame without FCS.
const LENGTH: usize = 60;
/// EtherType 0x8035; Ethernet, IPv4, lengths 6 and 4, request reverse.
const RARP: [u8; 10] = [0x80, 0x35, 0, 1, 0x08, 0, 6, 4, 0, 3];

/// The announcements of one move that are still to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    done: usize,
    /// When the next one is due.
    pub(crate) due: Instant,
}

impl Rounds {
    /// What follows the first announcement, which was made at `now`.
    pub(crate) fn after_first(now: Instant) -> Option<Self> {
        Self { done: 0, due: now }.after_another(now)
    }

    /// What is left after another announcement at `now`.
    pub(crate) fn after_another(self, now: Instant) -> Option<Self> {
        let pause = PAUSES.get(self.done)?;
        Some(Self {
            done: self.done + 1,
            due: now + Duration::from_millis(*pause),
        })
    }
}

/// One frame for each address that the guest takes frames for: its own, and those of its table of
/// unicast addresses.
pub(crate) fn frames(device: &Device) -> Vec<Vec<u8>> {
    let addresses = std::iter::once(&device.mac).chain(&device.filter.unicast);
    addresses.map(|mac| frame(*mac)).collect()
}

fn frame(mac: Mac) -> Vec<u8> {
    let mut frame = [[0xff; 6], mac].concat();
    frame.extend_from_slice(&RARP);
    // Hardware and protocol address of the sender, then of the target.
    for _ in 0..2 {
        frame.extend_from_slice(&mac);
        frame.extend_from_slice(&[0; 4]);
    }
    frame.resize(LENGTH, 0);
    frame
}

/// An address as people write it.
pub(crate) fn text(mac: &Mac) -> String {
    let bytes: Vec<_> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_announced_five_times_in_a_second() {
        let start = Instant::now();
        let (mut count, mut now, mut left) = (1, start, Rounds::after_first(start));
        while let Some(rounds) = left {
            (count, now) = (count + 1, rounds.due);
            left = rounds.after_another(now);
        }
        assert_eq!((count, now - start), (5, Duration::from_millis(800)));
    }

    #[test]
    fn a_reverse_request_of_the_guest_itself() {
        let mac = [2, 0, 0, 0, 0, 9];
        let frame = frame(mac);
        assert_eq!(frame.len(), 60);
        assert_eq!(frame[..12], [[0xff; 6], mac].concat()[..]);
        assert_eq!(frame[12..22], [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
        assert_eq!(frame[22..28], mac);
        assert_eq!(frame[32..38], mac);
        assert_eq!(text(&mac), "02:00:00:00:00:09");
    }
}
