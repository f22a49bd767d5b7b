// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a device can do.

use rand::{rngs::SmallRng, seq::IndexedRandom, Rng};

use crate::state::{MigrationFlags, State};

/// What a device can do.
#[derive(Clone, Copy, Debug)]
pub struct Has {
    /// Its states.
    pub flags: MigrationFlags,
    /// Logging.
    pub logging: bool,
    /// VFIO_DEVICE_RESET.
    pub reset: bool,
    /// The registers of virtio-net in BAR 0, which may be written with anything.
    pub registers: bool,
}

impl Has {
    /// A state: one of the device's, as a rule.
    pub(super) fn state(&self, rng: &mut SmallRng) -> u32 {
        if rng.random_ratio(1, 12) {
            return rng.random_range(0..10);
        }
        let states = State::ALL;
        let has = |state: &&State| **state != State::Error && self.flags.has(**state);
        let all: Vec<&State> = states.iter().filter(has).collect();
        all.choose(rng).map_or(0, |state| **state as u32)
    }
}
