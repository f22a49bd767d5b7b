// SPDX-License-Identifier: Apache-2.0 OR MIT

use stateright::Checker;

use super::*;

/// No mishaps.
const PLAIN: Bounds = Bounds {
    granules: 2,
    writes: 4,
    rounds: 2,
    ring: 3,
    untracked: 0,
    add_first: false,
    aborts: 0,
    first_marker: false,
    resets: 0,
    spoils: 0,
    losses: 0,
};

fn check(bounds: Bounds, fault: Option<Fault>) -> impl Checker<Protocol> {
    Protocol { bounds, fault }
        .checker()
        .threads(2)
        .spawn_bfs()
        .join()
}

/// The properties that have to hold in every state.
const ALWAYS: [&str; 3] = [
    "no lost page",
    "no failure without a cause",
    "there is a next step",
];

fn assert_holds(name: &str, bounds: Bounds) -> impl Checker<Protocol> {
    let checker = check(bounds, None);
    for property in ALWAYS {
        if let Some(path) = checker.discovery(property) {
            panic!("{name}: not \"{property}\": {:?}", path.into_actions());
        }
    }
    assert!(checker.discovery("a migration completes").is_some());
    println!("{name}: {} states", checker.unique_state_count());
    checker
}

#[test]
fn the_rules_lose_no_page() {
    assert_holds("plain", PLAIN).assert_properties();
}

#[test]
fn three_granules_and_a_roomier_ring_lose_no_page() {
    let bounds = Bounds {
        granules: 3,
        writes: 3,
        ring: 4,
        ..PLAIN
    };
    assert_holds("three granules", bounds);
}

#[test]
fn granules_that_are_added_later_lose_no_page() {
    for (untracked, add_first) in [(0b10, false), (0b11, false), (0b10, true), (0b11, true)] {
        let bounds = Bounds {
            writes: 3,
            untracked,
            add_first,
            ..PLAIN
        };
        assert_holds("added later", bounds);
    }
}

#[test]
fn a_sync_that_is_given_again_loses_no_page() {
    let bounds = Bounds {
        writes: 3,
        aborts: 2,
        ..PLAIN
    };
    assert_holds("given again", bounds);
    let bounds = Bounds { ring: 4, ..bounds };
    assert_holds("given again, a roomier ring", bounds);
    let bounds = Bounds {
        aborts: 1,
        first_marker: true,
        ..bounds
    };
    assert_holds("given again, harvested at the first marker", bounds);
}

#[test]
fn resets_losses_and_bad_entries_lose_no_page() {
    for (name, resets, spoils, losses) in [
        ("resets", 1, 0, 0),
        ("spoils", 0, 1, 0),
        ("losses", 0, 0, 1),
    ] {
        let bounds = Bounds {
            writes: 3,
            resets,
            spoils,
            losses,
            ..PLAIN
        };
        assert_holds(name, bounds);
    }
}

/// A trace in which a SYNC has two markers in the ring: else the tests above say nothing of it.
#[test]
fn a_sync_can_have_two_markers() {
    let bounds = Bounds {
        writes: 1,
        aborts: 1,
        ring: 4,
        ..PLAIN
    };
    let model = Protocol {
        bounds,
        fault: None,
    };
    let mut todo = model.init_states();
    let mut seen = std::collections::HashSet::new();
    while let Some(state) = todo.pop() {
        let markers = state
            .device
            .ring
            .iter()
            .filter(|e| matches!(e, Entry::Sync(_)));
        if markers.count() == 2 {
            return;
        }
        if seen.insert(state.clone()) {
            todo.extend(model.next_states(&state));
        }
    }
    panic!("never two markers");
}

/// "There is a next step" says that every REPORT ends only because no step leads back.
#[test]
fn no_step_leads_back() {
    let bounds = Bounds {
        writes: 2,
        aborts: 1,
        resets: 1,
        ..PLAIN
    };
    no_cycle(bounds);
    let bounds = Bounds {
        untracked: 0b10,
        add_first: true,
        aborts: 0,
        ..bounds
    };
    no_cycle(bounds);
}

fn no_cycle(bounds: Bounds) {
    let model = Protocol {
        bounds,
        fault: None,
    };
    // Depth first: `true` while a state is on the path to the one that is looked at.
    let mut on_path = std::collections::HashMap::new();
    let mut todo: Vec<(State, bool)> = model
        .init_states()
        .into_iter()
        .map(|s| (s, false))
        .collect();
    while let Some((state, left)) = todo.pop() {
        if left {
            on_path.insert(state, false);
            continue;
        }
        match on_path.get(&state) {
            Some(false) => continue,
            Some(true) => panic!("a step leads back to {state:?}"),
            None => {}
        }
        on_path.insert(state.clone(), true);
        let next = model.next_states(&state);
        todo.push((state, true));
        for state in next {
            assert_ne!(
                on_path.get(&state),
                Some(&true),
                "a step leads back to {state:?}"
            );
            todo.push((state, false));
        }
    }
    println!("no cycle in {} states", on_path.len());
}

/// Where each fault can show, and the property that has to fail.
fn showing(fault: Fault) -> (Bounds, &'static str) {
    let three = Bounds { writes: 3, ..PLAIN };
    let bounds = match fault {
        Fault::MarkersTakenFreely => Bounds {
            aborts: 1,
            ring: 5,
            ..three
        },
        Fault::ResetEndsLog => Bounds { resets: 1, ..three },
        Fault::LossIgnored => Bounds { losses: 1, ..three },
        Fault::AddNotTracked => Bounds {
            untracked: 0b10,
            ..three
        },
        Fault::UnknownIgnored => Bounds { spoils: 1, ..three },
        _ => PLAIN,
    };
    let property = match fault {
        Fault::SlotsKept => "there is a next step",
        _ => "no lost page",
    };
    (bounds, property)
}

#[test]
fn every_broken_rule_loses_a_page() {
    for fault in Fault::ALL {
        let (bounds, property) = showing(fault);
        let path = check(bounds, Some(fault)).discovery(property);
        assert!(path.is_some(), "{fault:?} went unnoticed");
    }
    // The other order of a REPORT that adds granules.
    for fault in [Fault::AddNotTracked, Fault::PostedWithoutFlush] {
        let bounds = Bounds {
            writes: 3,
            untracked: 0b10,
            add_first: true,
            ..PLAIN
        };
        let path = check(bounds, Some(fault)).discovery("no lost page");
        assert!(path.is_some(), "{fault:?} went unnoticed");
    }
}
