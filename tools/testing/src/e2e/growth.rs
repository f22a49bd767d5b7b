// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Pages that only the log of the NIC can name: whether a migration had enough of them.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use serde_json::{json, Value};

use super::{
    lab::Lab,
    trace::{Trace, Window},
    traffic::{id, next, Traffic, BACKLOG},
};

/// Datagrams of the backlog that a move has to write where only the log can name them.
const GROWTH: u64 = 20;
/// Datagrams for which [`Traffic::has_grown`] waits: more, because the others are found by comparing times
/// of two clocks, and to have some in several rounds.
const ENOUGH: u64 = 5 * GROWTH;
/// How long [`Lab::let_device_write_to_the_last`] delays a SUSPEND, in milliseconds: enough for a dozen
/// datagrams of the slowest backlog.
const LAST_MS: u64 = 300;
/// How long the peer may take to send them.
const LIMIT: Duration = Duration::from_secs(60);

/// Where the backlog of each interface was when it was first asked for.
#[derive(Debug, Default)]
pub struct Growth(Option<Vec<u64>>);

impl Lab {
    /// Lets the NIC carry out the next SUSPEND late. QEMU suspends the device soon after the last bitmap
    /// of pre-copy; without the delay it depends on the scheduler whether the device writes anything in
    /// between.
    ///
    /// # Errors
    ///
    /// The NIC does not answer.
    pub fn let_device_write_to_the_last(&self) -> Result<()> {
        let action = json!({ "delay": LAST_MS });
        self.nic(&json!({"cmd": "fault", "opcode": "suspend", "action": action}))
            .map(drop)
    }
}

impl Traffic {
    /// Whether the backlog of each interface has grown since the first call with this `growth`, which lets
    /// it trickle, by five times what a move has to show. Pre-copy of a guest that does little is
    /// shorter than that if nothing holds it.
    ///
    /// Callers wait for two rounds first: before all memory has been sent once nothing depends on the log,
    /// and on a slow machine the backlog would come to its end.
    ///
    /// # Errors
    ///
    /// The NIC does not answer.
    pub fn has_grown(&self, lab: &Lab, growth: &mut Growth) -> Result<bool> {
        let stats = lab.wire(json!({"cmd": "stats"}))?;
        let now = self.backlogs(&stats)?;
        let Some(first) = &growth.0 else {
            growth.0 = Some(now);
            self.trickle(lab)?;
            return Ok(false);
        };
        Ok(first
            .iter()
            .zip(&now)
            .all(|(first, now)| now.saturating_sub(*first) >= ENOUGH))
    }

    /// Waits until [`Traffic::has_grown`].
    ///
    /// # Errors
    ///
    /// The NIC does not answer, or its peer does not send.
    pub fn let_grow(&self, lab: &Lab) -> Result<()> {
        let (mut growth, end) = (Growth::default(), Instant::now() + LIMIT);
        while !self.has_grown(lab, &mut growth)? {
            ensure!(Instant::now() < end, "the backlog does not grow");
            sleep(Duration::from_millis(30));
        }
        Ok(())
    }

    fn backlogs(&self, stats: &Value) -> Result<Vec<u64>> {
        (0..self.nics())
            .map(|n| next(stats, BACKLOG + id(n)))
            .collect()
    }

    /// Fails unless the NIC wrote enough of the backlog where only its log could name the pages:
    /// after the second bitmap, when QEMU had sent all memory once, and between the last bitmap of
    /// pre-copy and the suspension. Without this the memory oracle would be content with a NIC that
    /// logs nothing. `lab` has the peer; `clock` is [`Lab::clock_ms`] of the box whose QEMU wrote
    /// the trace.
    ///
    /// # Errors
    ///
    /// Says how many there were. The trace has no two bitmaps or no suspension.
    pub(super) fn expect_growth(&self, lab: &Lab, trace: &Trace, clock: i64) -> Result<()> {
        let host = |ms: u64| ms.saturating_add_signed(clock);
        for n in 0..self.nics() {
            let arrivals = |from: u64, to: u64| -> Result<u64> {
                let answer = lab.wire(json!({"cmd": "arrivals", "stream": BACKLOG + id(n),
                    "from_ms": host(from), "to_ms": host(to)}))?;
                answer["count"].as_u64().context("no count of arrivals")
            };
            enough(trace.window(), arrivals).with_context(|| format!("interface {n}"))?;
        }
        Ok(())
    }
}

/// Judges the datagrams of a backlog that `arrivals` counts between two times.
fn enough(window: Option<Window>, arrivals: impl Fn(u64, u64) -> Result<u64>) -> Result<()> {
    let window = window.context("no window between bitmap and suspension")?;
    let all = arrivals(window.second_bitmap, window.suspended)?;
    ensure!(
        all >= GROWTH,
        "only {all} datagrams of the backlog were written after the second bitmap: the memory oracle has \
         nothing to judge ({window:?})"
    );
    let last = arrivals(window.last_bitmap, window.suspended)?;
    ensure!(
        last > 0,
        "no datagram of the backlog was written after the last bitmap of pre-copy ({window:?})"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window {
        second_bitmap: 20,
        last_bitmap: 30,
        suspended: 40,
    };

    /// `all` of them, and `last` of these to the last.
    fn judge(window: Option<Window>, all: u64, last: u64) -> Result<()> {
        enough(window, |from, to| {
            assert_eq!(to, WINDOW.suspended);
            Ok(if from == WINDOW.last_bitmap {
                last
            } else {
                all
            })
        })
    }

    #[test]
    fn a_move_needs_a_backlog_that_only_the_log_can_name() {
        assert!(judge(Some(WINDOW), GROWTH, 1).is_ok());
        assert!(judge(Some(WINDOW), GROWTH - 1, 1).is_err());
        assert!(judge(Some(WINDOW), GROWTH, 0).is_err());
    }

    #[test]
    fn a_move_without_a_window_is_not_passed_over() {
        assert!(judge(None, GROWTH, 1).is_err());
    }
}
