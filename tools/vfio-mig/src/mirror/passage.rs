// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A migration on its way: the log, the states of both devices, and what went over so far.

use std::{
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};

use super::{
    cloud::{self, Shape},
    memory::{all_dirty, PAGE},
    pieces,
    plan::{End, Plan, Round},
    pulse::Pulse,
    traffic::{Doorbells, Guest},
};
use crate::{
    advice::{log_refused, refused},
    device::{Device, DirtyLog},
    image::Phase,
    output::Ui,
    session::{pre_copy_round, Migratable, SaveStats, Walk},
    state::State,
};

/// Time between two looks at the traffic.
const PACE: Duration = Duration::from_micros(300);

/// See the module. A drop stops the log first, then brings the target and the source back.
pub(super) struct Passage<'a> {
    log: Option<DirtyLog<'a>>,
    pub(super) target: Walk<'a, Device>,
    pub(super) source: Walk<'a, Device>,
    pub(super) from: &'a End<'a>,
    pub(super) to: &'a End<'a>,
    pub(super) plan: &'a Plan,
    pub(super) ui: &'a Ui,
    pub(super) stats: SaveStats,
    pub(super) rounds: Vec<Round>,
    /// What went wrong beside lost pages.
    pub(super) problems: Vec<String>,
    /// The source was reset, so that its guest lives at the target or nowhere.
    pub(super) left: bool,
    granule: u64,
    pub(super) buf: Vec<u8>,
}

impl<'a> Passage<'a> {
    /// Both devices have to be RUNNING.
    ///
    /// # Errors
    ///
    /// One of them is not.
    pub(super) fn new(
        from: &'a End<'a>,
        to: &'a End<'a>,
        plan: &'a Plan,
        ui: &'a Ui,
    ) -> Result<Self> {
        let source = Walk::new(from.device)?;
        Ok(Self {
            log: None,
            target: Walk::new(to.device)?,
            source,
            from,
            to,
            plan,
            ui,
            stats: SaveStats::default(),
            rounds: Vec::new(),
            problems: Vec::new(),
            left: false,
            granule: PAGE,
            buf: vec![0; 1 << 20],
        })
    }

    pub(super) fn is_cloud(&self) -> bool {
        self.plan.shape == Shape::CloudHypervisor
    }

    pub(super) fn has_pre_copy(&self) -> bool {
        self.from.device.flags().pre_copy() && !self.is_cloud()
    }

    /// Starts the log, with the target waiting for the state.
    ///
    /// # Errors
    ///
    /// A device refuses.
    pub(super) fn begin(&mut self) -> Result<()> {
        if !self.is_cloud() {
            self.target.to(State::Resuming).context("target")?;
        }
        let ranges = self.from.memory.ranges();
        let named = if self.plan.late_ranges {
            1
        } else {
            ranges.len()
        };
        let named = ranges.get(..named).unwrap_or(&ranges);
        let device: &'a Device = self.from.device;
        let log = device
            .log_start(self.plan.page_size, named)
            .map_err(|e| log_refused(named.len(), &e))?;
        self.log = Some(log);
        Ok(())
    }

    /// Begins to read the state, where the device can do that while it runs.
    ///
    /// # Errors
    ///
    /// The device refuses.
    pub(super) fn pre_copy(&mut self) -> Result<()> {
        if let (true, Some(log)) = (self.is_cloud(), &self.log) {
            self.granule = cloud::granule(log)?;
        }
        if self.has_pre_copy() {
            self.from.device.opt_in_precopy_v2();
            self.source.to(State::PreCopy).context("source")?;
        }
        Ok(())
    }

    /// Copies everything once, and then in rounds what has changed, while the guest runs. `and_then`
    /// is the last thing before it stops. Returns when it stopped.
    ///
    /// # Errors
    ///
    /// A device refuses a call, or the traffic does not run at all, which is a problem, too.
    pub(super) fn live(
        &mut self,
        guest: &mut Guest,
        bells: &Doorbells,
        and_then: &mut dyn FnMut(&mut Self) -> Result<()>,
    ) -> Result<Instant> {
        let stop = AtomicBool::new(false);
        let device = self.from.device;
        let pulse = guest.pulse();
        pulse.begin();
        let (result, ran) = thread::scope(|scope| {
            let runner = scope.spawn(|| {
                let ran = guest.run(device, bells, &stop);
                pulse.end();
                ran
            });
            let result = self.all_rounds(&pulse).and_then(|()| and_then(self));
            stop.store(true, Ordering::Release);
            let ran = runner
                .join()
                .unwrap_or_else(|_| bail!("the traffic thread panicked"));
            (result, ran)
        });
        let stopped = Instant::now();
        let ran = ran.context("traffic before the stop");
        if let Err(e) = &ran {
            self.problems.push(format!("{e:#}"));
        }
        result.and(ran).map(|()| stopped)
    }

    fn all_rounds(&mut self, pulse: &Pulse) -> Result<()> {
        let spinner = self.ui.spinner();
        let ranges = self.from.memory.ranges();
        for index in 0..ranges.len() {
            self.from.memory.take_cpu_dirty(index);
        }
        for (index, pages) in all_dirty(&ranges).iter().enumerate() {
            self.to.memory.copy_from(&self.from.memory, index, pages)?;
        }
        for number in 1..=self.plan.rounds {
            self.ui.sleep(self.plan.interval);
            self.ui.check()?;
            if number == 1 {
                self.written_since(pulse)?;
            }
            let mut this = self.round(number)?;
            if self.has_pre_copy() {
                let before = self.stats.pre_copy_bytes;
                let target = &mut self.target;
                pre_copy_round(
                    &mut self.source,
                    &mut self.stats,
                    &mut self.buf,
                    &mut |_: Phase, data| forward(target, data),
                )?;
                this.state_bytes = self.stats.pre_copy_bytes - before;
            }
            spinner.set_message(format!(
                "round {number}: {} pages from the log, {} copied",
                this.reported, this.copied
            ));
            spinner.tick();
            self.rounds.push(this);
        }
        spinner.finish_and_clear();
        // Long enough for writes that only the last report can tell of.
        self.ui.sleep(self.plan.interval / 2);
        self.written_since(pulse)
    }

    /// Waits until the function has written memory since this call, so that the next report has something
    /// to name. A log that named nothing would lose nothing that was not written.
    fn written_since(&mut self, pulse: &Pulse) -> Result<()> {
        let next = pulse.next();
        let end = Instant::now() + self.plan.patience;
        // If the traffic has ended, it says itself why.
        while !pulse.has_come(next) && !pulse.is_over() {
            self.ui.check()?;
            if Instant::now() > end {
                let seconds = self.plan.patience.as_secs();
                self.problems
                    .push(format!("no answer for {seconds} s while the guest ran"));
                break;
            }
            thread::sleep(PACE);
        }
        Ok(())
    }

    /// Copies what the log of the source and the CPU say has changed.
    ///
    /// # Errors
    ///
    /// The log fails.
    pub(super) fn round(&mut self, number: u32) -> Result<Round> {
        let (source, shadow) = (&self.from.memory, &self.to.memory);
        let log = self.log.as_ref().context("there is no log")?;
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
            let at_once = self.plan.report_pages.unwrap_or(u64::MAX);
            let reported = pieces::report(log, range, self.granule, at_once);
            let (mut pages, stray) = reported.map_err(|e| {
                let what = format!(
                    "the log of {range} failed, all of it counts as dirty, and the migration ends"
                );
                refused(&what, &e)
            })?;
            total.report_us += begin.elapsed().as_micros() as u64;
            if stray > 0 {
                self.problems.push(format!(
                    "REPORT of {range} set {stray} bits beyond the range"
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

    /// Stops the log, if it is on.
    ///
    /// # Errors
    ///
    /// The device refuses.
    pub(super) fn stop_log(&mut self) -> Result<()> {
        match self.log.take() {
            Some(log) => log.stop().context("stopping the log"),
            None => Ok(()),
        }
    }
}

/// Passes a piece of the state on.
///
/// # Errors
///
/// The target refuses it.
pub(super) fn forward(target: &mut Walk<'_, Device>, data: &[u8]) -> Result<()> {
    target
        .data()?
        .write_all(data)
        .context("the target refuses the state")
}
