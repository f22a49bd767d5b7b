// SPDX-License-Identifier: Apache-2.0 OR MIT

//! How a migration goes, and what came out.

use std::time::Duration;

use serde::Serialize;

use super::{
    cloud::Shape,
    memory::{LostPage, SharedMemory},
};
use crate::device::Device;

/// Where a migration is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Cancel {
    /// While the guest runs.
    PreCopy,
    /// When the guest has stopped and the device has begun to.
    P2p,
    /// When the device has stopped, before its last state is read.
    StopCopy,
    /// In the midst of its last state.
    Reading,
    /// When the target has all of its state.
    Saved,
}

/// How to migrate.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds under traffic, after the first copy of everything.
    pub rounds: u32,
    /// Time between two rounds.
    pub interval: Duration,
    /// Time between the last copy and the comparison: a function that still writes then did
    /// not stop when it said so.
    pub settle: Duration,
    /// Answers that have to come after the move.
    pub replies: u64,
    /// Time that they may take.
    pub patience: Duration,
    /// Bytes per page of the log to ask START for; REPORT asks in pages of 4 KiB all the same.
    pub page_size: u64,
    /// REPORT asks for so many pages at a time; for a whole range by default.
    pub report_pages: Option<u64>,
    /// START names the first range only.
    pub late_ranges: bool,
    /// After the move an interrupt of the receive queue has to come by itself.
    pub interrupt: bool,
    /// Whose order of calls.
    pub shape: Shape,
    /// Give it up there.
    pub cancel: Option<Cancel>,
    /// A call that fails ends the migration only: the guest goes on at the source.
    pub carry_on: bool,
}

/// One end: a function and the memory that it reaches.
#[derive(Clone)]
pub struct End<'a> {
    /// The function.
    pub device: &'a Device,
    /// The memory.
    pub memory: SharedMemory,
}

/// One round.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// Its number; the last one is that of the stopped function.
    pub round: u32,
    /// Pages that the device's log named.
    pub reported: u64,
    /// Pages that the CPU wrote.
    pub cpu: u64,
    /// Pages copied: either of them.
    pub copied: u64,
    /// The log named everything: it had lost entries and said so.
    pub all_dirty: bool,
    /// Time of the REPORT calls.
    pub report_us: u64,
    /// Device state that went over in this round.
    pub state_bytes: u64,
}

/// A lost page with its name.
#[derive(Clone, Debug, Serialize)]
pub struct Lost {
    /// Where and how.
    #[serde(flatten)]
    pub page: LostPage,
    /// What it is.
    pub what: &'static str,
}

/// One migration.
#[derive(Clone, Debug, Serialize)]
pub struct Migration {
    /// Function that was left.
    pub from: String,
    /// Function that was moved to.
    pub to: String,
    /// Rounds, the last one with the function stopped.
    pub rounds: Vec<Round>,
    /// Number of pages that differ.
    pub lost_pages: u64,
    /// The first of them.
    pub lost: Vec<Lost>,
    /// Device state moved while running, and when stopped.
    pub pre_copy_bytes: u64,
    /// Device state moved when stopped.
    pub stop_copy_bytes: u64,
    /// Time in which the function could not work.
    pub stopped_ms: f64,
    /// Answers received before the stop.
    pub replies_before: u64,
    /// Answers received after the move.
    pub replies_after: u64,
    /// What went wrong beside lost pages; empty when all is well.
    pub problems: Vec<String>,
}

/// A migration after which the guest is where it was.
#[derive(Clone, Debug, Serialize)]
pub struct Stay {
    /// Function at which it stays.
    pub at: String,
    /// Where it was to be given up.
    pub cancelled: Option<Cancel>,
    /// The call that failed, and how.
    pub refused: Option<String>,
    /// The function came back by the state machine. If not, the guest was set up anew.
    pub orderly: bool,
    /// Rounds up to then.
    pub rounds: Vec<Round>,
    /// Answers received afterwards.
    pub replies_after: u64,
    /// What went wrong beside that; empty when all is well.
    pub problems: Vec<String>,
}

/// How a migration ended.
#[derive(Debug)]
pub enum Ended {
    /// The guest runs at the target, unless it is not all well.
    Moved(Migration),
    /// The guest is where it was.
    Stayed(Stay),
}

/// What is wrong with a log that named no page in `live` rounds while the guest ran, or none in those
/// after the stop. The traffic has made the function write before the first and before the last of them.
pub(super) fn silence(rounds: &[Round], live: usize) -> Vec<String> {
    let (running, stopped) = rounds.split_at(live.min(rounds.len()));
    let silent = |part: &[Round]| part.iter().all(|round| round.reported == 0);
    [
        (live > 0 && silent(running), "while the guest ran"),
        (silent(stopped), "after the stop"),
    ]
    .into_iter()
    .filter(|(wrong, _)| *wrong)
    .map(|(_, when)| format!("the log named no page {when}"))
    .collect()
}

impl Migration {
    /// Nothing lost, nothing else wrong?
    pub fn passed(&self) -> bool {
        self.lost_pages == 0 && self.problems.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(reported: &[u64]) -> Vec<Round> {
        let round = |(number, reported): (u32, &u64)| Round {
            round: number,
            reported: *reported,
            cpu: 1,
            copied: reported + 1,
            all_dirty: false,
            report_us: 1,
            state_bytes: 0,
        };
        (1..).zip(reported).map(round).collect()
    }

    #[test]
    fn a_log_that_names_nothing_is_wrong() {
        for (reported, live) in [(&[3, 0, 1][..], 2), (&[1], 0), (&[5, 1, 0], 1)] {
            assert_eq!(silence(&rounds(reported), live), [""; 0], "{reported:?}");
        }
        let (ran, stopped) = ("while the guest ran", "after the stop");
        for (reported, live, when) in [
            (&[0, 0, 1][..], 2, ran),
            (&[3, 2, 0], 2, stopped),
            (&[0], 0, stopped),
            (&[], 0, stopped),
        ] {
            let wanted = format!("the log named no page {when}");
            assert_eq!(silence(&rounds(reported), live), [wanted], "{reported:?}");
        }
        assert_eq!(silence(&rounds(&[0, 0]), 1).len(), 2);
    }
}
