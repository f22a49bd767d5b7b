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
    trace::Trace,
    traffic::{id, next, Traffic, BACKLOG},
};

/// Datagrams of the backlog that [`Traffic::expect_growth`] demands.
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
    /// it trickle, by five times what [`Traffic::expect_growth`] demands. Pre-copy of a guest that does little is
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

    /// Fails unless the NIC wrote enough of the backlog where only its log could name the pages: after
    /// the second bitmap, when QEMU had sent all memory once, and, with `to_the_last`, between the last
    /// bitmap of pre-copy and the suspension. Without this the memory oracle would be content with a NIC
    /// that logs nothing.
    /// `lab` has the peer; `clock` is [`Lab::clock_ms`] of the box whose QEMU wrote the trace.
    ///
    /// # Errors
    ///
    /// Says how many there were. The trace has no two bitmaps or no suspension.
    pub fn expect_growth(
        &self,
        lab: &Lab,
        trace: &Trace,
        clock: i64,
        to_the_last: bool,
    ) -> Result<()> {
        let window = trace
            .window()
            .context("no window between bitmap and suspension")?;
        let host = |ms: u64| ms.saturating_add_signed(clock);
        for n in 0..self.nics() {
            let arrivals = |from: u64| -> Result<u64> {
                let answer = lab.wire(json!({"cmd": "arrivals", "stream": BACKLOG + id(n),
                    "from_ms": host(from), "to_ms": host(window.suspended)}))?;
                answer["count"].as_u64().context("no count of arrivals")
            };
            let all = arrivals(window.second_bitmap)?;
            ensure!(
                all >= GROWTH,
                "interface {n}: only {all} datagrams of the backlog were written after the second \
                 bitmap: the memory oracle has nothing to judge ({window:?})"
            );
            let last = arrivals(window.last_bitmap)?;
            ensure!(
                !to_the_last || last > 0,
                "interface {n}: no datagram of the backlog was written after the last bitmap of \
                 pre-copy ({window:?})"
            );
        }
        Ok(())
    }
}
