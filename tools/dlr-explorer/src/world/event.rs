// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What happens in a run.

use super::scenario::Ask;

/// Something that has happened. A message about a wrong run lists its events, and the abstract
/// protocol follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// REPORT was called.
    Report(Ask),
    /// A write to this page: its data is visible, and is about to be announced.
    Write(u64),
    /// The write begins, if that is a step of its own.
    WriteBegins(u64),
    /// The write is held back.
    Held(u64),
    /// Many writes follow.
    Burst,
    /// It is held back no longer: the time is up.
    TimeUp,
    /// The NIC has written this word to the ring.
    Entry(u64),
    /// POSTED was read.
    Posted(u32),
    /// The driver has taken all entries before this count, and gives the slots back.
    Head(u32),
    /// LOG_ADD was executed.
    Add { page: u64, pages: u64 },
    /// A SYNC was given.
    SyncGiven { all: bool, cookie: u64 },
    /// A SYNC was executed.
    SyncExecuted { cookie: u64 },
    /// A SYNC was answered with BUSY.
    SyncBusy { cookie: u64 },
    /// The answer of a SYNC was dropped, and it was given again.
    SyncAgain { cookie: u64 },
    /// The driver has found LOST, and re-arms the log.
    Lost,
    /// The driver had no memory for a SYNC.
    Starved,
    /// The thread of the interrupt runs.
    Interrupt,
    /// The function was reset.
    Reset,
    /// An entry of an unknown type was posted.
    Spoilt,
    /// The management function was lost.
    Ended,
    /// The NIC cannot write the ring from now on.
    Fault,
    /// The VMM's memory has ended a REPORT early.
    Cut,
    /// REPORT has succeeded, and the VMM has copied the pages of this set.
    Copied(u64),
    /// The function was suspended.
    Suspended,
}
