// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One migration: rounds under traffic, the stop, the comparison, the move.

use std::{
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use anyhow::{bail, ensure, Context, Result};

use super::{
    after::resume_traffic,
    cloud::{self, Shape},
    layout,
    memory::{all_dirty, PAGE},
    plan::{End, Lost, Migration, Plan, Round},
    traffic::{Doorbells, Guest},
    transport::VirtioPci,
};
use crate::{
    advice::{log_refused, refused},
    device::{Device, DirtyLog},
    image::Phase,
    output::Ui,
    session::{pre_copy_round, stop_copy_all, Back, Migratable, SaveStats, Walk},
    state::State,
};

/// Resets the source and sets its driver up anew.
pub type Reboot<'a> = dyn Fn() -> Result<(Guest, Doorbells)> + 'a;

/// Lost pages that are named, at most.
const NAMED: usize = 64;

/// Copies what the log of `source` and the CPU say has changed.
fn round(
    number: u32,
    log: &DirtyLog<'_>,
    granule: u64,
    from: &End<'_>,
    to: &End<'_>,
    problems: &mut Vec<String>,
) -> Result<Round> {
    let (source, shadow) = (&from.memory, &to.memory);
    let mut total = Round {
        round: number,
        reported: 0,
        cpu: 0,
        copied: 0,
        all_dirty: true,
        report_us: 0,
        state_bytes: 0,
    };
    for (index, range) in source.ranges().into_iter().enumerate() {
        // In this order: what is written after one of these answers is in the next one.
        let cpu = source.take_cpu_dirty(index);
        let begin = Instant::now();
        let mut pages = log.report(range, granule).map_err(|e| {
            let what = format!(
                "the log of {range} failed, all of it counts as dirty, and the migration ends"
            );
            refused(&what, &e)
        })?;
        total.report_us += begin.elapsed().as_micros() as u64;
        if pages.stray_bits() > 0 {
            problems.push(format!(
                "REPORT of {range} set {} bits beyond the range",
                pages.stray_bits()
            ));
        }
        total.reported += pages.count();
        total.all_dirty &= pages.is_full();
        total.cpu += cpu.count();
        pages.merge(cpu.words());
        total.copied += pages.count();
        shadow.copy_from(source, index, &pages)?;
    }
    Ok(total)
}

/// Migrates the function of `from`, with its driver, to that of `to`. `reboot` happens once the log is on.
///
/// # Errors
///
/// A device refuses a call, or the traffic does not run at all. What the comparison finds is
/// no error but in the answer. Both devices are RUNNING in any case.
pub fn migrate(
    from: &End<'_>,
    to: &End<'_>,
    (guest, bells): (&mut Guest, &Doorbells),
    plan: &Plan,
    ui: &Ui,
    reboot: Option<&Reboot<'_>>,
) -> Result<(Migration, Doorbells)> {
    let (ranges, flags) = (from.memory.ranges(), from.device.flags());
    let cloud = plan.shape == Shape::CloudHypervisor;
    let pre_copy = flags.pre_copy() && !cloud;
    let mut problems = Vec::new();
    let mut rounds = Vec::new();
    let mut stats = SaveStats::default();
    let mut buf = vec![0; 1 << 20];
    let spinner = ui.spinner();

    let mut source = Walk::new(from.device)?;
    let mut target = Walk::new(to.device)?;
    if !cloud {
        target.to(State::Resuming).context("target")?;
    }
    let named = if plan.late_ranges { 1 } else { ranges.len() };
    let named = ranges.get(..named).unwrap_or(&ranges);
    let log = from
        .device
        .log_start(plan.page_size, named)
        .map_err(|e| log_refused(named.len(), &e))?;
    let rebooted;
    let bells = match reboot {
        Some(reboot) => {
            (*guest, rebooted) = reboot()?;
            &rebooted
        }
        None => bells,
    };
    let granule = if cloud { cloud::granule(&log)? } else { PAGE };
    if pre_copy {
        from.device.opt_in_precopy_v2();
        source.to(State::PreCopy).context("source")?;
    }

    let stop = AtomicBool::new(false);
    let begin = thread::scope(|scope| -> Result<Instant> {
        let runner = scope.spawn(|| guest.run(from.device, bells, &stop));
        let mut live = || -> Result<()> {
            for index in 0..ranges.len() {
                from.memory.take_cpu_dirty(index);
            }
            for (index, pages) in all_dirty(&ranges).iter().enumerate() {
                to.memory.copy_from(&from.memory, index, pages)?;
            }
            for number in 1..=plan.rounds {
                ui.sleep(plan.interval);
                ui.check()?;
                let mut this = round(number, &log, granule, from, to, &mut problems)?;
                if pre_copy {
                    let before = stats.pre_copy_bytes;
                    pre_copy_round(&mut source, &mut stats, &mut buf, &mut |_, data| {
                        forward(&mut target, data)
                    })?;
                    this.state_bytes = stats.pre_copy_bytes - before;
                }
                spinner.set_message(format!(
                    "round {number}: {} pages from the log, {} copied",
                    this.reported, this.copied
                ));
                spinner.tick();
                rounds.push(this);
            }
            // Long enough for writes that only the last report can tell of.
            ui.sleep(plan.interval / 2);
            Ok(())
        };
        let result = live();
        stop.store(true, Ordering::Release);
        let ran = runner
            .join()
            .unwrap_or_else(|_| bail!("the traffic thread panicked"));
        result?;
        ran.context("traffic before the stop")?;
        Ok(Instant::now())
    })?;
    let before = guest.counters();

    let number = plan.rounds + 1;
    if cloud {
        source.to(State::Stop).context("source")?;
        rounds.push(round(number, &log, granule, from, to, &mut problems)?);
        let image = cloud::snapshot(&mut source, from.device)?;
        let mut last = round(number + 1, &log, granule, from, to, &mut problems)?;
        cloud::restore(&mut target, &image)?;
        stats.stop_copy_bytes = image.len() as u64;
        last.state_bytes = stats.stop_copy_bytes;
        rounds.push(last);
    } else {
        if pre_copy && flags.p2p() {
            source.to(State::PreCopyP2p).context("source")?;
        }
        source.to(State::StopCopy).context("source")?;
        let mut last = round(number, &log, granule, from, to, &mut problems)?;
        stop_copy_all(&mut source, &mut stats, &mut buf, &mut |_: Phase, data| {
            forward(&mut target, data)
        })?;
        last.state_bytes = stats.stop_copy_bytes;
        rounds.push(last);
        source.to(State::Stop).context("source")?;
    }
    let moving = begin.elapsed();

    thread::sleep(plan.settle);
    let lost = to.memory.compare(&from.memory)?;
    let named = lost.iter().take(NAMED).map(|page| Lost {
        page: page.clone(),
        what: layout::describe(page.iova),
    });
    let mut migration = Migration {
        from: from.device.node().name.clone(),
        to: to.device.node().name.clone(),
        rounds,
        lost_pages: lost.len() as u64,
        lost: named.collect(),
        pre_copy_bytes: stats.pre_copy_bytes,
        stop_copy_bytes: stats.stop_copy_bytes,
        stopped_ms: 0.0,
        replies_before: before.received,
        replies_after: 0,
        problems,
    };

    // The source is stopped or gives up before the target begins: there is one address on the wire.
    let resume = Instant::now();
    let function = if cloud {
        let _event = cloud::interrupts(to.device)?;
        let function = activate(to.device, &mut target)?;
        // In STOP, now that the destination has said that it runs.
        log.stop().context("stopping the log")?;
        cloud::shutdown(&mut source, from.device)?;
        leave(from.device, &mut source)?;
        function
    } else {
        leave(from.device, &mut source)?;
        log.stop().context("stopping the log")?;
        activate(to.device, &mut target)?
    };
    migration.stopped_ms = (moving + resume.elapsed()).as_secs_f64() * 1e3;
    let bells = Doorbells::of(&function, guest)?;
    if migration.lost_pages == 0 {
        resume_traffic(to, &function, guest, &bells, plan, &before, &mut migration)?;
    }
    spinner.finish_and_clear();
    Ok((migration, bells))
}

fn forward(target: &mut Walk<'_, Device>, data: &[u8]) -> Result<()> {
    target
        .data()?
        .write_all(data)
        .context("the target refuses the state")
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
