// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::collections::BTreeMap;

use dlr_guest::protocol::{BacklogReport, Received, Sent, Stats};
use dlr_traffic::Gap;
use serde_json::json;

use super::*;

fn report(received: u64) -> Report {
    Report {
        received,
        next: received,
        ..Report::default()
    }
}

fn sender(kind: &str, stream: u32) -> Sent {
    Sent {
        kind: kind.into(),
        stream,
        sent: 7,
        echoed: if kind == "tcp-echo" { 7 } else { 0 },
        corrupt: 0,
        longest_us: 1,
        error: None,
        running: false,
    }
}

/// A run in which all is well, with one loss in the stopped window.
fn accounts() -> Accounts {
    let backlog = Report {
        received: 9,
        next: 10,
        missing: 1,
        gaps: vec![Gap { first: 5, last: 5 }],
        ..Report::default()
    };
    let sink = |via: &str, stream: u32| json!({"via": via, "stream": stream, "report": report(7)});
    let stream = |stream: u32, accepted: u64, lost: Value| {
        json!({"stream": stream, "accepted": accepted,
            "lost": lost.as_array().map_or(0, Vec::len), "losses": lost})
    };
    Accounts {
        nics: 1,
        peer: json!({"backend": {
            "streams": [
                stream(BACKLOG, 9, json!([{"first": 5, "last": 5, "from_ms": 1100, "to_ms": 1100}])),
                stream(LIVE, 20, json!([])),
            ],
            "sinks": {"unknown": 0, "streams": [sink("udp", UPLINK), sink("tcp", BULK)]}}}),
        backlog: BacklogReport {
            streams: [(BACKLOG, backlog)].into(),
            ..BacklogReport::default()
        },
        guest: Stats {
            received: BTreeMap::from([(
                6000,
                Received {
                    streams: [(LIVE, report(20))].into(),
                    unknown: 0,
                    drops: 0,
                },
            )]),
            sent: vec![
                sender("udp", UPLINK),
                sender("tcp-echo", ECHO),
                sender("tcp", BULK),
            ],
        },
    }
}

const STOPPED: &Windows = &[(1000, 1200)];

#[test]
fn all_is_well() {
    let verdict = judge(&accounts(), STOPPED);
    assert!(verdict.passed(), "{}", verdict.problems());
    assert_eq!((verdict.lost, verdict.memory.messages), (1, 9));
}

/// Breaks one thing and returns the verdict's text.
fn broken(break_it: impl FnOnce(&mut Accounts)) -> String {
    let mut accounts = accounts();
    break_it(&mut accounts);
    let verdict = judge(&accounts, STOPPED);
    assert!(!verdict.passed());
    verdict.problems()
}

#[test]
fn a_dead_guest_is_judged_by_what_it_sent() {
    let peer = accounts().peer;
    assert!(judge_sinks(&peer).is_empty(), "{:?}", judge_sinks(&peer));
    for key in ["corrupt", "duplicates"] {
        let mut peer = peer.clone();
        peer["backend"]["sinks"]["streams"][0]["report"][key] = 1.into();
        assert_eq!(judge_sinks(&peer).len(), 1);
    }
    let mut peer = peer.clone();
    peer["backend"]["sinks"]["unknown"] = 2.into();
    assert_eq!(judge_sinks(&peer).len(), 1);
    assert!(
        !judge_sinks(&json!({})).is_empty(),
        "no answer is no verdict"
    );
}

#[test]
fn every_kind_of_damage_is_named() {
    let backlog =
        |a: &mut Accounts, f: fn(&mut Report)| f(a.backlog.streams.get_mut(&BACKLOG).unwrap());
    assert!(broken(|a| backlog(a, |r| r.corrupt = 1)).starts_with("memory: backlog 100: 1 damaged"));
    assert!(broken(|a| backlog(a, |r| r.missing = 2)).contains("accepted 9, the guest has 8"));
    assert!(broken(|a| backlog(a, |r| r.duplicates = 2)).contains("came twice"));
    assert!(broken(|a| a.backlog.unknown = 1).contains("good header"));
    assert!(broken(|a| a.backlog.drops = 1).contains("too small"));
    assert!(broken(|a| a.backlog.streams.clear()).contains("no backlog"));
    assert!(broken(|a| a.guest.sent[1].error = Some("reset".into())).contains("broke"));
    assert!(broken(|a| a.guest.sent[1].echoed = 6).contains("6 came back"));
    assert!(broken(|a| a.guest.sent[0].sent = 8).contains("the guest sent 8"));
    assert!(broken(
        |a| a.peer["backend"]["sinks"]["streams"][1]["report"]["duplicates"] = 1.into()
    )
    .starts_with("wire: tcp 500"));
    assert!(
        broken(|a| a.peer["backend"]["streams"][0]["losses"][0]["to_ms"] = 9000.into())
            .contains("outside the stopped window")
    );
}

#[test]
fn a_stream_that_ends_early_is_not_spoiled() {
    let spoiled = |change: fn(&mut Report)| {
        let mut accounts = accounts();
        change(accounts.backlog.streams.get_mut(&BACKLOG).unwrap());
        judge(&accounts, STOPPED).spoiled()
    };
    // The NIC accepted 9, the peer gave up one.
    assert_eq!(spoiled(|_| ()), 0);
    assert_eq!(spoiled(|r| (r.received, r.next) = (6, 7)), 0);
    assert_eq!(spoiled(|r| (r.received, r.missing) = (8, 2)), 1);
    assert_eq!(spoiled(|r| (r.corrupt, r.duplicates) = (2, 3)), 5);
    let mut accounts = accounts();
    accounts.peer["backend"]["sinks"]["streams"][0]["report"]["corrupt"] = 4.into();
    assert_eq!(judge(&accounts, STOPPED).spoiled(), 4);
}

#[test]
fn losses_that_are_not_listed_are_not_excused() {
    let stream = |a: &mut Accounts, key: &str, value: Value| {
        a.peer["backend"]["streams"][0][key] = value;
    };
    assert!(broken(|a| stream(a, "lost", 2.into())).contains("2 lost, of which 1 are listed"));
    assert!(broken(|a| stream(a, "losses", json!([]))).contains("1 lost, of which 0"));
}

#[test]
fn a_number_that_is_missing_is_no_zero() {
    for key in ["accepted", "lost", "losses"] {
        let text = broken(|a| a.peer["backend"]["streams"][1][key] = Value::Null);
        assert!(text.contains("the peer does not count"), "{key}: {text}");
    }
    for key in ["first", "last", "from_ms", "to_ms"] {
        let text = broken(|a| a.peer["backend"]["streams"][0]["losses"][0][key] = Value::Null);
        assert!(text.contains("not a loss"), "{key}: {text}");
    }
    let text = broken(|a| a.peer["backend"]["sinks"]["unknown"] = Value::Null);
    assert!(text.contains("None messages"), "{text}");
}

#[test]
fn one_queue_keeps_the_order() {
    let live = |a: &mut Accounts| {
        let streams = &mut a.guest.received.get_mut(&6000).unwrap().streams;
        streams.get_mut(&LIVE).unwrap().reordered = 1;
    };
    assert!(broken(live).contains("live stream 200: 1 out of order"));
    let sink = |a: &mut Accounts| {
        a.peer["backend"]["sinks"]["streams"][0]["report"]["reordered"] = 1.into();
    };
    assert!(broken(sink).contains("1 out of order"));
}

#[test]
fn a_second_after_the_window_nothing_may_be_lost() {
    let lost_at = |ms: u64| {
        let mut accounts = accounts();
        accounts.peer["backend"]["streams"][0]["losses"][0]["to_ms"] = ms.into();
        judge(&accounts, STOPPED).passed()
    };
    assert!(lost_at(1200 + 1000) && !lost_at(1200 + 1001));
}
