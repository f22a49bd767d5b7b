// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Frames of the peer's stack on their way to the segment: a lane for each destination, so that a
//! guest without buffers delays its own frames only.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use dlr_core::Delivery;

use crate::{
    backend::Deliver,
    switch::{addresses, Mac},
};

/// Frames in one lane, at most.
const LANE: usize = 256;
/// Frames in all lanes above which the stack makes no more.
const ALL: usize = 2048;
/// How long a frame waits for a buffer; TCP repeats what is lost.
const PATIENCE: Duration = Duration::from_millis(50);
/// Pause before frames are offered again.
const RETRY: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<Mac, VecDeque<(Instant, Vec<u8>)>>,
    frames: usize,
    /// Frames that arrived.
    pub(super) sent: u64,
    /// Frames that were given up.
    pub(super) lost: u64,
}

impl Lanes {
    /// Whether the stack may make another frame: it waits with what it has instead of losing it.
    pub(super) fn has_room(&self) -> bool {
        self.frames < ALL
    }

    /// Takes a frame.
    pub(super) fn push(&mut self, frame: Vec<u8>, now: Instant) {
        let Some((dst, _)) = addresses(&frame) else {
            self.lost += 1;
            return;
        };
        let lane = self.lanes.entry(dst).or_default();
        if lane.len() >= LANE {
            self.lost += 1;
            return;
        }
        lane.push_back((now, frame));
        self.frames += 1;
    }

    /// Offers the frames of all lanes; says when to come back.
    pub(super) fn deliver(&mut self, now: Instant, deliver: &mut Deliver<'_>) -> Option<Duration> {
        let (frames, sent, lost) = (&mut self.frames, &mut self.sent, &mut self.lost);
        self.lanes.retain(|_, lane| {
            while let Some((since, frame)) = lane.front() {
                match deliver(frame) {
                    Delivery::Accepted => *sent += 1,
                    Delivery::NoBuffer if now.saturating_duration_since(*since) < PATIENCE => break,
                    Delivery::NoBuffer | Delivery::Dropped => *lost += 1,
                }
                lane.pop_front();
                *frames -= 1;
            }
            !lane.is_empty()
        });
        (!self.lanes.is_empty()).then_some(RETRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(to: u8) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, to]);
        frame
    }

    /// Guest 1 has no buffers, guest 2 takes everything.
    fn answer(frame: &[u8]) -> Delivery {
        match frame[5] {
            1 => Delivery::NoBuffer,
            _ => Delivery::Accepted,
        }
    }

    #[test]
    fn a_slow_guest_delays_only_itself() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        for _ in 0..2 * LANE {
            lanes.push(frame(1), now);
        }
        assert!(lanes.has_room());
        lanes.push(frame(2), now);
        assert_eq!(lanes.deliver(now, &mut |f| answer(f)), Some(RETRY));
        assert_eq!(lanes.sent, 1, "the frame behind waited");
        assert_eq!(lanes.lost, LANE as u64, "a lane is bounded");
        // All of them wait from their own time on, not one after the other.
        let later = now + PATIENCE;
        assert_eq!(lanes.deliver(later, &mut |f| answer(f)), None);
        assert_eq!((lanes.lost, lanes.frames), (2 * LANE as u64, 0));
    }

    #[test]
    fn order_is_kept_in_a_lane() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        for n in 0..4 {
            let mut frame = frame(1);
            frame[59] = n;
            lanes.push(frame, now);
        }
        let mut seen = vec![];
        lanes.deliver(now, &mut |_| Delivery::NoBuffer);
        lanes.deliver(now, &mut |f| {
            seen.push(f[59]);
            Delivery::Accepted
        });
        assert_eq!(seen, [0, 1, 2, 3]);
    }
}
