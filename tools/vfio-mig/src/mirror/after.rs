// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The traffic after the move, or after a move that did not come to its end.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    counters::Counters,
    memory::SharedMemory,
    plan::{End, Plan},
    traffic::{Doorbells, Guest},
    transport::VirtioPci,
};
use crate::device::Device;

/// Goes on at `to`, in its memory; returns how many answers came.
///
/// # Errors
///
/// A register of the function cannot be accessed.
pub(super) fn resume_traffic(
    to: &End<'_>,
    function: &VirtioPci<'_, Device>,
    guest: &mut Guest,
    bells: &Doorbells,
    plan: &Plan,
    before: &Counters,
    problems: &mut Vec<String>,
) -> Result<u64> {
    if let Err(e) = function.check() {
        problems.push(format!("after the move: {e}"));
        return Ok(0);
    }
    if function.mac()? != guest.mac() {
        problems.push("the MAC address did not move along".to_owned());
    }
    guest.move_to(SharedMemory::clone(&to.memory));
    let end = Instant::now() + plan.patience;
    let after = loop {
        match guest.pump(to.device, bells) {
            Ok(true) => {}
            Ok(false) => thread::sleep(Duration::from_millis(1)),
            Err(e) => {
                problems.push(format!("traffic after the move: {e:#}"));
                break guest.counters();
            }
        }
        let counters = guest.counters();
        if counters.received >= before.received + plan.replies {
            break counters;
        }
        if Instant::now() > end {
            problems.push(format!(
                "only {} answers within {} s after the move",
                counters.received - before.received,
                plan.patience.as_secs()
            ));
            break counters;
        }
    };
    judge(&after, problems);
    Ok(after.received - before.received)
}

/// Each frame has to come once at most, with all bytes right.
pub(super) fn judge(counters: &Counters, problems: &mut Vec<String>) {
    if counters.corrupt > 0 || counters.duplicates > 0 {
        problems.push(format!(
            "{} corrupt and {} duplicate frames: {}",
            counters.corrupt,
            counters.duplicates,
            counters.faults.join("; ")
        ));
    }
}
