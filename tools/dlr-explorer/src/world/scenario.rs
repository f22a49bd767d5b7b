// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What is explored: the fixed part of a run, and how much may happen in it.

use dlr_core::{Purpose, SabotageKind};

/// Pages of 4 KiB of guest memory.
pub(crate) const PAGES: u64 = 64;

/// The first page of [`Scenario::fill`], and the distance of two.
const FILLER: u64 = 16;
const APART: u64 = 2;

/// A first page and a number of pages.
pub(crate) type Range = (u64, u64);

/// What a REPORT asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// All that is mapped.
    All,
    /// A part of it.
    Part(Range),
    /// What is mapped from this page on. It has just been unmapped, so this is the last REPORT of
    /// it.
    Unmap(u64),
}

/// What happens in a run, and what may happen how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// Log2 of the granule.
    pub(crate) shift: u32,
    /// What START tracks.
    pub(crate) tracked: Range,
    /// REPORTs before the function is suspended. The last one, of everything, comes after it.
    pub(crate) reports: &'static [Ask],
    /// Granules that are written after START and before the VMM copies all memory: their entries
    /// stand in the ring, apart from the one that the NIC has not posted yet.
    pub(crate) fill: u64,
    /// DMA writes.
    pub(crate) writes: u32,
    /// The pages that they may go to.
    pub(crate) places: &'static [u64],
    /// What the writes are for.
    pub(crate) purpose: Purpose,
    /// A write reaches into the page behind.
    pub(crate) wide: bool,
    /// Granules of [`Self::fill`] that are written in one step, once; 0 for never.
    pub(crate) burst: u64,
    /// A write is two steps, before and after its data is visible.
    pub(crate) split: bool,
    /// The function asks whether it has to hold a write back.
    pub(crate) hold: bool,
    /// The VMM may suspend the function while one of the first REPORTs is under way.
    pub(crate) beside: bool,
    /// Runs of the thread of the interrupt. Each time that the vector is raised it may run or not.
    pub(crate) interrupts: u32,
    /// SYNCs that the device executes later than in the first wait for it.
    pub(crate) late: u32,
    /// SYNCs that find no room, and that the device answers with BUSY.
    pub(crate) busy: u32,
    /// SYNCs whose answer is dropped, and that are given again.
    pub(crate) again: u32,
    /// SYNCs for which the driver finds no memory.
    pub(crate) starved: u32,
    /// REPORTs that the VMM's memory ends early.
    pub(crate) cuts: u32,
    /// Resets of the function.
    pub(crate) resets: u32,
    /// Entries of an unknown type.
    pub(crate) spoils: u32,
    /// Losses of the management function, which end the log.
    pub(crate) losses: u32,
    /// The memory of the ring is taken away from the NIC.
    pub(crate) faults: u32,
    /// The switch of the NIC that is on, with the number 1.
    pub(crate) sabotage: Option<SabotageKind>,
}

impl Scenario {
    /// Three REPORTs of everything, two places that are no neighbours, a ring with room, and no
    /// mishaps.
    pub(crate) const PLAIN: Self = Self {
        shift: 12,
        tracked: (0, PAGES),
        reports: &[Ask::All, Ask::All, Ask::All],
        fill: 0,
        writes: 4,
        places: &[2, 6],
        purpose: Purpose::Data,
        wide: false,
        burst: 0,
        split: false,
        hold: false,
        beside: false,
        interrupts: 1,
        late: 0,
        busy: 0,
        again: 0,
        starved: 0,
        cuts: 0,
        resets: 0,
        spoils: 0,
        losses: 0,
        faults: 0,
        sabotage: None,
    };
    const TWO: Self = Self {
        reports: &[Ask::All, Ask::All],
        writes: 2,
        ..Self::PLAIN
    };
    /// Neighbours, so that entries are runs.
    pub(crate) const RUNS: Self = Self {
        places: &[2, 3, 6],
        ..Self::PLAIN
    };
    /// REPORTs that begin and end in the middle of a granule, one of them cut short.
    pub(crate) const PARTS: Self = Self {
        shift: 13,
        reports: &[Ask::Part((1, 6)), Ask::Part((3, 4)), Ask::Part((0, 7))],
        writes: 3,
        places: &[2, 3, 6],
        cuts: 1,
        ..Self::PLAIN
    };
    /// Writes of two pages.
    pub(crate) const WIDE: Self = Self {
        writes: 3,
        wide: true,
        ..Self::PLAIN
    };
    /// A ring with so many entries.
    pub(crate) const fn full(fill: u64) -> Self {
        Self { fill, ..Self::TWO }
    }
    /// The same with one more write, and no drains by the interrupt.
    pub(crate) const FULLER: Self = Self {
        writes: 3,
        interrupts: 0,
        ..Self::full(14)
    };
    /// The same with neighbours.
    pub(crate) const FULL_RUNS: Self = Self {
        places: &[2, 3],
        ..Self::full(14)
    };
    /// A ring that is filled at once, at the worst moment.
    pub(crate) const fn burst(burst: u64) -> Self {
        Self {
            burst,
            places: &[2],
            busy: 1,
            ..Self::TWO
        }
    }
    /// The same while a SYNC waits.
    pub(crate) const BURST_LATE: Self = Self {
        writes: 1,
        late: 1,
        ..Self::burst(15)
    };
    /// Writes that are held back.
    pub(crate) const fn held(fill: u64) -> Self {
        Self {
            fill,
            hold: true,
            ..Self::TWO
        }
    }
    /// SYNCs that are given again.
    pub(crate) const AGAIN: Self = Self {
        late: 1,
        again: 2,
        ..Self::TWO
    };
    /// REPORTs of what START has left out.
    pub(crate) const UNTRACKED: Self = Self {
        tracked: (0, 3),
        reports: &[Ask::Part((0, 4)), Ask::Part((2, 8)), Ask::All],
        places: &[2, 3, 6],
        late: 1,
        ..Self::TWO
    };
    /// Granules that the first REPORT adds, with a ring of so many entries.
    pub(crate) const fn untracked(fill: u64) -> Self {
        Self {
            tracked: (0, 48),
            places: &[2, 60],
            ..Self::full(fill)
        }
    }
    /// No memory for a SYNC, and a REPORT that is cut short.
    pub(crate) const STARVED: Self = Self {
        places: &[2, 3, 6],
        writes: 3,
        starved: 1,
        cuts: 1,
        ..Self::PLAIN
    };
    /// Drains by the thread of the interrupt.
    pub(crate) const INTERRUPTS: Self = Self {
        fill: 4,
        writes: 3,
        interrupts: 2,
        ..Self::TWO
    };
    /// Writes that have begun while the driver does something.
    pub(crate) const SPLIT: Self = Self {
        writes: 3,
        split: true,
        late: 1,
        ..Self::TWO
    };
    /// Resets of the function.
    pub(crate) const RESET: Self = Self {
        resets: 1,
        ..Self::TWO
    };
    /// Resets of the function, and entries of an unknown type.
    pub(crate) const SPOILT: Self = Self {
        spoils: 1,
        resets: 1,
        ..Self::TWO
    };
    /// The mishaps of [`Self::STARVED`] with a ring that is nearly full.
    pub(crate) const FULL_CUT_STARVED: Self = Self {
        starved: 1,
        cuts: 1,
        interrupts: 0,
        ..Self::full(14)
    };
    /// A function that is suspended beside a REPORT.
    pub(crate) const BESIDE: Self = Self {
        beside: true,
        late: 1,
        writes: 3,
        ..Self::TWO
    };
    /// Logs that end, and rings that cannot be written.
    pub(crate) const ENDED: Self = Self {
        losses: 1,
        faults: 1,
        late: 1,
        ..Self::TWO
    };
    /// Writes for a purpose.
    pub(crate) const fn of(purpose: Purpose) -> Self {
        Self {
            purpose,
            ..Self::TWO
        }
    }
    /// Memory that is unmapped.
    pub(crate) const UNMAPPED: Self = Self {
        reports: &[Ask::All, Ask::Unmap(60), Ask::All],
        places: &[2, 60],
        ..Self::PLAIN
    };

    /// The pages of the first `count` granules of [`Self::fill`].
    pub(crate) fn fillers(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(|n| FILLER + APART * n)
    }
}
