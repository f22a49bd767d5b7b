// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Nothing is lost.

use std::{collections::HashSet, mem::discriminant, time::Instant};

use dlr_core::Purpose;

use crate::{
    explore::explore,
    refine,
    world::{event::Event, scenario::Scenario, vmm::run},
};

/// Explores all runs of `scenario`, of which the abstract protocol has all steps. Each of them has
/// to be right, and a run of that. In at least one of them each of `events` has to happen.
fn refines(name: &str, scenario: Scenario, events: &[Event]) {
    holds(name, scenario, true, events);
}

/// The same with a scenario of which the protocol does not have all steps: its runs have to be
/// right.
fn loses_nothing(name: &str, scenario: Scenario, events: &[Event]) {
    holds(name, scenario, false, events);
}

fn holds(name: &str, mut scenario: Scenario, fits: bool, events: &[Event]) {
    assert_eq!(
        refine::fits(&scenario),
        fits,
        "{name}: whether the protocol has all steps"
    );
    let more = std::env::var("DLR_EXPLORER_MORE_WRITES");
    scenario.writes += more.map_or(0, |more| more.parse().expect("a number"));
    let start = Instant::now();
    let mut missing: HashSet<_> = events.iter().map(discriminant).collect();
    let mut actions = 0;
    let explored = explore(|| {
        let events = run(scenario).map_err(|violation| violation.to_string())?;
        if !missing.is_empty() {
            for event in &events {
                missing.remove(&discriminant(event));
            }
        }
        if fits {
            actions += refine::check(&scenario, &events)?;
        }
        Ok::<(), String>(())
    });
    match explored {
        Ok(runs) => println!(
            "{name}: {runs} runs, {actions} actions, {:?}",
            start.elapsed()
        ),
        Err(what) => panic!("{name}: {what}"),
    }
    assert!(missing.is_empty(), "{name}: not all that may happen does");
}

#[test]
fn writes_at_any_moment() {
    let cookie = 0;
    let events = [Event::SyncExecuted { cookie }];
    refines("plain", Scenario::PLAIN, &events);
    loses_nothing("runs", Scenario::RUNS, &events);
    refines("used rings", Scenario::of(Purpose::UsedRing), &events);
    refines("control", Scenario::of(Purpose::Control), &events);
    refines("events", Scenario::of(Purpose::Event), &events);
    loses_nothing("wide", Scenario::WIDE, &events);
    refines("split", Scenario::SPLIT, &[Event::WriteBegins(0)]);
    refines("unmapped", Scenario::UNMAPPED, &events);
    refines("beside", Scenario::BESIDE, &events);
}

#[test]
fn reports_of_parts_of_granules_that_are_cut_short() {
    loses_nothing("parts", Scenario::PARTS, &[Event::Cut]);
    loses_nothing("starved", Scenario::STARVED, &[Event::Cut, Event::Starved]);
}

#[test]
fn a_full_ring() {
    for fill in [14, 15] {
        refines(
            &format!("full, {fill}"),
            Scenario::full(fill),
            &[Event::Lost],
        );
    }
    refines("fuller", Scenario::FULLER, &[Event::Lost]);
    loses_nothing("full, runs", Scenario::FULL_RUNS, &[Event::Lost]);
    let events = [Event::Lost, Event::Cut, Event::Starved];
    loses_nothing("full, cut, starved", Scenario::FULL_CUT_STARVED, &events);
}

#[test]
fn a_ring_that_is_filled_at_once() {
    let cookie = 0;
    let events = [Event::Lost, Event::Burst, Event::SyncBusy { cookie }];
    for burst in [15, 16] {
        refines(&format!("burst, {burst}"), Scenario::burst(burst), &events);
    }
    refines("burst, late", Scenario::BURST_LATE, &events);
}

#[test]
fn writes_that_are_held_back() {
    for fill in [13, 14] {
        let events = [Event::Held(0), Event::TimeUp];
        refines(&format!("held, {fill}"), Scenario::held(fill), &events);
    }
}

#[test]
fn syncs_that_are_given_again() {
    let cookie = 0;
    refines("again", Scenario::AGAIN, &[Event::SyncAgain { cookie }]);
}

#[test]
fn ranges_that_are_added_later() {
    let (page, pages) = (0, 0);
    let add = Event::Add { page, pages };
    loses_nothing("added", Scenario::UNTRACKED, &[add]);
    refines("added, empty", Scenario::untracked(0), &[add]);
    refines("added, full", Scenario::untracked(14), &[add, Event::Lost]);
}

#[test]
fn drains_by_the_interrupt() {
    refines("interrupts", Scenario::INTERRUPTS, &[Event::Interrupt]);
}

#[test]
fn resets_bad_entries_and_logs_that_end() {
    refines("reset", Scenario::RESET, &[Event::Reset]);
    loses_nothing("spoilt", Scenario::SPOILT, &[Event::Reset, Event::Spoilt]);
    loses_nothing("ended", Scenario::ENDED, &[Event::Ended, Event::Fault]);
}

/// What does not need a running function also happens after SUSPEND, while the last REPORT is under
/// way.
#[test]
fn a_suspend_ends_nothing_but_the_writes() {
    let ends = [Event::Ended, Event::Fault];
    for (scenario, wanted) in [
        (Scenario::INTERRUPTS, &[Event::Interrupt][..]),
        (Scenario::RESET, &[Event::Reset]),
        (Scenario::SPOILT, &[Event::Spoilt]),
        (Scenario::ENDED, &ends),
    ] {
        for wanted in wanted {
            let sought = explore(|| match run(scenario) {
                Ok(events) if happens_in_the_last_report(*wanted, &events) => Err(()),
                _ => Ok(()),
            });
            assert_eq!(sought, Err(()), "{wanted:?} is nowhere after SUSPEND");
        }
    }
}

fn happens_in_the_last_report(event: Event, events: &[Event]) -> bool {
    let mut events = events.iter();
    events.any(|other| *other == Event::Suspended)
        && events.any(|other| matches!(other, Event::Report(_)))
        && events.any(|other| matches!(other, Event::Posted(_)))
        && events.any(|other| *other == event)
}
