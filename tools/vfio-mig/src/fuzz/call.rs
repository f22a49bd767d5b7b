// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The calls of a sequence, and how they are drawn.
//!
//! A call is drawn without looking at the device, so that a sequence is the same on each run.

use rand::{rngs::SmallRng, seq::IndexedRandom, Rng};
use serde::{Deserialize, Serialize};

use super::{
    has::Has,
    wrong::{OnFile, Wrong, ODD_REPORTS},
};
use crate::{
    check::walk::step::{Step, RANGES},
    state::State,
};

/// One call. A file is chosen among those that are open, by its number modulo their number;
/// `u8::MAX` is the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// One of the calls of `check`'s random walks.
    Plain(Step),
    /// A call that the kernel refuses, or that changes nothing.
    Wrong(Wrong),
    /// The same on a data file.
    OnFile(u8, OnFile),
    /// SET of a state whose answer the kernel cannot write: the user gets no data file.
    Lost(u32),
    /// write() of the next bytes of a good stream.
    Image(u8, u16),
    /// read() with O_NONBLOCK.
    ReadNow(u8, u16),
    /// poll() of a data file.
    Poll(u8),
    /// REPORT of one of [`ODD_REPORTS`].
    Elsewhere(u8),
    /// A register is written, as a guest does: its offset and value.
    Poke(u16, u32),
    /// The device is closed and opened; data files stay open.
    Reopen,
    /// Save, load what was saved in pieces of this length, save: the streams have to be equal.
    Round(u16),
}

impl Has {
    /// A call that this device may get.
    pub fn draw(&self, rng: &mut SmallRng) -> Call {
        loop {
            let call = self.any(rng);
            let log = matches!(
                call,
                Call::Elsewhere(_) | Call::Plain(Step::Start(_) | Step::Report(_) | Step::Stop)
            );
            let reset = matches!(call, Call::Plain(Step::Reset));
            let absent = match call {
                Call::Wrong(wrong) => !self.logging && wrong.is_log(),
                Call::Poke(..) => !self.registers,
                _ => log && !self.logging || reset && !self.reset,
            };
            if !absent {
                return call;
            }
        }
    }

    fn any(&self, rng: &mut SmallRng) -> Call {
        let file = match rng.random_range(0..3) {
            0 => rng.random_range(0..4u8),
            _ => u8::MAX,
        };
        let bytes = |rng: &mut SmallRng| match rng.random_range(0..4) {
            0 => 1,
            1 => u16::MAX,
            _ => rng.random_range(2..8192),
        };
        let range = rng.random_range(0..RANGES.len() as u8);
        // Opening and resetting a PCI function takes a tenth of a second, a round as long as a
        // dozen other calls.
        match rng.random_range(0..330) {
            0..=99 => Call::Plain(Step::Set(self.state(rng))),
            100..=134 => Call::Plain(Step::Read(file, bytes(rng))),
            135..=144 => Call::Plain(Step::Write(file, bytes(rng))),
            145..=166 => Call::Image(file, bytes(rng)),
            167..=178 => Call::Plain(Step::Precopy(file)),
            179..=184 => Call::Plain(Step::Close(file)),
            185..=190 => Call::Plain(Step::Size),
            191..=198 => Call::Plain(Step::Start(range)),
            199..=206 => Call::Plain(Step::Report(range)),
            207..=212 => Call::Plain(Step::Stop),
            213..=218 => Call::Elsewhere(rng.random_range(0..ODD_REPORTS.len() as u8)),
            219..=230 => Call::ReadNow(file, bytes(rng)),
            231..=242 => Call::Poll(file),
            243..=248 => Call::Lost(self.state(rng)),
            249..=276 => Call::Wrong(Wrong::draw(rng)),
            277..=294 => Call::OnFile(file, OnFile::draw(rng)),
            295..=296 => Call::Round(bytes(rng)),
            297..=298 => Call::Plain(Step::Reset),
            299 => Call::Reopen,
            _ => poke(rng),
        }
    }

    /// A sequence.
    pub fn sequence(&self, rng: &mut SmallRng, length: usize) -> Vec<Call> {
        let mut calls: Vec<Call> = (0..length).map(|_| self.draw(rng)).collect();
        // Streams get whole only if nothing comes between their pieces.
        if rng.random_bool(0.5) {
            let load = [
                Call::Plain(Step::Set(State::Resuming as u32)),
                Call::Image(u8::MAX, u16::MAX),
                Call::Plain(Step::Set(State::Stop as u32)),
            ];
            let at = rng.random_range(0..=calls.len().saturating_sub(load.len()));
            for (slot, call) in calls.iter_mut().skip(at).zip(load) {
                *slot = call;
            }
        }
        calls
    }
}

/// Registers of `struct virtio_pci_common_cfg`, and what a driver writes there; sometimes anything.
fn poke(rng: &mut SmallRng) -> Call {
    let (offset, values): (u16, &[u32]) = match rng.random_range(0..12) {
        0 => (0x00, &[0, 1, 2]),
        1 => (0x08, &[0, 1, 2]),
        2 => (0x0c, &[1, 0x0013_8020, u32::MAX, 0]),
        3 => (0x10, &[0, 1, 0xffff]),
        4 | 5 => (0x14, &[0, 1, 3, 11, 15, 15, 0x8f]),
        6 => (0x16, &[0, 1, 2, 9]),
        7 => (0x18, &[2, 64, 256, 0]),
        8 => (0x1a, &[0, 1, 0xffff]),
        9 => (0x1c, &[1]),
        10 => (
            0x20 + 4 * rng.random_range(0..6),
            &[0x4000, 0x8000, 0x1_0000, 0xffff_f000],
        ),
        _ => (rng.random_range(0..0x4000), &[0, u32::MAX]),
    };
    let value = values.choose(rng).copied();
    Call::Poke(offset, value.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::state::MigrationFlags;

    fn has(flags: u64, logging: bool) -> Has {
        Has {
            flags: MigrationFlags(flags),
            logging,
            reset: logging,
            registers: logging,
        }
    }

    #[test]
    fn the_seed_decides_and_everything_comes() {
        let draw = |seed| has(7, true).sequence(&mut SmallRng::seed_from_u64(seed), 2000);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let all = draw(3);
        let comes = |what: fn(&Call) -> bool| assert!(all.iter().any(what));
        comes(|call| matches!(call, Call::Round(_)));
        comes(|call| matches!(call, Call::Reopen));
        comes(|call| matches!(call, Call::Lost(_)));
        comes(|call| matches!(call, Call::Plain(Step::Set(8..))));
        comes(|call| matches!(call, Call::Plain(Step::Reset)));
    }

    #[test]
    fn what_a_device_lacks_is_not_called() {
        let all = has(1, false).sequence(&mut SmallRng::seed_from_u64(3), 2000);
        let log = |call: &Call| match call {
            Call::Plain(Step::Start(_) | Step::Report(_) | Step::Stop | Step::Reset) => true,
            Call::Wrong(wrong) => wrong.is_log(),
            call => matches!(call, Call::Elsewhere(_) | Call::Poke(..)),
        };
        assert!(!all.iter().any(log));
    }

    #[test]
    fn calls_are_lines_of_json() {
        for call in has(7, true).sequence(&mut SmallRng::seed_from_u64(4), 300) {
            let line = serde_json::to_string(&call).unwrap();
            assert_eq!(serde_json::from_str::<Call>(&line).unwrap(), call);
        }
    }
}
