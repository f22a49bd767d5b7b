// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Memory of the kernel with the driver unloaded, before and after.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What may be gone at the end of a boot, in KiB. The first sample is taken when the driver was
/// loaded and unloaded once.
pub(super) const BOUND: Growth = Growth {
    unreclaimable: 1024,
    slab: 1536,
    available: 2048,
};

/// A sample, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    unreclaimable: i64,
    slab: i64,
    available: i64,
}

/// The difference of two, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// Of `SUnreclaim`.
    pub unreclaimable: i64,
    /// Of `Slab`.
    pub slab: i64,
    /// What `MemAvailable` has less, with the free pages that the processor keeps for itself: without
    /// them it varies by many MiB.
    pub available: i64,
}

impl Sample {
    /// Takes it out of `/proc/meminfo`.
    ///
    /// # Errors
    ///
    /// A line is missing.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let field = |name: &str| -> Result<i64> {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            let (_, rest) = lines
                .find(|(key, _)| *key == name)
                .with_context(|| format!("no {name} in /proc/meminfo"))?;
            let number = rest.split_whitespace().next().unwrap_or_default();
            number.parse().with_context(|| format!("{name}:{rest}"))
        };
        Ok(Self {
            unreclaimable: field("SUnreclaim")?,
            slab: field("Slab")?,
            // The script adds this: free pages that the processor keeps for itself.
            available: field("MemAvailable")? + field("Aside")?,
        })
    }

    /// What has grown from `self` to `later`.
    pub(super) fn until(self, later: Self) -> Growth {
        Growth {
            unreclaimable: later.unreclaimable - self.unreclaimable,
            slab: later.slab - self.slab,
            available: self.available - later.available,
        }
    }
}

impl Growth {
    pub(super) fn most(self, other: Self) -> Self {
        Self {
            unreclaimable: self.unreclaimable.max(other.unreclaimable),
            slab: self.slab.max(other.slab),
            available: self.available.max(other.available),
        }
    }

    /// What is beyond [`BOUND`].
    pub(super) fn beyond(self) -> Vec<String> {
        let parts = [
            (
                "SUnreclaim has grown",
                self.unreclaimable,
                BOUND.unreclaimable,
            ),
            ("Slab has grown", self.slab, BOUND.slab),
            ("MemAvailable has shrunk", self.available, BOUND.available),
        ];
        parts
            .iter()
            .filter(|(_, kib, bound)| kib > bound)
            .map(|(what, kib, bound)| format!("{what} by {kib} KiB, more than {bound}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "MemTotal: 700000 kB\nMemAvailable:   650000 kB\nSlab:  9000 kB\n\
                          SReclaimable: 3000 kB\nSUnreclaim:        6000 kB\nAside: 12 kB\n";

    #[test]
    fn a_leak_is_beyond_the_bound() {
        let before = Sample::parse(BEFORE).expect("a sample");
        assert!(before.until(before).beyond().is_empty());
        let leaked = BEFORE.replace("SUnreclaim:        6000", "SUnreclaim: 7025");
        let growth = before.until(Sample::parse(&leaked).expect("a sample"));
        assert_eq!(growth.unreclaimable, BOUND.unreclaimable + 1);
        assert_eq!(growth.beyond().len(), 1, "{growth:?}");
        let leaked = BEFORE.replace("650000", "620000");
        let growth = before.until(Sample::parse(&leaked).expect("a sample"));
        assert_eq!(
            growth.beyond(),
            ["MemAvailable has shrunk by 30000 KiB, more than 2048"]
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Sample::parse("Slab: 1 kB\n").unwrap_err().to_string();
        assert!(error.contains("SUnreclaim"), "{error}");
    }
}
