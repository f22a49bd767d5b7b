// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Each bug of `build/bugs.rs` and each switch of the NIC's log is found.

use std::{collections::BTreeSet, time::Instant};

use dlr_core::{Purpose, SabotageKind};

use crate::{
    bugs,
    explore::explore,
    refine,
    world::{scenario::Scenario, vmm::run},
};

include!(concat!(env!("OUT_DIR"), "/names.rs"));

/// Each bug, and where it is found.
const BUGS: &[(&str, Scenario)] = &[
    (
        "a report that is cut short clears what it was to name",
        Scenario::PARTS,
    ),
    (
        "a granule that is reported in part is cleared as a whole",
        Scenario::PARTS,
    ),
    (
        "what is not tracked is added and not marked",
        Scenario::UNTRACKED,
    ),
    (
        "what was added is not remembered as tracked",
        Scenario::UNTRACKED,
    ),
    (
        "what is not tracked is marked and not added",
        Scenario::UNTRACKED,
    ),
    (
        "a report without memory for its SYNC clears the granules",
        Scenario::STARVED,
    ),
    (
        "a report leaves what was posted to the interrupt",
        Scenario::PLAIN,
    ),
    ("after a loss nothing more is marked", Scenario::full(14)),
    ("a dirty report sends no SYNC", Scenario::PLAIN),
    ("a drain goes on behind the marker", Scenario::PLAIN),
    (
        "no more markers are expected of a SYNC that was given again",
        Scenario::AGAIN,
    ),
    (
        "a SYNC that was BUSY is not given again",
        Scenario::burst(15),
    ),
    ("a SYNC waits once before it drains", Scenario::AGAIN),
    ("LOST is passed by", Scenario::full(14)),
    ("slots are not given back", Scenario::full(14)),
    (
        "one slot is given back that was not read",
        Scenario::full(14),
    ),
    ("the phase of an entry is not looked at", Scenario::full(14)),
    (
        "the phase does not flip in the second pass over the ring",
        Scenario::full(14),
    ),
    ("a run is taken for its first granule", Scenario::RUNS),
    (
        "NIC: entries take the slot that is kept for LOST",
        Scenario::full(15),
    ),
    (
        "NIC: a SYNC leaves the last granule of its range in the filter",
        Scenario::UNTRACKED,
    ),
    ("NIC: a write marks every other granule", Scenario::WIDE),
    (
        "NIC: a SYNC of everything leaves the filter as it is",
        Scenario::full(15),
    ),
    (
        "NIC: LOG_ADD leaves out the last granule",
        Scenario::UNTRACKED,
    ),
    (
        "NIC: a run takes in a granule that does not follow it",
        Scenario::PLAIN,
    ),
    ("NIC: the log goes on after LOST", Scenario::full(15)),
    (
        "NIC: POSTED of a log that has ended reads as 0",
        Scenario::ENDED,
    ),
    ("NIC: the phase does not flip", Scenario::full(14)),
];

/// Each switch of the NIC's log engine, and where that is found.
const SABOTAGES: &[(SabotageKind, Scenario)] = &[
    (SabotageKind::DropLogEntry, Scenario::PLAIN),
    (SabotageKind::EntryBeforeData, Scenario::SPLIT),
    (SabotageKind::FilterNotCleared, Scenario::PLAIN),
    (SabotageKind::MarkerTooEarly, Scenario::PLAIN),
    (SabotageKind::LostNotPosted, Scenario::full(14)),
    (SabotageKind::PostedNotFlushed, Scenario::UNMAPPED),
    (SabotageKind::NotRearmed, Scenario::FULLER),
    (SabotageKind::ResetEndsLog, Scenario::RESET),
    (SabotageKind::AddNotTracked, Scenario::UNTRACKED),
    (SabotageKind::StartTooEarly, Scenario::PLAIN),
    (SabotageKind::RunTooShort, Scenario::RUNS),
    (SabotageKind::EntryAfterSuspend, Scenario::PLAIN),
    (SabotageKind::DropUsedRing, Scenario::of(Purpose::UsedRing)),
    (SabotageKind::DropControl, Scenario::of(Purpose::Control)),
    (SabotageKind::DropEvent, Scenario::of(Purpose::Event)),
];

/// The switches that the log engine does not have. `SuspendEarly` breaks rule 7 in the function;
/// the others are those of saved states, of ATTEST and of a write that no guest has asked for.
const OTHER_SABOTAGES: &[SabotageKind] = &[
    SabotageKind::SuspendEarly,
    SabotageKind::StateBitFlip,
    SabotageKind::StateTruncated,
    SabotageKind::StateStale,
    SabotageKind::StrayWrite,
    SabotageKind::AttestHidden,
    SabotageKind::AttestForeign,
];

fn explored(scenario: Scenario) -> Result<u64, String> {
    explore(|| match run(scenario) {
        Ok(_) => Ok(()),
        Err(violation) => Err(violation.to_string()),
    })
}

/// Explores until something is wrong.
fn finds(name: &str, scenario: Scenario) {
    let start = Instant::now();
    match explored(scenario) {
        Ok(runs) => panic!("not found in {runs} runs: {name}"),
        Err(what) => {
            let what = what.lines().next().unwrap_or_default();
            println!("{name}: {what}, {:?}", start.elapsed());
        }
    }
}

#[test]
fn every_bug_is_found() {
    let listed: BTreeSet<_> = BUGS.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, NAMES.iter().copied().collect());
    for (name, scenario) in BUGS {
        bugs::set(name);
        finds(name, *scenario);
    }
}

#[test]
fn every_switch_of_the_nic_is_found() {
    let mut listed: Vec<_> = SABOTAGES.iter().map(|(kind, _)| kind.name()).collect();
    listed.extend(OTHER_SABOTAGES.iter().map(|kind| kind.name()));
    listed.sort_unstable();
    let mut all = SabotageKind::ALL.map(SabotageKind::name);
    all.sort_unstable();
    assert_eq!(listed, all);
    bugs::set("");
    for (kind, scenario) in SABOTAGES {
        let sabotage = Some(*kind);
        finds(
            kind.name(),
            Scenario {
                sabotage,
                ..*scenario
            },
        );
    }
}

/// The switches of the bugs change nothing while they are off.
#[test]
fn without_a_bug_nothing_is_found() {
    bugs::set("");
    for scenario in [
        Scenario::PARTS,
        Scenario::SPOILT,
        Scenario::untracked(14),
        Scenario::FULL_CUT_STARVED,
        Scenario::FULL_RUNS,
        Scenario::BURST_LATE,
        Scenario::held(13),
        Scenario {
            writes: 2,
            ..Scenario::INTERRUPTS
        },
        Scenario {
            writes: 2,
            ..Scenario::BESIDE
        },
    ] {
        explored(scenario).unwrap();
    }
}

/// With three writes the bug loses nothing, but it takes a step that is none of the protocol.
#[test]
fn a_step_that_the_protocol_does_not_have_is_found() {
    let scenario = Scenario {
        writes: 3,
        ..Scenario::PLAIN
    };
    bugs::set("a drain goes on behind the marker");
    explored(scenario).unwrap();
    let explored = explore(|| match run(scenario) {
        Ok(events) => refine::check(&scenario, &events).map(drop),
        Err(violation) => Err(violation.to_string()),
    });
    let what = explored.unwrap_err();
    println!("{}", what.lines().next().unwrap_or_default());
}
