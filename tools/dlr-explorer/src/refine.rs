// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A run, step by step, as a run of the abstract protocol (`tools/dlr-model`).
//!
//! Each event of a run is mapped to actions of [`Protocol`], and each of these has to be enabled
//! when its turn comes. Afterwards both rings hold the same entries, and a REPORT names the same
//! granules in both.
//!
//! | event of the run | actions |
//! | --- | --- |
//! | a write | `Write`; `Skip`, if nothing is tracked there |
//! | a word of the ring: WRITE, LOST | `Post`, until an entry comes of it |
//! | a word of the ring: SYNC | `Post` of what is filtered, then `Sync` |
//! | POSTED is read | `Report`, or `Unmap`: its entries were posted before |
//! | LOG_ADD is executed | `Report` and `Add`; the next read of POSTED is `Drive` |
//! | slots are given back | `Drive` for each of them, then `Return` |
//! | a SYNC is given | `Drive`, if the drain before it is complete |
//! | BUSY; a SYNC that is given again | `Busy` and `Answer`; `Abort` |
//! | the end of a REPORT | `Drive`, if no SYNC was needed; then `Copy` of what it named |
//! | SUSPEND, a reset of the function | `Suspend`, `Reset` |
//!
//! The NIC decides at a write whether it is filtered, and posts the entry later; the protocol
//! decides when it posts. So a write that the NIC filters is owed in the protocol until the next
//! entry, and must then make none.

use std::collections::HashMap;

use dlr_model::{Action, Bounds, Entry, Phase, Protocol, Purpose, Set, Stage, State};
use stateright::Model;

use crate::{
    proto::log::LogWord,
    vfio::dirty::ring::format::{self, Format},
    world::{
        event::Event,
        scenario::{Ask, Scenario},
    },
};

/// A run of the protocol beside one of the files.
struct Beside {
    protocol: Protocol,
    state: State,
    /// Number of the granule in the protocol, by its page.
    granules: HashMap<u64, u8>,
    /// Entries that were posted, and how many of them were taken.
    posted: Vec<format::Entry>,
    taken: usize,
    /// The granule of which the REPORT asks that has just begun, unless that is everything.
    unmapped: Option<u8>,
    actions: u64,
}

/// Whether the protocol has what may happen in `scenario`: REPORTs of all that is mapped or of one
/// granule that was unmapped, entries of single granules.
pub(crate) fn fits(scenario: &Scenario) -> bool {
    let part = |ask: &Ask| matches!(ask, Ask::Part(_));
    let apart = scenario.places.windows(2).all(|two| two[0] + 1 < two[1]);
    apart
        && !scenario.reports.iter().any(part)
        && scenario.shift == 12
        && !scenario.wide
        && scenario.cuts == 0
        && scenario.starved == 0
        && scenario.spoils == 0
        && scenario.losses == 0
        && scenario.faults == 0
}

/// Takes the steps of a run of `scenario` in the protocol. Returns their number.
///
/// # Errors
///
/// The event that is no step of the protocol, or after which the two differ.
pub(crate) fn check(scenario: &Scenario, events: &[Event]) -> Result<u64, String> {
    assert!(fits(scenario), "the protocol has no part of this scenario");
    let mut beside = Beside::new(scenario);
    beside.act(Action::Start)?;
    for (n, event) in events.iter().enumerate() {
        beside
            .follow(*event)
            .and_then(|()| beside.compare())
            .map_err(|what| {
                let state = &beside.state;
                format!("event {n}, {event:?}: {what}\n{events:?}\n{state:?}")
            })?;
    }
    if beside.state.vmm.stage != Stage::Done {
        return Err(format!("ended in {:?}", beside.state.vmm.stage));
    }
    Ok(beside.actions)
}

impl Beside {
    fn new(scenario: &Scenario) -> Self {
        let many = scenario.fill.max(scenario.burst);
        let mut pages: Vec<u64> = scenario.places.to_vec();
        pages.extend(Scenario::fillers(many));
        let (first, count) = scenario.tracked;
        let outside = |page: &u64| !(first..first + count).contains(page);
        let untracked = (0..).zip(&pages).filter(|(_, page)| outside(page));
        let untracked = untracked.fold(0, |set: Set, (granule, _)| set | 1 << granule);
        let protocol = Protocol {
            bounds: Bounds {
                granules: pages.len(),
                writes: scenario.writes as u8 + scenario.fill as u8 + scenario.burst as u8,
                rounds: scenario.reports.len() as u8,
                ring: 16,
                untracked,
                add_first: true,
                aborts: scenario.again as u8,
                first_marker: true,
                resets: scenario.resets as u8,
                spoils: 0,
                losses: 0,
            },
            fault: None,
        };
        let state = protocol.init_states().remove(0);
        Self {
            protocol,
            state,
            granules: pages.into_iter().zip(0..).collect(),
            posted: Vec::new(),
            taken: 0,
            unmapped: None,
            actions: 0,
        }
    }

    /// Takes a step of the protocol.
    fn act(&mut self, action: Action) -> Result<(), String> {
        let mut enabled = Vec::new();
        self.protocol.actions(&self.state, &mut enabled);
        if !enabled.contains(&action) {
            return Err(format!("{action:?} is not enabled, but {enabled:?}"));
        }
        let next = self.protocol.next_state(&self.state, action);
        self.state = next.ok_or("no next state")?;
        self.actions += 1;
        if self.state.vmm.stage == Stage::Failed {
            return Err(format!("REPORT fails at {action:?}"));
        }
        Ok(())
    }

    fn follow(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Write(page) => {
                let granule = self.granule(page)?;
                self.act(Action::Write(granule))?;
                if self.state.device.tracked & 1 << granule == 0 {
                    self.act(Action::Skip(granule))?;
                }
                Ok(())
            }
            Event::Entry(word) => self.entry(word),
            Event::Posted(count) => self.posted(count),
            Event::Head(head) => self.head(head),
            Event::SyncGiven { all, .. } => self.given(all),
            Event::SyncBusy { .. } => {
                self.act(Action::Busy)?;
                self.act(Action::Answer)
            }
            Event::SyncAgain { .. } => self.act(Action::Abort),
            Event::Copied(named) => self.copied(named),
            Event::Suspended => {
                self.filtered()?;
                self.act(Action::Suspend)
            }
            Event::Reset => self.act(Action::Reset),
            Event::Report(Ask::Unmap(page)) => {
                self.unmapped = Some(self.granule(page)?);
                Ok(())
            }
            // What the protocol takes no notice of.
            Event::Report(_)
            | Event::WriteBegins(_)
            | Event::Held(_)
            | Event::Burst
            | Event::TimeUp
            | Event::SyncExecuted { .. }
            | Event::Interrupt
            | Event::Lost => Ok(()),
            Event::Add { .. } => {
                // The REPORT has begun, and reads POSTED when it has added this.
                self.act(Action::Report)?;
                self.act(Action::Add)
            }
            Event::Starved | Event::Spoilt | Event::Ended | Event::Fault | Event::Cut => {
                Err("the protocol has no such step".into())
            }
        }
    }

    fn granule(&self, page: u64) -> Result<u8, String> {
        let granule = self.granules.get(&page).copied();
        granule.ok_or(format!("page {page} is no granule"))
    }

    /// The NIC has posted an entry.
    fn entry(&mut self, word: u64) -> Result<(), String> {
        let entry = LogWord::decode(word).ok_or("an entry of unknown type")?;
        self.posted.push(entry);
        if matches!(entry, format::Entry::Sync { .. }) {
            self.filtered()?;
            return self.act(Action::Sync);
        }
        let before = self.state.device.ring.len();
        while self.state.device.ring.len() == before {
            self.act(Action::Post)?;
        }
        Ok(())
    }

    /// What is owed makes no entry.
    fn filtered(&mut self) -> Result<(), String> {
        while !self.state.device.owed.is_empty() {
            let before = self.state.device.ring.len();
            self.act(Action::Post)?;
            if self.state.device.ring.len() != before {
                return Err("an entry is missing".into());
            }
        }
        Ok(())
    }

    fn posted(&mut self, count: u32) -> Result<(), String> {
        self.filtered()?;
        if self.state.driver.phase == Phase::Added {
            self.act(Action::Drive)?;
        } else {
            let unmapped = self.unmapped.take();
            self.act(unmapped.map_or(Action::Report, Action::Unmap))?;
        }
        let left = self.posted.len() - self.taken;
        if count as usize != self.posted.len() {
            return Err(format!("POSTED is {count} of {}", self.posted.len()));
        }
        match self.state.driver.phase {
            Phase::DrainPosted(n) if usize::from(n) == left => Ok(()),
            phase => Err(format!("{left} entries are left in {phase:?}")),
        }
    }

    /// The driver has taken all entries before `head`, and gives their slots back.
    fn head(&mut self, head: u32) -> Result<(), String> {
        while self.taken < head as usize {
            if self.state.driver.phase == Phase::DrainPosted(0) {
                // The REPORT has ended without a SYNC, and its thread drains for the interrupt.
                self.act(Action::Drive)?;
                if self.state.driver.phase != Phase::Idle {
                    return Err("an entry is taken behind the count of POSTED".into());
                }
            }
            self.act(Action::Drive)?;
            self.taken += 1;
        }
        self.act(Action::Return)
    }

    fn given(&mut self, all: bool) -> Result<(), String> {
        if self.state.driver.phase == Phase::DrainPosted(0) {
            self.act(Action::Drive)?;
        }
        match self.state.driver.phase {
            Phase::Sync(Purpose::Harvest) if !all => {}
            Phase::Sync(Purpose::Rearm { .. }) if all => {}
            phase => return Err(format!("a SYNC is given in {phase:?}")),
        }
        if self.state.device.syncs.is_empty() {
            return Err("no SYNC is due".into());
        }
        Ok(())
    }

    /// A REPORT has ended and named these pages, and the VMM copies them.
    fn copied(&mut self, named: u64) -> Result<(), String> {
        if self.state.driver.phase == Phase::DrainPosted(0) {
            self.act(Action::Drive)?;
        }
        if self.state.driver.phase != Phase::Idle {
            return Err(format!("REPORT ends in {:?}", self.state.driver.phase));
        }
        let mut set: Set = 0;
        for (page, granule) in &self.granules {
            if named & 1 << page != 0 {
                set |= 1 << granule;
            }
        }
        if self.state.vmm.to_copy != set {
            return Err(format!("names {set:b}"));
        }
        for granule in 0..self.protocol.bounds.granules as u8 {
            if set & 1 << granule != 0 {
                self.act(Action::Copy(granule))?;
            }
        }
        Ok(())
    }

    /// Both rings hold the same, apart from cookies: the protocol gives a SYNC that was BUSY again
    /// with its old one.
    fn compare(&self) -> Result<(), String> {
        let here = self.posted.get(self.taken..).unwrap_or_default();
        let there = &self.state.device.ring;
        let same = here.len() == there.len()
            && here
                .iter()
                .zip(there)
                .all(|(here, there)| match (here, there) {
                    (format::Entry::Write(run), Entry::Write(granule)) => {
                        run.more() == 0 && self.granules.get(&run.start()) == Some(granule)
                    }
                    (format::Entry::Sync { .. }, Entry::Sync(_)) => true,
                    (format::Entry::Lost, Entry::Lost) => true,
                    _ => false,
                });
        if same {
            Ok(())
        } else {
            Err(format!("the ring holds {here:?}, not {there:?}"))
        }
    }
}
