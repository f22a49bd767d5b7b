// SPDX-License-Identifier: GPL-2.0

//! Limit of the kernel memory of the bitmap of one log, and the cgroup that is charged for it.
//!
//! The caller holds the log lock.

use crate::ext::{gfp, memcg::Charge};
use kernel::{alloc::Flags, prelude::*};

/// Bytes in use and their limit. Every allocation of the bitmap goes through here, and a refusal is
/// handled as if the allocator had refused: the bitmap marks more than was written.
pub(super) struct MemoryLimit {
    used: usize,
    limit: usize,
    charge: Charge,
    #[cfg(CONFIG_KUNIT = "y")]
    faults: Faults,
}

impl MemoryLimit {
    /// Nothing in use, at most `limit` bytes, which `charge` pays for.
    pub(super) fn new(limit: usize, charge: Charge) -> Self {
        Self {
            used: 0,
            limit,
            charge,
            #[cfg(CONFIG_KUNIT = "y")]
            faults: Faults::NEVER,
        }
    }

    /// Takes `bytes` for what `make` allocates; `None` when they are not there or it fails.
    pub(super) fn allocate<T>(
        &mut self,
        bytes: usize,
        make: impl FnOnce(Flags) -> Result<T>,
    ) -> Option<T> {
        #[cfg(CONFIG_KUNIT = "y")]
        if self.faults.strike() {
            return None;
        }
        let used = self.used.checked_add(bytes)?;
        if used > self.limit {
            return None;
        }
        let made = self.charge.scope(|| make(gfp::USER)).ok()?;
        self.used = used;
        Some(made)
    }

    /// Gives `bytes` back that were taken.
    pub(super) fn give(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// Bytes in use.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Changes the limit. What is in use above a lower limit stays in use.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// From here on one of `one_in` allocations fails, as `seed` decides; 0 ends it.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) fn fail(&mut self, one_in: u32, seed: u64) {
        self.faults = Faults {
            one_in,
            random: super::random::Random::new(seed),
        };
    }
}

/// Allocations that fail at random, for tests.
#[cfg(CONFIG_KUNIT = "y")]
struct Faults {
    one_in: u32,
    random: super::random::Random,
}

#[cfg(CONFIG_KUNIT = "y")]
impl Faults {
    const NEVER: Self = Self {
        one_in: 0,
        random: super::random::Random::new(1),
    };

    fn strike(&mut self) -> bool {
        self.one_in != 0 && self.random.below(self.one_in.into()) == 0
    }
}
