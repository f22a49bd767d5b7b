// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Migrations that do not come to their end: given up on purpose, or because a device refused a
//! call. The guest then goes on where it is.

use anyhow::{ensure, Context, Error, Result};

use super::{
    after::{judge, resume_traffic},
    passage::{forward, Passage},
    plan::{Cancel, Stay},
    traffic::{Doorbells, Guest},
    transport::VirtioPci,
};
use crate::{
    session::{stop_copy_all, Back, Migratable},
    state::State,
};

/// Bytes of the state that are read before a migration is given up in the midst of it.
const PIECE: usize = 4096;

/// The calls of a migration up to the point where it is given up.
///
/// # Errors
///
/// A device refuses a call.
pub(super) fn up_to(
    passage: &mut Passage<'_>,
    guest: &mut Guest,
    bells: &Doorbells,
    point: Cancel,
) -> Result<()> {
    // While its guest runs: that is all the difference to what `stay` does.
    let mut and_then = |passage: &mut Passage<'_>| match point {
        Cancel::PreCopy => passage.source.to(State::Running).context("source"),
        _ => Ok(()),
    };
    passage.live(guest, bells, &mut and_then)?;
    if point == Cancel::PreCopy {
        return Ok(());
    }
    if passage.has_pre_copy() && passage.from.device.flags().p2p() {
        passage.source.to(State::PreCopyP2p).context("source")?;
    }
    if point == Cancel::P2p {
        return Ok(());
    }
    passage.source.to(State::StopCopy).context("source")?;
    let last = passage.round(passage.plan.rounds + 1)?;
    passage.rounds.push(last);
    match point {
        Cancel::Reading => {
            use std::io::Read;
            let mut piece = [0; PIECE];
            let got = passage.source.data()?.read(&mut piece);
            let got = got.context("reading device state in STOP_COPY")?;
            let data = piece.get(..got).unwrap_or_default();
            forward(&mut passage.target, data)?;
        }
        Cancel::Saved => {
            let target = &mut passage.target;
            stop_copy_all(
                &mut passage.source,
                &mut passage.stats,
                &mut passage.buf,
                &mut |_, data| forward(target, data),
            )?;
        }
        Cancel::PreCopy | Cancel::P2p | Cancel::StopCopy => {}
    }
    Ok(())
}

/// Brings both devices back to RUNNING; the traffic has to go on at the source. `error` is why the
/// migration ended, if it was not given up on purpose.
///
/// # Errors
///
/// The devices do not come back even by a reset.
pub(super) fn stay(
    mut passage: Passage<'_>,
    guest: &mut Guest,
    bells: &Doorbells,
    error: Option<&Error>,
) -> Result<Stay> {
    let (from, plan) = (passage.from, passage.plan);
    let mut refused = error.map(|e| format!("{e:#}"));
    // A VMM stops the log first when it cancels, and resumes its devices then.
    if let Err(e) = passage.stop_log() {
        refused.get_or_insert(format!("{e:#}"));
    }
    let way = passage.source.back().context("source, to go on")?;
    passage.target.reset().context("resetting the target")?;
    for (end, what) in [(from, "source"), (passage.to, "target")] {
        let state = end.device.state()?;
        ensure!(
            state == State::Running,
            "the {what} is in {state} after a migration that ended early"
        );
    }
    let orderly = way == Back::Orderly && !passage.left;
    let mut stay = Stay {
        at: from.device.node().name.clone(),
        cancelled: plan.cancel,
        refused,
        orderly,
        rounds: std::mem::take(&mut passage.rounds),
        replies_after: 0,
        problems: std::mem::take(&mut passage.problems),
    };
    if !orderly && !plan.carry_on {
        stay.problems
            .push("the source did not come back but by a reset".to_owned());
    }
    if orderly && stay.problems.is_empty() {
        let function = VirtioPci::new(from.device).context("source")?;
        let (before, problems) = (guest.counters(), &mut stay.problems);
        stay.replies_after =
            resume_traffic(from, &function, guest, bells, plan, &before, problems)?;
    } else {
        judge(&guest.counters(), &mut stay.problems);
    }
    Ok(stay)
}
