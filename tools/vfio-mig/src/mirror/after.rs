// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The traffic after the move.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    memory::SharedMemory,
    plan::{End, Migration, Plan},
    traffic::{Counters, Doorbells, Guest},
    transport::VirtioPci,
};
use crate::device::Device;

/// Time for the answers after the move.
const AFTER: Duration = Duration::from_secs(20);

/// Goes on at the target, in the shadow memory.
pub(super) fn resume_traffic(
    to: &End<'_>,
    function: &VirtioPci<'_, Device>,
    guest: &mut Guest,
    bells: &Doorbells,
    plan: &Plan,
    before: &Counters,
    migration: &mut Migration,
) -> Result<()> {
    if let Err(e) = function.check() {
        migration.problems.push(format!("after the move: {e}"));
        return Ok(());
    }
    if function.mac()? != guest.mac() {
        migration
            .problems
            .push("the MAC address did not move along".to_owned());
    }
    guest.move_to(SharedMemory::clone(&to.memory));
    let end = Instant::now() + AFTER;
    let after = loop {
        match guest.pump(to.device, bells) {
            Ok(true) => {}
            Ok(false) => thread::sleep(Duration::from_millis(1)),
            Err(e) => {
                migration
                    .problems
                    .push(format!("traffic after the move: {e:#}"));
                break guest.counters();
            }
        }
        let counters = guest.counters();
        if counters.received >= before.received + plan.replies {
            break counters;
        }
        if Instant::now() > end {
            migration.problems.push(format!(
                "only {} answers within {} s after the move",
                counters.received - before.received,
                AFTER.as_secs()
            ));
            break counters;
        }
    };
    migration.replies_after = after.received - before.received;
    if after.corrupt > 0 || after.duplicates > 0 {
        migration.problems.push(format!(
            "{} corrupt and {} duplicate frames: {}",
            after.corrupt,
            after.duplicates,
            after.faults.join("; ")
        ));
    }
    Ok(())
}
