// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Each bug of `build/bugs.rs` is found.

use crate::{bugs, hostile::Hostile, judge::first_error, nic::stopped, saved};

include!(concat!(env!("OUT_DIR"), "/names.rs"));

/// Each bug is found within so many streams.
const STREAMS: u64 = 50_000;

#[test]
fn every_bug_is_found() {
    let hostile = Hostile::new(saved::streams());
    for name in NAMES {
        bugs::set(name);
        let (function, other) = (stopped(), stopped());
        let found = first_error(&hostile, &*function.net, &*other.net, STREAMS);
        let (number, what) = found.unwrap_or_else(|| panic!("not found: {name}"));
        println!("{name}: stream {number}: {what}");
    }
}

/// The switches of the bugs change nothing while they are off.
#[test]
fn without_a_bug_nothing_is_found() {
    bugs::set("");
    let hostile = Hostile::new(saved::streams());
    let (function, other) = (stopped(), stopped());
    let found = first_error(&hostile, &*function.net, &*other.net, STREAMS);
    assert_eq!(found, None);
}
