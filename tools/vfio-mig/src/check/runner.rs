// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Runs cases one by one, with a deadline, and puts the device right after each.

use std::{
    any::Any,
    panic::{catch_unwind, AssertUnwindSafe},
    sync::{
        mpsc::{self, Receiver},
        Arc, Weak,
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    dut::Dut,
    report::{CaseResult, Status},
    verdict::{Outcome, Stop},
    ways::Settled,
    Case, Ctx,
};
use crate::{device::Device, state::State, sys};

/// How long a case that missed its deadline may take to end after a reset.
const GRACE: Duration = Duration::from_secs(30);

/// Runs cases on one device.
pub struct Runner {
    /// `None` after a case that never came back.
    ctx: Option<Ctx>,
    deadline: Duration,
    seed: u64,
}

/// What the thread of a case hands back.
struct Ended {
    ctx: Ctx,
    outcome: Outcome,
    settled: Result<Vec<String>>,
}

impl Runner {
    /// On devices that are open and RUNNING.
    pub fn new(ctx: Ctx, deadline: Duration, seed: u64) -> Self {
        Self {
            ctx: Some(ctx),
            deadline,
            seed,
        }
    }

    /// Runs one case; whatever it does, this comes back.
    pub fn run(&mut self, case: &Case) -> CaseResult {
        let begin = Instant::now();
        let (status, notes) = self.judge(case);
        log::info!("{} {:?} after {:?}", case.id, status, begin.elapsed());
        CaseResult {
            id: case.id.clone(),
            group: case.group,
            rationale: case.rationale,
            status,
            notes,
            ms: begin.elapsed().as_secs_f64() * 1e3,
        }
    }

    fn judge(&mut self, case: &Case) -> (Status, Vec<String>) {
        let Some(mut ctx) = self.ctx.take() else {
            let why = "not run: an earlier case still hangs in the kernel".to_owned();
            return (Status::Error(why), Vec::new());
        };
        if let Some(why) = ctx.lacks(case.needs) {
            self.ctx = Some(ctx);
            return (Status::Skip(why), Vec::new());
        }
        ctx.prepare(self.seed, &case.id);
        let devices: Vec<Weak<Device>> = [Some(&ctx.dut), ctx.pair.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|dut| dut.device().ok())
            .map(|device| Arc::downgrade(&device))
            .collect();
        let ended = match start(case.clone(), ctx) {
            Ok(ended) => ended,
            Err(e) => return (Status::Error(format!("{e:#}")), Vec::new()),
        };
        if let Ok(ended) = ended.recv_timeout(self.deadline) {
            return self.finish(ended);
        }
        let late = format!("did not end within {} s", self.deadline.as_secs());
        rescue(devices);
        match ended.recv_timeout(GRACE) {
            Ok(ended) => {
                let (_, notes) = self.finish(ended);
                (Status::Error(format!("{late}, only after a reset")), notes)
            }
            Err(_) => (
                Status::Error(format!("{late}, not even after a reset")),
                Vec::new(),
            ),
        }
    }

    fn finish(&mut self, ended: Ended) -> (Status, Vec<String>) {
        let Ended {
            mut ctx,
            outcome,
            settled,
        } = ended;
        let mut notes = ctx.take_notes();
        self.ctx = Some(ctx);
        let status = match (outcome, settled) {
            (Err(Stop::Deviation(seen)), Ok(more)) => {
                notes.extend(more);
                Status::Fail(seen)
            }
            (Err(Stop::Deviation(seen)), Err(e)) => {
                Status::Fail(format!("{seen}; and it cannot be put right: {e:#}"))
            }
            (_, Err(e)) => Status::Fail(format!("the device cannot be put right: {e:#}")),
            (Ok(()), Ok(more)) => {
                notes.extend(more);
                Status::Pass
            }
            (Err(Stop::Skip(why)), Ok(_)) => Status::Skip(why),
            (Err(Stop::Error(e)), Ok(_)) => Status::Error(format!("{e:#}")),
        };
        (status, notes)
    }

    /// Whether every device is left as it should be. `false`: a case hangs with it.
    pub fn is_well(&self) -> bool {
        self.ctx.is_some()
    }
}

/// Runs a case and puts the device right, in a thread that may never end.
fn start(case: Case, mut ctx: Ctx) -> Result<Receiver<Ended>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name(case.id.clone())
        .spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| case.run(&mut ctx)));
            let outcome = outcome.unwrap_or_else(|cause| Err(Stop::Error(panicked(&*cause))));
            let settled = settle(&mut ctx);
            // Nobody listens any more when even the time after a reset is over.
            let _ = sender.send(Ended {
                ctx,
                outcome,
                settled,
            });
        })
        .context("cannot start a thread")?;
    Ok(receiver)
}

fn panicked(cause: &(dyn Any + Send)) -> anyhow::Error {
    let text = cause.downcast_ref::<String>().cloned();
    let text = text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string));
    anyhow::anyhow!("the case has a bug: {}", text.unwrap_or_default())
}

fn settle(ctx: &mut Ctx) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let mut put_right = |dut: &mut Dut| -> Result<()> {
        match dut.settle()? {
            Settled::Orderly | Settled::Reopened => {}
            // Where a resume that was begun is left.
            Settled::Reset(Some(State::Resuming | State::Error)) => {}
            Settled::Reset(state) => notes.push(format!(
                "{} needed a reset to leave {}",
                dut.name(),
                state.map_or_else(|| "its state".to_owned(), |state| state.to_string())
            )),
        }
        Ok(())
    };
    put_right(&mut ctx.dut)?;
    if let Some(pair) = &mut ctx.pair {
        put_right(pair)?;
    }
    Ok(notes)
}

/// Resets devices from threads of their own: the reset may hang, too.
fn rescue(devices: Vec<Weak<Device>>) {
    for device in devices {
        let reset = move || {
            if let Some(device) = device.upgrade() {
                if let Err(e) = sys::reset(device.fd()) {
                    log::warn!("{}: reset: {e}", device.node().name);
                }
            }
        };
        if let Err(e) = std::thread::Builder::new().spawn(reset) {
            log::warn!("cannot start a thread: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Group, Needs};

    fn case(run: fn(&mut Ctx) -> Outcome) -> Case {
        Case::new(Group::Feature, "F1.x", Needs::empty(), "", run)
    }

    /// Without a device, which cannot be put right then.
    fn runner(deadline: Duration) -> Runner {
        Runner::new(Ctx::new(Dut::closed("none"), None), deadline, 1)
    }

    #[test]
    fn a_late_case_is_an_error_and_not_the_end() {
        let mut runner = runner(Duration::from_millis(50));
        let late = runner.run(&case(|_| {
            std::thread::sleep(Duration::from_millis(500));
            Ok(())
        }));
        let Status::Error(why) = &late.status else {
            panic!("{late:?}");
        };
        assert!(why.contains("did not end"), "{why}");
        assert!(runner.is_well());
    }

    #[test]
    fn a_case_with_a_bug_is_not_the_end() {
        let mut runner = runner(Duration::from_secs(60));
        let status = runner.run(&case(|_| panic!("oh"))).status;
        // The device cannot be opened again here.
        assert!(matches!(status, Status::Fail(_)), "{status:?}");
        assert!(runner.is_well());
    }

    #[test]
    fn needs_are_looked_at_first() {
        let mut all = case(|_| Ok(()));
        all.needs = Needs::MIGRATION;
        let status = runner(Duration::from_secs(60)).run(&all).status;
        assert!(matches!(status, Status::Skip(_)), "{status:?}");
    }
}
