// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Switches that make the NIC break one rule each, to prove that tests notice.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

/// One broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SabotageKind {
    /// Every n-th WRITE entry is not posted.
    DropLogEntry,
    /// Entries are posted before their data (rule 1).
    EntryBeforeData,
    /// SYNC does not clear the filter (rule 3).
    FilterNotCleared,
    /// SYNC clears the filter first and posts the marker n milliseconds later (rule 3).
    MarkerTooEarly,
    /// A full ring loses entries without LOST (rule 6).
    LostNotPosted,
    /// Suspend completes before the last writes are done (rule 7).
    SuspendEarly,
    /// One bit of the saved state is flipped.
    StateBitFlip,
    /// The saved state ends without its trailer.
    StateTruncated,
    /// A read of POSTED pushes no entry (rule 5).
    PostedNotFlushed,
    /// The entry of the last writes is posted n milliseconds after SUSPEND has completed (rule 7).
    EntryAfterSuspend,
    /// A full ring: SYNC of everything leaves logging off (rule 6).
    NotRearmed,
    /// A reset of the function ends its logging, silently (rule 8).
    ResetEndsLog,
    /// LOG_ADD is acknowledged, and the range not tracked (rule 9).
    AddNotTracked,
    /// LOG_START completes n milliseconds before writes are logged.
    StartTooEarly,
    /// A run of granules is posted as one granule shorter.
    RunTooShort,
    /// Writes of used rings are not logged.
    DropUsedRing,
    /// Answers of the control queue are not logged.
    DropControl,
    /// Writes that ask for doorbells, or for none, are not logged.
    DropEvent,
    /// The saved state has right checksums and receive indices that are n buffers old.
    StateStale,
    /// At the resume to RUNNING the function writes a page of rubbish at address n.
    StrayWrite,
    /// ATTEST completes and shows nothing: the words stay as they were.
    AttestHidden,
    /// ATTEST shows another nonce than the one it was given.
    AttestForeign,
}

impl SabotageKind {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::DropLogEntry,
        Self::EntryBeforeData,
        Self::FilterNotCleared,
        Self::MarkerTooEarly,
        Self::LostNotPosted,
        Self::SuspendEarly,
        Self::StateBitFlip,
        Self::StateTruncated,
        Self::PostedNotFlushed,
        Self::EntryAfterSuspend,
        Self::NotRearmed,
        Self::ResetEndsLog,
        Self::AddNotTracked,
        Self::StartTooEarly,
        Self::RunTooShort,
        Self::DropUsedRing,
        Self::DropControl,
        Self::DropEvent,
        Self::StateStale,
        Self::StrayWrite,
        Self::AttestHidden,
        Self::AttestForeign,
    ];

    /// Name on the command line and on the control socket.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DropLogEntry => "drop-log-entry",
            Self::EntryBeforeData => "entry-before-data",
            Self::FilterNotCleared => "filter-not-cleared",
            Self::MarkerTooEarly => "marker-too-early",
            Self::LostNotPosted => "lost-not-posted",
            Self::SuspendEarly => "suspend-early",
            Self::StateBitFlip => "state-bit-flip",
            Self::StateTruncated => "state-truncated",
            Self::PostedNotFlushed => "posted-not-flushed",
            Self::EntryAfterSuspend => "entry-after-suspend",
            Self::NotRearmed => "not-rearmed",
            Self::ResetEndsLog => "reset-ends-log",
            Self::AddNotTracked => "add-not-tracked",
            Self::StartTooEarly => "start-too-early",
            Self::RunTooShort => "run-too-short",
            Self::DropUsedRing => "drop-used-ring",
            Self::DropControl => "drop-control",
            Self::DropEvent => "drop-event",
            Self::StateStale => "state-stale",
            Self::StrayWrite => "stray-write",
            Self::AttestHidden => "attest-hidden",
            Self::AttestForeign => "attest-foreign",
        }
    }
}

impl fmt::Display for SabotageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SabotageKind {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|k| k.name() == s)
            .ok_or_else(|| {
                let known: Vec<_> = Self::ALL.iter().map(|k| k.name()).collect();
                format!("unknown sabotage `{s}`; known: {}", known.join(", "))
            })
    }
}

/// The switches of one NIC: for each kind a number, 0 for off. What the number means
/// beyond on and off is said at [`SabotageKind`].
#[derive(Debug, Default)]
pub struct Sabotage([AtomicU64; SabotageKind::ALL.len()]);

impl Sabotage {
    /// Sets the switch; 0 turns it off.
    pub fn set(&self, kind: SabotageKind, n: u64) {
        self.0[kind as usize].store(n, Ordering::Relaxed);
    }

    /// The number it is set to, or `None` when it is off.
    pub fn get(&self, kind: SabotageKind) -> Option<u64> {
        match self.0[kind as usize].load(Ordering::Relaxed) {
            0 => None,
            n => Some(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_switch_and_a_name_of_its_own() {
        let switches = Sabotage::default();
        for (n, kind) in (1..).zip(SabotageKind::ALL) {
            assert_eq!(kind.name().parse(), Ok(kind));
            switches.set(kind, n);
        }
        for (n, kind) in (1..).zip(SabotageKind::ALL) {
            assert_eq!(switches.get(kind), Some(n));
        }
        assert!("x".parse::<SabotageKind>().is_err());
    }
}
