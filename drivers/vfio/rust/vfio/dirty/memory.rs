// SPDX-License-Identifier: GPL-2.0

//! The limit of the kernel memory of one log's bitmap, and the cgroup that is charged for it. The
//! log lock protects both.

use crate::ext::{gfp, memcg::Charge};
use kernel::{alloc::Flags, prelude::*};

/// The memory of a bitmap in bytes, and its limit. The bitmap allocates only through this. It does
/// not distinguish the limit from a failure of the allocator: in both cases it marks more granules
/// than were written.
pub(super) struct MemoryLimit {
    used: usize,
    limit: usize,
    charge: Charge,
    #[cfg(CONFIG_KUNIT = "y")]
    faults: Faults,
}

impl MemoryLimit {
    /// Creates a limit of `limit` bytes with nothing in use. `charge` is charged for allocations.
    pub(super) fn new(limit: usize, charge: Charge) -> Self {
        Self {
            used: 0,
            limit,
            charge,
            #[cfg(CONFIG_KUNIT = "y")]
            faults: Faults::NEVER,
        }
    }

    /// Calls `make`, which allocates `bytes` bytes. Returns `None` if the limit is reached or if
    /// `make` fails.
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

    /// Returns `bytes` bytes to the limit, which the caller has freed.
    pub(super) fn give(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// Returns the memory in use, in bytes.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Changes the limit. If more is in use, it stays in use, and allocations fail.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Makes one of `one_in` allocations fail from now on, chosen by `seed`; with 0 none.
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
    /// No allocation fails.
    const NEVER: Self = Self {
        one_in: 0,
        random: super::random::Random::new(1),
    };

    /// Returns whether the next allocation is to fail.
    fn strike(&mut self) -> bool {
        self.one_in != 0 && self.random.below(self.one_in.into()) == 0
    }
}
