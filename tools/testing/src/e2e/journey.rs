// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A guest under traffic that moves from function to function.

use std::{
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{anyhow, ensure, Context, Error, Result};
use dlr_guest::protocol::{Request, Stats};
use serde_json::json;

use super::{
    attempt::Settings,
    blame::EmulatorFault,
    config::Unusual,
    growth::Growth,
    judged::{Demand, Judged, Watch},
    lab::Lab,
    migrate::{self, Migration, Plan},
    oracle::{self, Verdict},
    rings,
    trace::Trace,
    traffic::{Load, Traffic},
    unix_ms,
    vm::Vm,
};
use crate::qmp::Silent;

/// The guest, where it is now, and what it has been through.
pub struct Journey {
    lab: Lab,
    vm: Vm,
    traffic: Traffic,
    stopped: Vec<(u64, u64)>,
}

/// What is heard of a guest at its end.
#[derive(Debug)]
pub struct Heard {
    /// What the oracles say; or why the traffic did not come to an end, or the backlog was not read.
    pub verdict: Result<Verdict>,
    /// What its kernel has said about its rings since its last move began.
    pub complaints: Vec<String>,
}

impl Journey {
    /// Starts a guest with these data functions, and traffic.
    ///
    /// # Errors
    ///
    /// What does not start.
    pub fn start(lab: Lab, functions: &[usize], load: Load) -> Result<Self> {
        Self::start_unusual(lab, functions, load, &Unusual::default())
    }

    /// [`Journey::start`] in a VM with something unusual about it.
    ///
    /// # Errors
    ///
    /// See there.
    pub fn start_unusual(
        mut lab: Lab,
        functions: &[usize],
        load: Load,
        unusual: &Unusual,
    ) -> Result<Self> {
        let result = begin(&mut lab, functions, load, unusual);
        let (vm, traffic) = lab.blame(result)?;
        Ok(Self {
            lab,
            vm,
            traffic,
            stopped: Vec::new(),
        })
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The QEMU that the guest is in.
    pub fn vm(&mut self) -> &mut Vm {
        &mut self.vm
    }

    /// Lab, QEMU and traffic at once.
    pub fn parts(&mut self) -> (&mut Lab, &mut Vm, &mut Traffic) {
        (&mut self.lab, &mut self.vm, &mut self.traffic)
    }

    /// Takes down when the guest stood still until now: the wire may lose frames then.
    pub fn note_stops(&mut self) {
        self.stopped.extend(self.vm.take_stops(self.lab.clock_ms()));
    }

    /// Frames may have been lost since then, although QEMU said only later that the guest stands
    /// still: its device was the first to stop.
    pub fn excuse_losses_since(&mut self, since: SystemTime) {
        let passed = since.elapsed().map_or(0, |d| d.as_millis());
        let now = unix_ms();
        let from = now.saturating_sub(u64::try_from(passed).unwrap_or(u64::MAX));
        self.stopped.push((from, now));
    }

    /// Moves the guest to `uri`, where the destination waits already: holds it in pre-copy, as
    /// `settings` have to, for `rounds` rounds, for what `meanwhile` does and until the backlog has
    /// grown. Both sides are afterwards as `completed` leaves them.
    ///
    /// # Errors
    ///
    /// The migration does not complete, or [`Watch::judge`] is not content.
    pub fn complete(
        &mut self,
        uri: &str,
        rounds: u64,
        settings: &Settings,
        meanwhile: impl FnOnce(&Lab, &Traffic) -> Result<()>,
    ) -> Result<Judged> {
        let Self {
            lab, vm, traffic, ..
        } = self;
        lab.mark_consoles()?;
        let watch = Watch::begin(lab)?;
        vm.begin(lab, uri, settings)?;
        vm.until_rounds(rounds)?;
        meanwhile(lab, traffic)?;
        let grown = traffic.let_grow(lab);
        answering(lab, vm, grown)?;
        lab.let_device_write_to_the_last()?;
        vm.let_go()?;
        let ended = vm.until_end();
        traffic.rest(lab)?;
        ended?.expect("completed")?;
        let trace = Trace::parse(&vm.trace(lab.host())?);
        watch.judge(lab, &trace, Demand::Growth(traffic, lab))
    }

    /// The guest is in another QEMU now, which took it over. Returns the old one.
    pub fn moved_to(&mut self, vm: Vm, _judged: Judged) -> Vm {
        let clock = self.lab.clock_ms();
        let mut old = std::mem::replace(&mut self.vm, vm);
        self.stopped.extend(old.take_stops(clock));
        old
    }

    /// Tries to move the guest to other functions. The guest is afterwards where
    /// the outcome says; the other QEMU is ended.
    ///
    /// # Errors
    ///
    /// QEMU does not get to an end, or [`Watch::judge`] is not content with a move.
    /// [`EmulatorFault`] marks what the emulated processor is to blame for, here and in what
    /// follows.
    pub fn attempt(&mut self, to: &[usize], plan: &Plan, cancel: bool) -> Result<Migration> {
        let result = self
            .try_attempt(to, plan, cancel)
            .and_then(|(migration, watch)| {
                if migration.completed() {
                    let _: Judged = self.judge_move(watch, &migration)?;
                }
                Ok(migration)
            });
        self.lab.blame(result)
    }

    fn judge_move(&self, watch: Watch, migration: &Migration) -> Result<Judged> {
        let demand = Demand::Growth(&self.traffic, &self.lab);
        watch.judge(&self.lab, &migration.trace, demand)
    }

    /// An attempt that is not judged yet.
    fn try_attempt(
        &mut self,
        to: &[usize],
        plan: &Plan,
        cancel: bool,
    ) -> Result<(Migration, Watch)> {
        let mut destination = self.lab.vm(to, true)?;
        self.lab.mark_consoles()?;
        let watch = Watch::begin(&self.lab)?;
        let running = migrate::start(&self.lab, &mut self.vm, &mut destination, plan)?;
        let (traffic, lab, mut growth) = (&self.traffic, &self.lab, Growth::default());
        let enough = || traffic.has_grown(lab, &mut growth);
        let migration = running
            .pre_copy(&mut self.vm, |_| (), enough)
            .and_then(|()| {
                if cancel {
                    return running.cancel(&mut self.vm, &mut destination);
                }
                self.lab.let_device_write_to_the_last()?;
                running.switch_over(&mut self.vm, &mut destination)
            });
        let migration = answering(&self.lab, &mut self.vm, migration);
        self.traffic.rest(&self.lab)?;
        let migration = migration?;
        self.stopped.extend(migration.stopped);
        let left = if migration.completed() {
            std::mem::replace(&mut self.vm, destination)
        } else {
            destination
        };
        left.quit(self.lab.host())?;
        Ok((migration, watch))
    }

    /// Moves the guest to other functions.
    ///
    /// # Errors
    ///
    /// The migration does not complete, the guest does not go on, or [`Watch::judge`] is not
    /// content.
    pub fn hop(&mut self, to: &[usize], plan: &Plan) -> Result<Migration> {
        let result = self.try_attempt(to, plan, false);
        let (migration, watch) = self.lab.blame(result)?;
        let result = self.expect_arrival(&migration, watch);
        let result = result.with_context(|| format!("migration to {to:?}"));
        self.lab.blame(result)?;
        Ok(migration)
    }

    fn expect_arrival(&mut self, migration: &Migration, watch: Watch) -> Result<()> {
        ensure!(
            migration.completed(),
            "{}: {}",
            migration.status,
            migration.error.as_deref().unwrap_or("no reason given")
        );
        self.check_alive().context("afterwards")?;
        let _: Judged = self.judge_move(watch, migration)?;
        Ok(())
    }

    /// Fails if the guest runs no traffic where it is.
    ///
    /// # Errors
    ///
    /// Says what stands still.
    pub fn check_alive(&mut self) -> Result<()> {
        self.vm.expect_running()?;
        self.traffic.check_alive(&self.lab, &mut self.vm)
    }

    /// Judges what is left of a guest that cannot be asked any more, and ends the box: what the
    /// peer has of it, the kernel of the box, and the NIC.
    ///
    /// # Errors
    ///
    /// A message of the guest was damaged or came twice, the box's kernel complained, or its NIC
    /// died.
    pub fn judge_wire(mut self) -> Result<()> {
        self.lab.check()?;
        let stats = self.lab.wire(json!({"cmd": "stats"}))?;
        let problems = oracle::judge_sinks(&stats);
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        Ok(())
    }

    /// The error of a guest that the emulated processor has killed; what [`Journey::judge_wire`]
    /// finds takes its excuse away.
    pub fn salvage(self, error: Error) -> Error {
        match self.judge_wire() {
            Ok(()) => error,
            Err(found) => anyhow!("{found:#}, and later: {error:#}"),
        }
    }

    /// Ends the box of a guest that was killed on purpose.
    ///
    /// # Errors
    ///
    /// The box's kernel complained, or its NIC died.
    pub fn give_up(self) -> Result<()> {
        // The QEMU of such a guest ends by itself or not.
        let _ = self.vm.kill(self.lab.host());
        self.lab.finish()
    }

    /// Ends the traffic, reads the backlog and judges.
    ///
    /// # Errors
    ///
    /// The guest or the NIC does not answer, or the box's kernel complained.
    pub fn judge(self) -> Result<Verdict> {
        self.hear()?.verdict
    }

    /// [`Journey::judge`] of a guest that may be unable to say what it saw. The box is judged in
    /// any case.
    ///
    /// # Errors
    ///
    /// The box's kernel complained, its NIC died, or the emulated processor has killed the guest.
    pub fn hear(mut self) -> Result<Heard> {
        let finished = self.traffic.finish(&self.lab, &mut self.vm);
        let complaints = self.ring_complaints()?;
        let accounts = match self.lab.blame(finished) {
            Ok(accounts) => accounts,
            Err(e) if e.is::<EmulatorFault>() => return Err(self.salvage(e)),
            Err(e) => {
                self.lab.keep_results();
                self.give_up().with_context(|| format!("{e:#}, and then"))?;
                return Ok(Heard {
                    verdict: Err(e),
                    complaints,
                });
            }
        };
        let verdict = oracle::judge(&accounts, &self.stopped);
        self.vm.quit(self.lab.host())?;
        if !verdict.passed() {
            self.lab.keep_results();
            let text = serde_json::to_string_pretty(&(&verdict, &accounts))?;
            std::fs::write(self.lab.host().results().join("accounts.json"), text)?;
        }
        self.lab.finish()?;
        Ok(Heard {
            verdict: Ok(verdict),
            complaints,
        })
    }

    /// What the guest's kernel has said about its rings since its last move began.
    fn ring_complaints(&self) -> Result<Vec<String>> {
        let console = self.lab.console_since_mark(self.vm.name())?;
        Ok(rings::complaints(&console))
    }

    /// Waits for at most `limit` until the guest's kernel complains about a ring, and returns the
    /// complaints: the guest's traffic is over then. Without a complaint this is [`Journey::hear`].
    ///
    /// # Errors
    ///
    /// See [`Journey::hear`].
    pub fn hear_of_rings(self, limit: Duration) -> Result<Heard> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            let complaints = self.ring_complaints()?;
            if !complaints.is_empty() {
                self.give_up()?;
                return Ok(Heard {
                    verdict: Err(anyhow!("the guest was not asked")),
                    complaints,
                });
            }
            sleep(Duration::from_millis(500));
        }
        self.hear()
    }

    /// [`Journey::judge`], and both oracles have to be content.
    ///
    /// # Errors
    ///
    /// What they found.
    pub fn arrive(self) -> Result<Verdict> {
        let verdict = self.judge()?;
        ensure!(verdict.passed(), "{}", verdict.problems());
        Ok(verdict)
    }
}

/// The same; of a failure while a guest was to run, the reason if that guest does not answer any
/// more.
fn answering<T>(lab: &Lab, vm: &mut Vm, result: Result<T>) -> Result<T> {
    result.map_err(|e| {
        let asked = vm
            .guest(lab.host())
            .and_then(|guest| guest.ask::<Stats>(&Request::Stats));
        match asked {
            Err(silent) if silent.is::<Silent>() => silent.context(format!("{e:#}")),
            _ => e,
        }
    })
}

/// Starts a guest and its traffic.
fn begin(
    lab: &mut Lab,
    functions: &[usize],
    load: Load,
    unusual: &Unusual,
) -> Result<(Vm, Traffic)> {
    let mut vm = lab.unusual_vm(functions, false, unusual)?;
    let traffic = Traffic::start(lab, &mut vm, load.nics(functions.len()))?;
    Ok((vm, traffic))
}
