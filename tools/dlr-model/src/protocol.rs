// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The protocol: how much of it is explored, which rule is broken, and its steps.

/// Most granules that a model can have: its own tests need three, and `tools/dlr-explorer` as many
/// as fill the smallest ring.
pub const MAX_GRANULES: usize = 20;

/// Set of granules, one bit each.
pub type Set = u32;

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// START completes before writes are logged.
    StartEarly,
    /// R1: the entry is posted before the data is visible.
    EntryBeforeData,
    /// R2: the first entry of each granule is lost, though the filter takes it as logged.
    EntryDropped,
    /// R3: SYNC posts its marker and leaves the filter as it is.
    FilterNotCleared,
    /// R3: SYNC clears the filter first and posts the marker in a later step.
    MarkerAfterClear,
    /// R4: the driver goes on past the marker before it harvests.
    HarvestPastMarker,
    /// R4: with a SYNC that it has given again the driver does not stop at markers until that
    /// completes.
    MarkersTakenFreely,
    /// R5: POSTED answers without posting the entries that are owed.
    PostedWithoutFlush,
    /// R6: a full ring drops entries and does not say so.
    LostNotPosted,
    /// R6: the driver reports everything dirty and re-arms only in the next REPORT.
    HarvestBeforeRearm,
    /// R6: a SYNC of everything leaves logging off.
    NotRearmed,
    /// R7: suspend completes while a write is still to come.
    SuspendEarly,
    /// R8: a reset of the function ends logging.
    ResetEndsLog,
    /// R8: the management function is lost, and REPORT takes no notice.
    LossIgnored,
    /// R9: LOG_ADD has no effect.
    AddNotTracked,
    /// R10: the driver skips an entry that it does not know.
    UnknownIgnored,
    /// The driver gives no slots back while it waits for a marker.
    SlotsKept,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::StartEarly,
        Self::EntryBeforeData,
        Self::EntryDropped,
        Self::FilterNotCleared,
        Self::MarkerAfterClear,
        Self::HarvestPastMarker,
        Self::MarkersTakenFreely,
        Self::PostedWithoutFlush,
        Self::LostNotPosted,
        Self::HarvestBeforeRearm,
        Self::NotRearmed,
        Self::SuspendEarly,
        Self::ResetEndsLog,
        Self::LossIgnored,
        Self::AddNotTracked,
        Self::UnknownIgnored,
        Self::SlotsKept,
    ];
}

/// How much is explored.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Granules of guest memory, at most [`MAX_GRANULES`].
    pub granules: usize,
    /// DMA writes of the device in a whole migration.
    pub writes: u8,
    /// REPORTs before the device is suspended.
    pub rounds: u8,
    /// Slots of the log ring, the reserved one included.
    pub ring: usize,
    /// Granules that START leaves out.
    pub untracked: Set,
    /// REPORT adds such granules before it reads POSTED; else after it has drained.
    pub add_first: bool,
    /// Aborts, or handshakes, that drop a SYNC which is given again.
    pub aborts: u8,
    /// The driver harvests at the first marker of a SYNC, and lets others of it come later;
    /// else at the last one.
    pub first_marker: bool,
    /// Function-level resets of the function.
    pub resets: u8,
    /// Entries that become something unknown.
    pub spoils: u8,
    /// Losses of the management function, 0 or 1.
    pub losses: u8,
}

/// The protocol, right or with one rule broken.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// Limits of the exploration.
    pub bounds: Bounds,
    /// The rule that is broken, if any.
    pub fault: Option<Fault>,
}

impl Protocol {
    pub(crate) fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(crate) fn granules(&self, set: Set) -> impl Iterator<Item = u8> {
        (0..self.bounds.granules as u8).filter(move |g| set & (1 << g) != 0)
    }

    pub(crate) fn all(&self) -> Set {
        (1 << self.bounds.granules) - 1
    }
}

/// One step of one actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The device starts a DMA write to this granule.
    Write(u8),
    /// The device posts the oldest entry it owes.
    Post,
    /// The device sees that a granule, whose entry it owes, is not tracked, ahead of older ones.
    Skip(u8),
    /// The data of the oldest entry becomes visible ([`Fault::EntryBeforeData`] only).
    LateData,
    /// The device begins to log ([`Fault::StartEarly`] only).
    LateStart,
    /// The device executes the SYNC that was given, or its first half.
    Sync,
    /// The device has no room for the marker, and says so.
    Busy,
    /// The device posts the marker that it owes ([`Fault::MarkerAfterClear`] only).
    LateMarker,
    /// The device executes LOG_ADD, and the driver sees it.
    Add,
    /// The function is reset.
    Reset,
    /// An entry becomes something unknown.
    Spoil,
    /// The management function is lost.
    Lose,
    /// The driver takes one entry, or its next step without one.
    Drive,
    /// The driver gives back all slots that it has taken.
    Return,
    /// The driver sees the completion of its SYNC.
    Answer,
    /// The driver has lost patience with its SYNC: it is dropped and given again.
    Abort,
    /// The VMM calls START.
    Start,
    /// The VMM calls REPORT for all that is mapped.
    Report,
    /// The VMM unmaps this granule and calls REPORT for it, for the last time.
    Unmap(u8),
    /// The VMM copies this granule.
    Copy(u8),
    /// The VMM suspends the device.
    Suspend,
}
