// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What is promised, and what was reached where that is less.

/// What is promised of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bound {
    /// It is at most so much.
    Most(f64),
    /// It is at least so much.
    Least(f64),
    /// Nothing: it is reported.
    None,
}

impl Bound {
    pub(super) fn value(self) -> Option<f64> {
        match self {
            Self::Most(value) | Self::Least(value) => Some(value),
            Self::None => None,
        }
    }

    /// Whether `value` keeps the promise; nothing when nothing is promised.
    pub(super) fn holds(self, value: f64) -> Option<bool> {
        match self {
            Self::Most(most) => Some(value <= most),
            Self::Least(least) => Some(value >= least),
            Self::None => None,
        }
    }
}

/// A figure of the table.
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) bound: Bound,
    /// This was reached, see `Documentation/performance.rst`; 0 where the promise is kept.
    pub(super) reached: f64,
}

impl Target {
    /// The one of this name, native or not.
    pub(super) fn of(name: &str) -> Option<&'static Self> {
        NATIVE.iter().chain(BOXED).find(|t| t.name == name)
    }

    /// Where a figure stands in the table.
    pub(super) fn place(name: &str) -> usize {
        let mut all = NATIVE.iter().chain(BOXED);
        all.position(|t| t.name == name).unwrap_or(usize::MAX)
    }
}

const fn kept(name: &'static str, most: f64) -> Target {
    missed(name, most, 0.0)
}

const fn missed(name: &'static str, most: f64, reached: f64) -> Target {
    Target {
        name,
        bound: Bound::Most(most),
        reached,
    }
}

const fn at_least(name: &'static str, least: f64) -> Target {
    Target {
        name,
        bound: Bound::Least(least),
        reached: 0.0,
    }
}

/// Those of the native part, in the order of the table.
pub(super) const NATIVE: &[Target] = &[
    missed("mark.random.1g", 3.0, 3.1),
    missed("mark.random.64g", 3.0, 3.5),
    kept("mark.random.1t", 3.0),
    kept("path.random.1g", 1.6),
    missed("path.random.64g", 0.8, 2.2),
    kept("path.random.1t", 0.02),
    kept("path.sequential", 0.5),
    missed("path.runs", 0.05, 0.053),
    missed("path.xor", 0.5, 0.9),
    kept("drain.copy", 3.0),
    kept("clean.1t_over_1g", 1.2),
    kept("start.56t_over_1g", 1.2),
    kept("memory.dense", 1.2),
    kept("memory.peak", 1.2),
    kept("memory.sparse", 40.0),
    kept("memory.clean", 0.0),
];

/// Those that need a host box or the NIC. They are not part of `make test`.
pub(super) const BOXED: &[Target] = &[
    kept("idle.report", 2.0),
    kept("idle.data_size", 2.0),
    kept("idle.precopy", 2.0),
    at_least("stream.save", 0.8),
    at_least("stream.load", 0.8),
    at_least("nic.logging", 0.95),
    kept("overflow.downtime", 1.5),
    kept("downtime.driver", 1.2),
];
