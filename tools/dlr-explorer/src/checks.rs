// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Nothing is lost.

use std::{collections::HashSet, mem::discriminant, time::Instant};

use dlr_core::Purpose;

use crate::{
    explore::explore,
    refine,
    world::{event::Event, scenario::Scenario, vmm::run},
};

/// Explores all runs of `scenario`. Each of them has to be right and, where the abstract protocol
/// has all of its steps, a run of that. In at least one of them each of `events` has to happen.
fn holds(name: &str, mut scenario: Scenario, events: &[Event]) {
    let more = std::env::var("DLR_EXPLORER_MORE_WRITES");
    scenario.writes += more.map_or(0, |more| more.parse().expect("a number"));
    let start = Instant::now();
    let mut missing: HashSet<_> = events.iter().map(discriminant).collect();
    let mut actions = 0;
    let refines = refine::fits(&scenario);
    let explored = explore(|| {
        let events = run(scenario).map_err(|violation| violation.to_string())?;
        if !missing.is_empty() {
            for event in &events {
                missing.remove(&discriminant(event));
            }
        }
        if refines {
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
    holds("plain", Scenario::PLAIN, &events);
    holds("runs", Scenario::RUNS, &events);
    holds("used rings", Scenario::of(Purpose::UsedRing), &events);
    holds("wide", Scenario::WIDE, &events);
    holds("split", Scenario::SPLIT, &[Event::WriteBegins(0)]);
    holds("unmapped", Scenario::UNMAPPED, &events);
    holds("beside", Scenario::BESIDE, &events);
}

#[test]
fn reports_of_parts_of_granules_that_are_cut_short() {
    holds("parts", Scenario::PARTS, &[Event::Cut]);
    holds("starved", Scenario::STARVED, &[Event::Cut, Event::Starved]);
}

#[test]
fn a_full_ring() {
    for fill in [14, 15] {
        holds(
            &format!("full, {fill}"),
            Scenario::full(fill),
            &[Event::Lost],
        );
    }
    holds("fuller", Scenario::FULLER, &[Event::Lost]);
    holds("full, runs", Scenario::FULL_RUNS, &[Event::Lost]);
    let events = [Event::Lost, Event::Cut, Event::Starved];
    holds("full, cut, starved", Scenario::FULL_CUT_STARVED, &events);
}

#[test]
fn a_ring_that_is_filled_at_once() {
    let cookie = 0;
    let events = [Event::Lost, Event::Burst, Event::SyncBusy { cookie }];
    for burst in [15, 16] {
        holds(&format!("burst, {burst}"), Scenario::burst(burst), &events);
    }
    holds("burst, late", Scenario::BURST_LATE, &events);
}

#[test]
fn writes_that_are_held_back() {
    for fill in [13, 14] {
        let events = [Event::Held(0), Event::TimeUp];
        holds(&format!("held, {fill}"), Scenario::held(fill), &events);
    }
}

#[test]
fn syncs_that_are_given_again() {
    let cookie = 0;
    holds("again", Scenario::AGAIN, &[Event::SyncAgain { cookie }]);
}

#[test]
fn ranges_that_are_added_later() {
    let (page, pages) = (0, 0);
    let add = Event::Add { page, pages };
    holds("added", Scenario::UNTRACKED, &[add]);
    holds("added, empty", Scenario::untracked(0), &[add]);
    holds("added, full", Scenario::untracked(14), &[add, Event::Lost]);
}

#[test]
fn drains_by_the_interrupt() {
    holds("interrupts", Scenario::INTERRUPTS, &[Event::Interrupt]);
}

#[test]
fn resets_bad_entries_and_logs_that_end() {
    holds("spoilt", Scenario::SPOILT, &[Event::Reset, Event::Spoilt]);
    holds("ended", Scenario::ENDED, &[Event::Ended, Event::Fault]);
}
