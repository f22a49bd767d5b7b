// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What each actor knows.

use crate::{
    device::Device,
    protocol::{Set, MAX_GRANULES},
};

/// What the driver is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing; the threaded interrupt may drain.
    #[default]
    Idle,
    /// REPORT has added granules and is about to read POSTED (R9).
    Added,
    /// REPORT drains this many entries, those that POSTED counted.
    DrainPosted(u8),
    /// REPORT waits for LOG_ADD (R9).
    Extend {
        /// A SYNC of everything has been done in this REPORT.
        synced: bool,
    },
    /// REPORT has given a SYNC and drains to its marker.
    Sync(Purpose),
}

/// What a SYNC is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Of the range that is asked for, before the harvest.
    Harvest,
    /// Of everything, after LOST.
    Rearm {
        /// LOST came while the SYNC of the range was under way: the harvest follows.
        late: bool,
    },
}

/// The driver's tracker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Driver {
    /// What it is doing.
    pub phase: Phase,
    /// The software bitmap.
    pub bits: Set,
    /// What is tracked, as far as the driver knows.
    pub tracked: Set,
    /// What the REPORT under way asks for.
    pub range: Set,
    /// LOST was taken, by this or an earlier drain: the next REPORT re-arms.
    pub lost: bool,
    /// Cookie of the SYNC under way, or of the last one.
    pub cookie: u8,
    /// Cookies of markers that may still come, of SYNCs that were given again.
    pub extra: Vec<u8>,
    /// The SYNC under way: a marker of it was taken.
    pub seen: bool,
    /// It has completed.
    pub answered: bool,
    /// It was BUSY: given again as soon as a slot was taken or given back.
    pub again: bool,
    /// Times that it was given again after its answer was dropped.
    pub repeated: u8,
    /// Aborts and handshakes still to come.
    pub aborts_left: u8,
    /// A re-arm is owed ([`HarvestBeforeRearm`](crate::Fault::HarvestBeforeRearm) only).
    pub rearm_owed: bool,
}

/// Where the migration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Before START.
    Setup,
    /// Copying what START or the last REPORT named.
    Copy,
    /// Inside a REPORT.
    Report,
    /// Inside the last REPORT, which was called after the device was suspended.
    LastReport,
    /// Copying what the last REPORT named.
    LastCopy,
    /// The destination runs.
    Done,
    /// A REPORT has failed: the source goes on.
    Failed,
}

/// State of the VMM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vmm {
    /// Where the migration is.
    pub stage: Stage,
    /// The device is suspended.
    pub suspended: bool,
    /// REPORTs called so far, the last one not counted.
    pub rounds: u8,
    /// Granules named and not yet copied.
    pub to_copy: Set,
    /// The destination's memory.
    pub copied: [u8; MAX_GRANULES],
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Number of writes that each granule of guest memory has seen.
    pub memory: [u8; MAX_GRANULES],
    /// The device and its ring.
    pub device: Device,
    /// The driver's tracker.
    pub driver: Driver,
    /// The VMM and its copy.
    pub vmm: Vmm,
}
