// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One migration: rounds under traffic, the stop, the comparison, the move.

use std::{thread, time::Instant};

use anyhow::{bail, ensure, Context, Result};
use vmm_sys_util::eventfd::EventFd;

use super::{
    after::resume_traffic,
    cloud,
    counters::Counters,
    interrupt, layout,
    passage::{forward, Passage},
    plan::{silence, End, Ended, Lost, Migration, Plan},
    stay,
    traffic::{Doorbells, Guest},
    transport::VirtioPci,
};
use crate::{
    device::Device,
    image::Phase,
    output::Ui,
    session::{stop_copy_all, Back, Migratable, Walk},
    state::State,
};

/// Resets the source and sets its driver up anew.
pub type Reboot<'a> = dyn Fn() -> Result<(Guest, Doorbells)> + 'a;

/// Lost pages that are named, at most.
const NAMED: usize = 64;

/// Migrates the function of `from`, with its driver, to that of `to`. `reboot` happens once the log is on.
/// The doorbells in the answer are those of the function that the guest has then.
///
/// # Errors
///
/// A device refuses a call (unless the plan is to carry on), or the traffic does not run at all. What the
/// comparison finds is no error but in the answer. Both devices are RUNNING in any case.
pub fn migrate(
    from: &End<'_>,
    to: &End<'_>,
    (guest, bells): (&mut Guest, &Doorbells),
    plan: &Plan,
    ui: &Ui,
    reboot: Option<&Reboot<'_>>,
) -> Result<(Ended, Doorbells)> {
    let mut passage = Passage::new(from, to, plan, ui)?;
    let mut bells = *bells;
    let error = match whole(&mut passage, guest, &mut bells, reboot) {
        Ok(Some(migration)) => return Ok((Ended::Moved(migration), bells)),
        Ok(None) => None,
        // The user's wish to stop is no fault to carry on after.
        Err(e) if plan.carry_on && !ui.stopped() => Some(e),
        Err(e) => return Err(e),
    };
    let stay = stay::stay(passage, guest, &bells, error.as_ref())?;
    Ok((Ended::Stayed(stay), bells))
}

/// All of it; `None` if it was given up as planned.
fn whole(
    passage: &mut Passage<'_>,
    guest: &mut Guest,
    bells: &mut Doorbells,
    reboot: Option<&Reboot<'_>>,
) -> Result<Option<Migration>> {
    passage.begin()?;
    if let Some(reboot) = reboot {
        (*guest, *bells) = reboot()?;
    }
    passage.pre_copy()?;
    if let Some(point) = passage.plan.cancel {
        stay::up_to(passage, guest, bells, point)?;
        return Ok(None);
    }
    let begin = passage.live(guest, bells, &mut |_| Ok(()))?;
    let before = guest.counters();
    stop(passage)?;
    let moving = begin.elapsed();

    thread::sleep(passage.plan.settle);
    let mut migration = compared(passage, &before)?;

    // The source is stopped or gives up before the target begins: there is one address on the wire.
    let resume = Instant::now();
    let to = passage.to;
    let (function, event) = match hand_over(passage) {
        // A refusal does not excuse what was found before.
        Err(e) if !migration.passed() => {
            migration.problems.push(format!("{e:#}"));
            return Ok(Some(migration));
        }
        handed => handed?,
    };
    migration.stopped_ms = (moving + resume.elapsed()).as_secs_f64() * 1e3;
    // Before the guest has looked at a ring or rung a doorbell.
    if passage.plan.interrupt {
        let comes = event.map(|event| interrupt::comes(&event, passage.plan.patience));
        if !comes.transpose()?.unwrap_or_default() {
            let problem = "the target raised no interrupt by itself";
            migration.problems.push(problem.to_owned());
        }
    }
    *bells = Doorbells::of(&function, guest)?;
    if migration.lost_pages == 0 {
        let (plan, problems) = (passage.plan, &mut migration.problems);
        migration.replies_after =
            resume_traffic(to, &function, guest, bells, plan, &before, problems)?;
    }
    Ok(Some(migration))
}

/// Stops the source, takes the last report, and moves the rest of the state.
fn stop(passage: &mut Passage<'_>) -> Result<()> {
    let number = passage.plan.rounds + 1;
    if passage.is_cloud() {
        passage.source.to(State::Stop).context("source")?;
        let first = passage.round(number)?;
        passage.rounds.push(first);
        let image = cloud::snapshot(&mut passage.source, passage.from.device)?;
        let mut last = passage.round(number + 1)?;
        cloud::restore(&mut passage.target, &image)?;
        passage.stats.stop_copy_bytes = image.len() as u64;
        last.state_bytes = passage.stats.stop_copy_bytes;
        passage.rounds.push(last);
        return Ok(());
    }
    if passage.has_pre_copy() && passage.from.device.flags().p2p() {
        passage.source.to(State::PreCopyP2p).context("source")?;
    }
    passage.source.to(State::StopCopy).context("source")?;
    let mut last = passage.round(number)?;
    let target = &mut passage.target;
    stop_copy_all(
        &mut passage.source,
        &mut passage.stats,
        &mut passage.buf,
        &mut |_: Phase, data| forward(target, data),
    )?;
    last.state_bytes = passage.stats.stop_copy_bytes;
    passage.rounds.push(last);
    passage.source.to(State::Stop).context("source")
}

/// Compares all memory.
fn compared(passage: &mut Passage<'_>, before: &Counters) -> Result<Migration> {
    let (from, to) = (passage.from, passage.to);
    let lost = to.memory.compare(&from.memory)?;
    let silence = silence(&passage.rounds, passage.plan.rounds as usize);
    passage.problems.extend(silence);
    let named = lost.iter().take(NAMED).map(|page| Lost {
        page: page.clone(),
        what: layout::describe(page.iova),
    });
    Ok(Migration {
        from: from.device.node().name.clone(),
        to: to.device.node().name.clone(),
        rounds: std::mem::take(&mut passage.rounds),
        lost_pages: lost.len() as u64,
        lost: named.collect(),
        pre_copy_bytes: passage.stats.pre_copy_bytes,
        stop_copy_bytes: passage.stats.stop_copy_bytes,
        stopped_ms: 0.0,
        replies_before: before.received,
        replies_after: 0,
        problems: std::mem::take(&mut passage.problems),
    })
}

/// The source is given up, the target runs, with its interrupt if it has one.
fn hand_over<'a>(passage: &mut Passage<'a>) -> Result<(VirtioPci<'a, Device>, Option<EventFd>)> {
    let (from, to) = (passage.from.device, passage.to.device);
    passage.left = true;
    if passage.is_cloud() {
        let event = interrupt::connect(to)?;
        let function = activate(to, &mut passage.target)?;
        // In STOP, now that the destination has said that it runs.
        passage.stop_log()?;
        cloud::shutdown(&mut passage.source, from)?;
        leave(from, &mut passage.source)?;
        return Ok((function, Some(event)));
    }
    leave(from, &mut passage.source)?;
    passage.stop_log()?;
    let event = match passage.plan.interrupt {
        true => Some(interrupt::connect(to)?),
        false => None,
    };
    Ok((activate(to, &mut passage.target)?, event))
}

/// Gives the source up.
fn leave(device: &Device, source: &mut Walk<'_, Device>) -> Result<()> {
    source.reset().context("resetting the source")?;
    ensure!(
        device.state()? == State::Running,
        "the source is not RUNNING after its reset"
    );
    Ok(())
}

/// Lets the target run. As a VMM does it: configuration space while still RESUMING. This writes
/// COMMAND.
fn activate<'a>(
    device: &'a Device,
    target: &mut Walk<'_, Device>,
) -> Result<VirtioPci<'a, Device>> {
    let function = VirtioPci::new(device).context("target")?;
    if target.back().context("the target refuses the state")? == Back::Reset {
        bail!("the target refuses the state, and was reset");
    }
    Ok(function)
}
