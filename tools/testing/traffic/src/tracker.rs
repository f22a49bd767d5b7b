// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Which messages of a stream have come.

use rangemap::RangeInclusiveSet;
use serde::{Deserialize, Serialize};

use crate::message::{Fault, Header};

/// At most so many gaps and faults are listed one by one in a [`Report`]; all are counted.
const LISTED: usize = 64;

/// Consecutive sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// First missing number.
    pub first: u64,
    /// Last missing number.
    pub last: u64,
}

/// What a [`Tracker`] has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Undamaged messages, each counted once.
    pub received: u64,
    /// Payload bytes of these.
    pub bytes: u64,
    /// One more than the highest number seen.
    pub next: u64,
    /// Numbers below `next` that have not come.
    pub missing: u64,
    /// Undamaged messages that had come before.
    pub duplicates: u64,
    /// Undamaged messages that came after one with a higher number.
    pub reordered: u64,
    /// Damaged messages. A damaged message whose header is good counts as come, so it is
    /// not missing too.
    pub corrupt: u64,
    /// The missing numbers as ranges, the first few.
    pub gaps: Vec<Gap>,
    /// Texts of the first few faults.
    pub faults: Vec<String>,
}

/// Account of one stream.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    seen: RangeInclusiveSet<u64>,
    highest: Option<u64>,
    report: Report,
}

impl Tracker {
    /// Enters one received message of this stream.
    pub fn enter(&mut self, message: &Result<Header, Fault>) {
        match message {
            Ok(header) => self.good(header),
            Err(fault) => self.damaged(fault),
        }
    }

    fn good(&mut self, header: &Header) {
        if self.seen.contains(&header.seq) {
            self.report.duplicates += 1;
            return;
        }
        self.report.received += 1;
        self.report.bytes += u64::from(header.len);
        self.arrived(header.seq);
    }

    fn damaged(&mut self, fault: &Fault) {
        self.report.corrupt += 1;
        if self.report.faults.len() < LISTED {
            self.report.faults.push(fault.to_string());
        }
        if let Fault::Body { header, .. } | Fault::Length { header, .. } = fault {
            if !self.seen.contains(&header.seq) {
                self.arrived(header.seq);
            }
        }
    }

    fn arrived(&mut self, seq: u64) {
        self.seen.insert(seq..=seq);
        if self.highest.is_some_and(|h| seq < h) {
            self.report.reordered += 1;
        } else {
            self.highest = Some(seq);
        }
    }

    /// The account so far.
    pub fn report(&self) -> Report {
        let mut report = self.report.clone();
        let Some(highest) = self.highest else {
            return report;
        };
        report.next = highest.saturating_add(1);
        for gap in self.seen.gaps(&(0..=highest)) {
            report.missing += gap.end() - gap.start() + 1;
            if report.gaps.len() < LISTED {
                report.gaps.push(Gap {
                    first: *gap.start(),
                    last: *gap.end(),
                });
            }
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(seq: u64) -> Header {
        Header {
            stream: 1,
            seq,
            len: 100,
        }
    }

    fn run(seqs: &[u64]) -> Report {
        let mut tracker = Tracker::default();
        for &seq in seqs {
            tracker.enter(&Ok(header(seq)));
        }
        tracker.report()
    }

    #[test]
    fn a_whole_stream_has_nothing_to_report() {
        let report = run(&[0, 1, 2, 3]);
        assert_eq!((report.received, report.bytes, report.next), (4, 400, 4));
        assert_eq!(
            (report.missing, report.duplicates, report.reordered),
            (0, 0, 0)
        );
        assert_eq!(Tracker::default().report(), Report::default());
    }

    #[test]
    fn gaps_include_the_start() {
        let report = run(&[2, 3, 7]);
        assert_eq!(report.missing, 5);
        assert_eq!(
            report.gaps,
            [Gap { first: 0, last: 1 }, Gap { first: 4, last: 6 }]
        );
    }

    #[test]
    fn late_and_double_are_told_apart() {
        let report = run(&[0, 2, 1, 2, 3]);
        assert_eq!(
            (report.missing, report.reordered, report.duplicates),
            (0, 1, 1)
        );
    }

    #[test]
    fn damaged_is_neither_good_nor_missing() {
        let mut tracker = Tracker::default();
        tracker.enter(&Ok(header(0)));
        tracker.enter(&Err(Fault::Body {
            header: header(1),
            first: 30,
            last: 40,
            wrong: 5,
            zeros: false,
        }));
        tracker.enter(&Err(Fault::HeaderCrc));
        tracker.enter(&Ok(header(3)));
        let report = tracker.report();
        assert_eq!((report.received, report.corrupt, report.missing), (2, 2, 1));
        assert_eq!(report.faults.len(), 2);
    }

    #[test]
    fn the_last_number_there_is() {
        assert_eq!(run(&[u64::MAX]).next, u64::MAX);
    }
}
