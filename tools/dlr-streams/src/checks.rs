// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Driver and NIC are right about all streams.

use std::{env, time::Instant};

use crate::{
    hostile::Hostile,
    judge::Judge,
    nic::{stopped, Nic},
    saved,
};

/// How often each outcome has to come, at least: once in so many streams.
const OUTCOMES: &[(&str, u64)] = &[
    ("complete", 10),
    ("incomplete", 100),
    ("EINVAL", 10),
    ("EOPNOTSUPP", 100),
    ("ENOMEM", 100),
    ("framed", 10),
    ("the NIC takes what is good", 100),
    ("the NIC takes what is damaged", 100),
    ("the NIC refuses what the driver takes", 100),
    ("the NIC refuses what the driver refuses", 10),
];

/// Number of streams.
fn number() -> u64 {
    let number = env::var("DLR_STREAMS").ok();
    number.map_or(1_000_000, |number| number.parse().unwrap())
}

#[test]
fn driver_and_nic_are_right_about_hostile_streams() {
    let (function, other) = (stopped(), stopped());
    let hostile = Hostile::new(saved::streams());
    let mut judge = Judge::new(&hostile, Nic::new(&*function.net, &*other.net));
    let (start, number) = (Instant::now(), number());
    for n in 0..number {
        judge.stream(n).unwrap();
    }
    println!(
        "{number} streams, {:?}: {:#?}",
        start.elapsed(),
        judge.counts
    );
    for (outcome, once_in) in OUTCOMES {
        let count = judge.counts.get(outcome).copied().unwrap_or_default();
        assert!(count >= number / once_in, "{outcome}: {count}");
    }
    assert!(judge.counts.len() == OUTCOMES.len(), "{:?}", judge.counts);
}
