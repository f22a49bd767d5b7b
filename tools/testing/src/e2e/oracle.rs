// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The two oracles' verdicts, from what both sides have counted. Pure.
//!
//! *Memory*: every datagram of the backlog is what the peer sent, to the last
//! byte, and each one that the NIC put into the guest's memory is there.
//!
//! *Wire*: what the NIC accepted for the guest is what the guest received, no
//! more and no less; what was lost was lost while the machine stood still;
//! what the guest sent arrived once and undamaged; the TCP connections live.

use dlr_traffic::Report;
use serde::Serialize;
use serde_json::Value;

use super::traffic::{Accounts, BACKLOG, BULK, ECHO, LIVE, UPLINK};

/// A frame is given up some time after it was sent, and a machine runs some
/// time after QEMU has said so.
const SLACK_BEFORE_MS: u64 = 300;
const SLACK_AFTER_MS: u64 = 3000;

/// What one oracle says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Messages that were checked.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong; empty if all is well.
    pub problems: Vec<String>,
}

impl Check {
    /// Whether all is well.
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }

    fn demand(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(problem());
        }
    }

    fn count(&mut self, report: &Report) {
        self.messages += report.received + report.corrupt;
        self.bytes += report.bytes;
    }
}

/// What both oracles say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The guest's memory.
    pub memory: Check,
    /// The wire.
    pub wire: Check,
    /// Frames for the guest that were lost while it stood still.
    pub lost: u64,
}

impl Verdict {
    /// Whether both are content.
    pub fn passed(&self) -> bool {
        self.memory.passed() && self.wire.passed()
    }

    /// All problems in one text.
    pub fn problems(&self) -> String {
        let memory = self.memory.problems.iter().map(|p| format!("memory: {p}"));
        let wire = self.wire.problems.iter().map(|p| format!("wire: {p}"));
        memory.chain(wire).collect::<Vec<_>>().join("\n")
    }
}

/// Time spans (ms since 1970, this machine's clock) in which a machine stood still.
pub type Windows = [(u64, u64)];

/// Judges.
pub fn judge(accounts: &Accounts, stopped: &Windows) -> Verdict {
    let mut verdict = Verdict::default();
    let nothing = Report::default();
    for nic in 0..u32::try_from(accounts.nics).unwrap_or(0) {
        let backlog = accounts
            .backlog
            .streams
            .get(&(BACKLOG + nic))
            .unwrap_or(&nothing);
        verdict.memory.count(backlog);
        verdict.memory.demand(backlog.received > 0, || {
            format!("interface {nic}: no backlog")
        });
        received(
            "backlog",
            BACKLOG + nic,
            backlog,
            accounts,
            stopped,
            &mut verdict.memory,
            &mut verdict.lost,
        );

        let live = accounts
            .guest
            .received
            .values()
            .find_map(|r| r.streams.get(&(LIVE + nic)));
        let live = live.unwrap_or(&nothing);
        verdict.wire.count(live);
        received(
            "live stream",
            LIVE + nic,
            live,
            accounts,
            stopped,
            &mut verdict.wire,
            &mut verdict.lost,
        );

        sent("udp", UPLINK + nic, accounts, &mut verdict.wire);
        sent("tcp", BULK + nic, accounts, &mut verdict.wire);
        echo(ECHO + nic, accounts, &mut verdict.wire);
    }
    let backlog = &accounts.backlog;
    verdict.memory.demand(backlog.unknown == 0, || {
        format!(
            "{} datagrams without a good header: {:?}",
            backlog.unknown, backlog.faults
        )
    });
    verdict.memory.demand(backlog.drops == 0, || {
        format!(
            "the guest's sockets were too small for {} datagrams",
            backlog.drops
        )
    });
    let unknown = accounts.peer["backend"]["sinks"]["unknown"]
        .as_u64()
        .unwrap_or(0);
    verdict.wire.demand(unknown == 0, || {
        format!(
            "{unknown} messages from the guest without a good header: {}",
            accounts.peer["backend"]["sinks"]["last_unknown"]
        )
    });
    for (port, received) in &accounts.guest.received {
        verdict
            .wire
            .demand(received.unknown == 0 && received.drops == 0, || {
                format!(
                    "port {port}: {} without a good header, {} dropped",
                    received.unknown, received.drops
                )
            });
    }
    verdict
}

/// What is wrong with the messages that the peer has of a guest, whatever became of it.
pub fn judge_sinks(peer: &Value) -> Vec<String> {
    let sinks = &peer["backend"]["sinks"];
    let mut problems = Vec::new();
    match sinks["unknown"].as_u64() {
        Some(0) => (),
        unknown => problems.push(format!("messages without a good header: {unknown:?}")),
    }
    for sink in sinks["streams"].as_array().into_iter().flatten() {
        let bad = ["corrupt", "duplicates"].map(|key| sink["report"][key].as_u64());
        if bad != [Some(0), Some(0)] {
            problems.push(format!("damaged, twice: {bad:?} of {sink}"));
        }
    }
    problems
}

/// A stream from the peer: what the NIC accepted against what the guest got.
fn received(
    name: &str,
    number: u32,
    report: &Report,
    accounts: &Accounts,
    stopped: &Windows,
    check: &mut Check,
    lost_total: &mut u64,
) {
    check.demand(report.corrupt == 0, || {
        format!(
            "{name} {number}: {} damaged: {}",
            report.corrupt,
            report.faults.join("; ")
        )
    });
    check.demand(report.duplicates == 0, || {
        format!("{name} {number}: {} came twice", report.duplicates)
    });
    let Some(stream) = peer_stream(accounts, number) else {
        check
            .problems
            .push(format!("the peer knows no stream {number}"));
        return;
    };
    let counter = |key: &str| stream[key].as_u64().unwrap_or(0);
    let (accepted, lost) = (counter("accepted"), counter("lost"));
    *lost_total += lost;
    // Damaged ones arrived too; they are a problem of their own.
    let arrived = report.next - report.missing;
    check.demand(arrived == accepted, || {
        format!(
            "{name} {number}: the NIC accepted {accepted}, the guest has {arrived}; missing {:?}",
            report.gaps
        )
    });
    for loss in stream["losses"].as_array().into_iter().flatten() {
        let at = |key: &str| loss[key].as_u64().unwrap_or(0);
        let inside = stopped.iter().any(|(from, to)| {
            at("from_ms") + SLACK_BEFORE_MS >= *from && at("to_ms") <= to + SLACK_AFTER_MS
        });
        check.demand(inside, || {
            format!("{name} {number}: lost outside the stopped window {stopped:?}: {loss}")
        });
    }
}

/// A stream to the peer's sink.
fn sent(via: &str, number: u32, accounts: &Accounts, check: &mut Check) {
    let Some(sender) = accounts.guest.sent.iter().find(|s| s.stream == number) else {
        check
            .problems
            .push(format!("the guest knows no stream {number}"));
        return;
    };
    check.demand(sender.error.is_none(), || {
        format!("{via} {number}: {:?}", sender.error)
    });
    let streams = accounts.peer["backend"]["sinks"]["streams"].as_array();
    let sink = streams
        .into_iter()
        .flatten()
        .find(|s| s["stream"] == number && s["via"] == via);
    let report: Report = sink
        .and_then(|s| serde_json::from_value(s["report"].clone()).ok())
        .unwrap_or_default();
    check.count(&report);
    check.demand(
        report.corrupt + report.duplicates + report.missing == 0,
        || {
            format!(
                "{via} {number}: {} damaged, {} twice, {} missing {:?}",
                report.corrupt, report.duplicates, report.missing, report.gaps
            )
        },
    );
    check.demand(report.received == sender.sent && sender.sent > 0, || {
        format!(
            "{via} {number}: the guest sent {}, the peer has {}",
            sender.sent, report.received
        )
    });
}

/// A TCP connection whose messages come back.
fn echo(number: u32, accounts: &Accounts, check: &mut Check) {
    let Some(sender) = accounts.guest.sent.iter().find(|s| s.stream == number) else {
        check
            .problems
            .push(format!("the guest knows no stream {number}"));
        return;
    };
    check.messages += sender.echoed;
    check.demand(sender.error.is_none(), || {
        format!("TCP connection {number} broke: {:?}", sender.error)
    });
    check.demand(sender.corrupt == 0, || {
        format!("TCP echo {number}: {} damaged", sender.corrupt)
    });
    check.demand(sender.echoed == sender.sent && sender.sent > 0, || {
        format!(
            "TCP echo {number}: {} sent, {} came back",
            sender.sent, sender.echoed
        )
    });
}

fn peer_stream(accounts: &Accounts, number: u32) -> Option<&Value> {
    let streams = accounts.peer["backend"]["streams"].as_array()?;
    streams.iter().find(|s| s["stream"] == number)
}

#[cfg(test)]
mod tests {
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
        let sink =
            |via: &str, stream: u32| json!({"via": via, "stream": stream, "report": report(7)});
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
        assert!(
            broken(|a| backlog(a, |r| r.corrupt = 1)).starts_with("memory: backlog 100: 1 damaged")
        );
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
}
