// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::collections::BTreeMap;

use dlr_guest::protocol::Received;
use serde_json::json;

use super::*;

/// Both sides of a guest with one interface, to which and from which ten of each have come.
fn whole() -> (Value, Stats) {
    let report = || Report {
        received: 10,
        next: 10,
        ..Report::default()
    };
    let sent = |kind: &str, stream, echoed| Sent {
        kind: kind.to_owned(),
        stream,
        sent: 10,
        echoed,
        corrupt: 0,
        longest_us: 0,
        error: None,
        running: false,
    };
    let received = Received {
        streams: BTreeMap::from([(LIVE, report())]),
        unknown: 0,
        drops: 0,
    };
    let guest = Stats {
        received: BTreeMap::from([(6000, received)]),
        sent: vec![
            sent("udp", UPLINK, 0),
            sent("tcp-echo", ECHO, 10),
            sent("tcp", BULK, 0),
        ],
    };
    let peer = json!({"backend": {
        "streams": [
            {"stream": BACKLOG, "running": false, "accepted": 99},
            {"stream": LIVE, "running": false, "accepted": 10},
        ],
        "sinks": {"streams": [
            {"stream": UPLINK, "via": "udp", "report": report()},
            {"stream": BULK, "via": "tcp", "report": report()},
        ]},
    }});
    (peer, guest)
}

#[test]
fn all_has_arrived() {
    let (peer, guest) = whole();
    assert!(settled(&peer, &guest, 1));
    // The second interface has no streams yet.
    assert!(!settled(&peer, &guest, 2));
}

#[test]
fn each_stream_is_waited_for() {
    let without = |change: &dyn Fn(&mut Value, &mut Stats)| {
        let (mut peer, mut guest) = whole();
        change(&mut peer, &mut guest);
        settled(&peer, &guest, 1)
    };
    for stream in 0..2 {
        assert!(!without(
            &|p, _| p["backend"]["streams"][stream]["running"] = true.into()
        ));
    }
    assert!(!without(
        &|p, _| p["backend"]["streams"][1]["accepted"] = 11.into()
    ));
    for sink in 0..2 {
        assert!(!without(&|p, _| {
            p["backend"]["sinks"]["streams"][sink]["report"]["received"] = 9.into();
        }));
    }
    for sender in 0..3 {
        assert!(!without(&|_, g| {
            if let Some(s) = g.sent.get_mut(sender) {
                s.running = true;
            }
        }));
        assert!(!without(&|_, g| {
            if let Some(s) = g.sent.get_mut(sender) {
                s.sent = 11;
            }
        }));
    }
}

#[test]
fn a_broken_connection_is_not_waited_for() {
    let (peer, mut guest) = whole();
    for sender in &mut guest.sent {
        if sender.kind != "udp" {
            sender.sent = 11;
            sender.error = Some("timed out".to_owned());
        }
    }
    assert!(settled(&peer, &guest, 1));
}
