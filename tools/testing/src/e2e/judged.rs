// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The judgement that each move of a guest has to pass, whichever test makes it: the NIC's log had
//! pages to name that nothing else knows, and did not name all there are.

use anyhow::{ensure, Context, Result};
use serde_json::json;

use super::{lab::Lab, trace::Trace, traffic::Traffic};

/// Pages that a migration may report without a log entry: parts of its ranges that START did not
/// name are dirty once (log rule 9), such as the windows of devices.
const UNTRACKED: u64 = 1024;

/// What a move has to show besides its end.
#[derive(Clone, Copy)]
pub enum Demand<'a> {
    /// The backlog of this traffic grew where only the log of the NIC could name its pages. The lab
    /// is that of the peer.
    Growth(&'a Traffic, &'a Lab),
    /// There is no such time, for this reason.
    NoWindow(NoWindow),
}

/// Why a move has no time in which only the log of the NIC can name the pages of a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWindow {
    /// The guest stood still before the migration began. The NIC may have written nothing.
    StandsStill,
    /// The guest has never run. The NIC may have written nothing.
    NeverRan,
    /// The test looks at something else, and its guest has no backlog.
    NoTraffic,
}

/// What the logs of all functions of a NIC have named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Written {
    granules: u64,
    lost: u64,
}

/// A move that is going to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    before: Written,
}

/// Shows that a move was judged: [`Journey::moved_to`](super::Journey::moved_to) demands it.
#[derive(Debug)]
#[must_use]
pub struct Judged(());

impl Watch {
    /// Begins before the migration does, in the lab of the source.
    ///
    /// # Errors
    ///
    /// The NIC does not answer.
    pub fn begin(source: &Lab) -> Result<Self> {
        Ok(Self {
            before: Written::now(source)?,
        })
    }

    /// Judges a move that has completed; `trace` is that of the QEMU in `source`.
    ///
    /// # Errors
    ///
    /// The NIC wrote too little or nothing to the last, or the driver reported far more than it
    /// wrote; or the NIC wrote anything where nothing could be written. The NIC does not answer.
    pub fn judge(self, source: &Lab, trace: &Trace, demand: Demand<'_>) -> Result<Judged> {
        let written = Written::now(source)?.since(self.before);
        match demand {
            Demand::Growth(traffic, peer) => {
                traffic.expect_growth(peer, trace, source.clock_ms())?;
            }
            Demand::NoWindow(reason) => written.expect_none_if_quiet(reason)?,
        }
        written.expect_no_more_than_twice(trace)?;
        Ok(Judged(()))
    }
}

impl Written {
    fn now(lab: &Lab) -> Result<Self> {
        let stats = lab.nic(&json!({"cmd": "stats"}))?;
        let sum = |key: &str| -> Result<u64> {
            let functions = stats["functions"].as_array().context("no functions")?;
            functions
                .iter()
                .map(|f| f["log"][key].as_u64().context("no counter of the log"))
                .sum()
        };
        Ok(Self {
            granules: sum("granules")?,
            lost: sum("lost")?,
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            granules: self.granules.saturating_sub(before.granules),
            lost: self.lost.saturating_sub(before.lost),
        }
    }

    /// A guest that stands still has a device that does: otherwise there was something to judge.
    fn expect_none_if_quiet(self, reason: NoWindow) -> Result<()> {
        let quiet = match reason {
            NoWindow::StandsStill | NoWindow::NeverRan => true,
            NoWindow::NoTraffic => false,
        };
        ensure!(
            !quiet || self == Self::default(),
            "{reason:?}, but the NIC wrote: {self:?}"
        );
        Ok(())
    }

    /// A driver that reports everything loses nothing and is of no use.
    fn expect_no_more_than_twice(self, trace: &Trace) -> Result<()> {
        let reported: u64 = trace.rounds.iter().map(|r| r.nic_pages).sum();
        let limit = 2 * self.granules + UNTRACKED;
        ensure!(
            self.lost > 0 || reported <= limit,
            "{reported} pages reported, but the NIC logged only {}",
            self.granules
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::e2e::trace::Round;

    fn reported(pages: u64) -> Trace {
        let round = Round {
            nic_pages: pages,
            ..Round::default()
        };
        Trace {
            rounds: vec![round.clone(), round],
            ..Trace::default()
        }
    }

    #[test]
    fn a_driver_that_reports_far_more_than_was_written_is_red() {
        let written = |granules, lost| Written { granules, lost };
        let judge = |written: Written, pages| written.expect_no_more_than_twice(&reported(pages));
        assert!(judge(written(100, 0), 100 + UNTRACKED / 2).is_ok());
        assert!(judge(written(100, 0), 101 + UNTRACKED / 2).is_err());
        assert!(
            judge(written(100, 1), 1 << 20).is_ok(),
            "all of it was lost"
        );
    }

    #[test]
    fn what_stands_still_writes_nothing() {
        let some = Written {
            granules: 1,
            lost: 0,
        };
        for reason in [NoWindow::StandsStill, NoWindow::NeverRan] {
            assert!(Written::default().expect_none_if_quiet(reason).is_ok());
            assert!(some.expect_none_if_quiet(reason).is_err());
        }
        assert!(some.expect_none_if_quiet(NoWindow::NoTraffic).is_ok());
    }
}
