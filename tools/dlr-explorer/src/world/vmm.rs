// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The VMM, and a whole run: START, a copy of all memory, REPORTs and copies of what they name,
//! SUSPEND, the last REPORT and the last copy.

use std::{fmt, rc::Rc, sync::Arc};

use super::{
    event::Event,
    nic::Nic,
    scenario::{Ask, Range, Scenario, PAGES},
    state::World,
};
use crate::{
    explore::choose,
    stops::{self, Stop},
    stub::error::{Error, Result, EINTR},
    vfio::{
        dirty::{
            log::Log,
            ring::tracker::{Context, RingParams, RingShared, RingTracker},
        },
        iova_bitmap::{clamp, DirtySink, IovaRange},
    },
};

/// What is wrong with a run, and what happened in it.
pub(crate) struct Violation {
    what: String,
    events: Vec<Event>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        let mut events = self.events.iter();
        events.try_for_each(|event| write!(f, "\n    {event:?}"))
    }
}

/// The bitmap of a REPORT.
struct Bitmap<'a> {
    world: &'a World,
    range: IovaRange,
    /// The pages that were named, one bit each.
    named: u64,
}

impl DirtySink for Bitmap<'_> {
    fn set_run(&mut self, iova: u64, length: u64) -> Result {
        if self.world.may_cut() && choose(2) == 1 {
            self.world.cut();
            return Err(EINTR);
        }
        if let Some(run) = clamp(&self.range, iova, length) {
            let pages = run.iova() >> 12..run.end().div_ceil(1 << 12);
            for page in pages.filter(|page| *page < PAGES) {
                self.named |= 1 << page;
            }
        }
        Ok(())
    }
}

impl World {
    fn may_cut(&self) -> bool {
        self.device.lock().left.cuts > 0
    }

    fn cut(&self) {
        self.device.lock().left.cuts -= 1;
        self.event(Event::Cut);
    }
}

/// Runs `scenario` once, with the answers that the explorer gives.
///
/// # Errors
///
/// A page of the copy that is stale, a REPORT that fails without a cause or does not end.
pub(crate) fn run(scenario: Scenario) -> Result<Vec<Event>, Violation> {
    let world = World::new(scenario);
    let weak = Arc::downgrade(&world);
    stops::set(Some(Rc::new(move |why| {
        let Some(world) = weak.upgrade() else { return };
        match why {
            Stop::Read => world.moment(),
            Stop::Word(word) => world.event(Event::Entry(word)),
            Stop::Sleep => world.moment_of_writes(),
        }
    })));
    let migrated = migrate(&world);
    stops::set(None);
    match migrated {
        Ok(()) => Ok(world.events()),
        Err(what) => Err(Violation {
            what,
            events: world.events(),
        }),
    }
}

fn migrate(world: &Arc<World>) -> Result<(), String> {
    let wrong = |what: &str, error: Error| format!("{what}: error {}", error.to_errno());
    let nic = Nic(world.clone());
    let find = || Ok(nic.clone());
    let shared =
        RingShared::new(c"explorer", RingParams { order: 0 }).map_err(|e| wrong("new", e))?;
    let cx = Context::new(&find, &shared);
    let log = Log::<RingTracker<Nic>>::new(0).map_err(|e| wrong("new", e))?;
    let scenario = &world.scenario;
    let tracked = iova(scenario.tracked).map_err(|e| wrong("range", e))?;
    log.start(&cx, &[tracked], 1 << scenario.shift)
        .map_err(|e| wrong("START", e))?;
    for page in Scenario::fillers(scenario.fill) {
        world.write(page);
    }
    let mut copy = world.memory();
    world.event(Event::Copied(u64::MAX));

    let result = (|| {
        for &ask in scenario.reports {
            if world.is_running() {
                report(world, &log, &cx, ask, &mut copy)?;
            }
        }
        if world.is_running() {
            world.suspend();
        }
        // A VMM whose last REPORT is cut short asks again.
        while !report(world, &log, &cx, Ask::All, &mut copy)? {}
        Ok(())
    })();
    // So that what the log and the device know of each other is freed.
    let stopped = log.stop(&cx);
    match result {
        Err(Some(what)) => return Err(what),
        // A REPORT has failed with a cause, and the migration with it.
        Err(None) => return Ok(()),
        Ok(()) => (),
    }
    stopped.map_err(|e| wrong("STOP", e))?;
    let memory = world.memory();
    match (0..)
        .zip(memory.iter().zip(&copy))
        .find(|(_, (m, c))| m != c)
    {
        Some((page, _)) => Err(format!("page {page} is stale")),
        None => Ok(()),
    }
}

/// Calls REPORT and copies the pages that it names. Returns `false` if it was cut short, and then
/// nothing is copied.
///
/// # Errors
///
/// What is wrong, or `None` where it fails with a cause.
fn report(
    world: &World,
    log: &Log<RingTracker<Nic>>,
    cx: &Context<'_, Nic>,
    ask: Ask,
    copy: &mut [u32; PAGES as usize],
) -> Result<bool, Option<String>> {
    let mapped = world.device.lock().mapped;
    let range = match ask {
        Ask::All => (0, mapped),
        Ask::Part(range) => range,
        Ask::Unmap(page) => {
            world.unmap(page);
            (page, mapped - page)
        }
    };
    world.event(Event::Report(ask));
    let range = iova(range).map_err(|_| Some("range".into()))?;
    let cuts = world.device.lock().left.cuts;
    let mut bitmap = Bitmap {
        world,
        range,
        named: 0,
    };
    let told = log.report(cx, range, &mut bitmap);
    world.device.lock().reporting = false;
    let named = bitmap.named;
    if world.is_endless() {
        return Err(Some("a REPORT does not end".into()));
    }
    match told {
        Ok(()) => {
            let memory = world.memory();
            for page in (0..PAGES).filter(|page| named & 1 << page != 0) {
                copy[page as usize] = memory[page as usize];
            }
            world.event(Event::Copied(named));
            Ok(true)
        }
        Err(EINTR) if world.device.lock().left.cuts < cuts => Ok(false),
        Err(_) if world.is_spoilt() => Err(None),
        Err(error) => Err(Some(format!(
            "a REPORT fails without a cause: {}",
            error.to_errno()
        ))),
    }
}

fn iova((page, pages): Range) -> Result<IovaRange> {
    IovaRange::new(page << 12, pages << 12)
}
