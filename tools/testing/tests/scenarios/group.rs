// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Scenarios that share one box and one guest: each is a test of its own. If one leaves the guest
//! or the box unwell, the next one gets a fresh box.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{anyhow, ensure, Context, Result};
use dlr_testing::e2e::{
    blame::{EmulatorFault, ATTEMPTS},
    traffic::Load,
    Backend, Journey, Lab,
};
use libtest_mimic::Trial;

/// What the scenarios of a group work with.
pub(crate) trait Bench: Sized + Send + 'static {
    /// A scenario begins, and all guests are well: what their consoles say already excuses nothing.
    fn mark(&self) -> Result<()>;
    /// What has to hold of the guest after each scenario.
    fn check_guest(&mut self) -> Result<()>;
    /// What has to hold of box and NIC after each scenario, whatever became of the guest.
    fn check_box(&mut self) -> Result<()>;
    /// A scenario failed on it: its logs are to be kept.
    fn failed(&mut self);
    /// Says whose fault a failure is: see [`Lab::blame`](dlr_testing::e2e::Lab::blame).
    fn blame(&self, result: Result<()>) -> Result<()>;
    /// Judges what can be judged of one that is of no use any more, such as one whose guest is
    /// dead.
    fn salvage(self) -> Result<()>;
    /// Ends it; what has to hold at last.
    fn close(self) -> Result<()>;
}

/// A guest under light traffic in the first of four data functions.
pub(crate) fn start_journey(group: &str) -> Result<Journey> {
    let lab = Lab::start(group, 4, Backend::Iommufd, &[])?;
    Journey::start(lab, &[0], Load::light())
}

/// How a scenario ended that did not fail.
enum Outcome {
    Ended,
    /// It failed, but the emulated processor is to blame.
    Excused(anyhow::Error),
}

/// A group of scenarios.
pub(crate) struct Group<B> {
    name: &'static str,
    /// Starts what they work with, in a box of this name. An error says whose fault it is, as one that
    /// [`Bench::blame`] returns.
    open: fn(&str) -> Result<B>,
    bench: Mutex<Option<B>>,
    /// Scenarios after which a bench was of no use any more: its guest is judged by nobody.
    unjudged: Mutex<Vec<String>>,
}

/// What is to be run of a group, and the group, which may have a box open when that has been run:
/// its last test was not chosen.
pub(crate) type Listed = (Arc<dyn Close>, Vec<Trial>);

/// A group of any kind.
pub(crate) trait Close {
    /// Ends the box, if there is one.
    fn close(&self) -> Result<()>;
}

impl<B: Bench> Group<B> {
    /// An empty one.
    pub(crate) fn new(name: &'static str, open: fn(&str) -> Result<B>) -> Arc<Self> {
        Arc::new(Self {
            name,
            open,
            bench: Mutex::new(None),
            unjudged: Mutex::new(Vec::new()),
        })
    }

    /// A scenario of this group. Its name begins with its number, after that of the group.
    pub(crate) fn scenario(
        self: &Arc<Self>,
        name: &'static str,
        run: fn(&mut B) -> Result<()>,
    ) -> Trial {
        let group = Arc::clone(self);
        Trial::test(format!("{}::{name}", self.name), move || {
            group.run(name, run).map_err(|e| format!("{e:?}").into())
        })
    }

    /// The last test of the group: what holds for all of it.
    pub(crate) fn end(self: &Arc<Self>, name: &'static str) -> Trial {
        let group = Arc::clone(self);
        Trial::test(format!("{}::{name}", self.name), move || {
            group.judge().map_err(|e| format!("{e:?}").into())
        })
    }

    /// Ends the box, and fails if there is no guest to judge.
    fn judge(&self) -> Result<()> {
        let unjudged = self.unjudged.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(
            unjudged.is_empty(),
            "what the guest of this group had been through was not judged after {}",
            unjudged.join(", ")
        );
        let bench = self
            .bench
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let bench = bench
            .context("no guest to judge: this test needs the scenarios of its group before it")?;
        bench.close()
    }

    /// Runs it; again in a fresh box if the first one was killed by its emulated processor.
    fn run(&self, name: &str, run: fn(&mut B) -> Result<()>) -> Result<()> {
        for _ in 1..ATTEMPTS {
            match self.try_run(name, run)? {
                Outcome::Ended => return Ok(()),
                Outcome::Excused(e) => {
                    let text = format!("{name}: killed by the emulated processor, again: {e:#}");
                    say(&text, Instant::now());
                }
            }
        }
        match self.try_run(name, run)? {
            Outcome::Ended => Ok(()),
            Outcome::Excused(e) => {
                Err(e.context("killed by the emulated processor, again and again"))
            }
        }
    }

    fn try_run(&self, name: &str, run: fn(&mut B) -> Result<()>) -> Result<Outcome> {
        let mut place = self.bench.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bench = match place.take() {
            Some(bench) => bench,
            None => {
                let start = Instant::now();
                let opened = (self.open)(&format!("scenarios-{}", self.name))
                    .context("the box of this group");
                match opened {
                    Ok(bench) => {
                        say(&format!("{} is ready", self.name), start);
                        bench
                    }
                    Err(e) if e.is::<EmulatorFault>() => return Ok(Outcome::Excused(e)),
                    Err(e) => {
                        say(&format!("{name}: {e:#}"), start);
                        return Err(e);
                    }
                }
            }
        };
        let start = Instant::now();
        let result = bench.mark().and_then(|()| run(&mut bench));
        let after = bench.check_guest().context("the guest afterwards");
        let whole = bench.check_box().context("the box afterwards");
        say(name, start);
        for e in [&result, &after, &whole]
            .into_iter()
            .filter_map(|r| r.as_ref().err())
        {
            say(&format!("{name}: {e:#}"), start);
        }
        let (failed, usable) = (result.is_err(), after.is_ok() && whole.is_ok());
        if failed {
            bench.failed();
        }
        let result = match whole {
            Ok(()) => bench.blame(both(result, after)),
            // Nothing excuses a complaint of the kernel, nor the end of a NIC.
            whole => both(hidden(both(result, after)), whole),
        };
        match result {
            // With its box, in which nobody else is to be excused by the same.
            Err(e) if e.is::<EmulatorFault>() => {
                bench
                    .salvage()
                    .context("before the emulated processor killed the guest")?;
                Ok(Outcome::Excused(e))
            }
            result => {
                // One that is of no use any more is dropped, with all its logs. What is left of it
                // is judged.
                let mut result = result;
                if usable {
                    *place = Some(bench);
                } else {
                    let found = bench.salvage().context("of what is left");
                    result = both(hidden(result), found);
                    self.unjudged
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(name.to_owned());
                }
                result.map(|()| Outcome::Ended)
            }
        }
    }
}

impl<B: Bench> Close for Group<B> {
    fn close(&self) -> Result<()> {
        let bench = self
            .bench
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        bench.map_or(Ok(()), Bench::close)
    }
}

/// The error of either, and that of the second one too if both have failed.
fn both(result: Result<()>, after: Result<()>) -> Result<()> {
    match (result, after) {
        (Err(e), Err(later)) => Err(e.context(format!("{later:#}, and before that"))),
        (result, after) => result.and(after),
    }
}

/// An error of which only the text is left: nothing can excuse it.
fn hidden(result: Result<()>) -> Result<()> {
    result.map_err(|e| anyhow!("{e:#}"))
}

/// What happened and how long it took, for [`print_notes`]: the framework has no place for it.
static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn say(what: &str, start: Instant) {
    let note = format!("{:8.1} s  {what}", start.elapsed().as_secs_f64());
    NOTES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(note);
}

/// Prints how long each scenario took.
pub(crate) fn print_notes() {
    for note in &*NOTES.lock().unwrap_or_else(PoisonError::into_inner) {
        println!("{note}");
    }
}

impl Bench for Journey {
    fn mark(&self) -> Result<()> {
        self.lab().mark_consoles()
    }

    /// The guest runs where it is, with traffic.
    fn check_guest(&mut self) -> Result<()> {
        self.note_stops();
        self.check_alive()
    }

    fn check_box(&mut self) -> Result<()> {
        self.parts().0.check()
    }

    fn failed(&mut self) {
        self.parts().0.keep_results();
    }

    fn blame(&self, result: Result<()>) -> Result<()> {
        self.lab().blame(result)
    }

    /// What arrived at the wire from the guest is whole: its memory cannot be asked any more.
    fn salvage(self) -> Result<()> {
        self.judge_wire()
    }

    /// Both oracles are content with all that happened.
    fn close(self) -> Result<()> {
        self.arrive().map(drop)
    }
}
