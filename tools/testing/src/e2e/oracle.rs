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

use super::traffic::{sink_report, Accounts, BACKLOG, BULK, ECHO, LIVE, UPLINK};

/// A frame is given up some time after it was sent, and a machine runs some
/// time after QEMU has said so.
const SLACK_BEFORE_MS: u64 = 300;
const SLACK_AFTER_MS: u64 = 1000;

/// What one oracle says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Messages that were checked.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that came damaged or twice, or that the NIC accepted and the guest does not have
    /// although it has later ones. A guest that stands still has none of these.
    pub spoiled: u64,
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

    /// Messages that are spoiled, of both.
    pub fn spoiled(&self) -> u64 {
        self.memory.spoiled + self.wire.spoiled
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
        // The backlog comes by several sockets, which are read one after the other.
        verdict.wire.demand(live.reordered == 0, || {
            format!(
                "live stream {}: {} out of order",
                LIVE + nic,
                live.reordered
            )
        });
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
    let unknown = accounts.peer["backend"]["sinks"]["unknown"].as_u64();
    verdict.wire.demand(unknown == Some(0), || {
        format!(
            "{unknown:?} messages from the guest without a good header: {}",
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
    let counter = |key: &str| stream[key].as_u64();
    let (Some(accepted), Some(lost), Some(losses)) = (
        counter("accepted"),
        counter("lost"),
        stream["losses"].as_array(),
    ) else {
        check.problems.push(format!(
            "{name} {number}: the peer does not count: {stream}"
        ));
        return;
    };
    *lost_total += lost;
    // What is missing before the last message, beyond what the peer gave up itself.
    check.spoiled += report.corrupt + report.duplicates + report.missing.saturating_sub(lost);
    // Damaged ones arrived too; they are a problem of their own.
    let arrived = report.next - report.missing;
    check.demand(arrived == accepted, || {
        format!(
            "{name} {number}: the NIC accepted {accepted}, the guest has {arrived}; missing {:?}",
            report.gaps
        )
    });
    let mut listed = 0;
    for loss in losses {
        let at = |key: &str| loss[key].as_u64();
        let (Some(first), Some(last), Some(since), Some(until)) =
            (at("first"), at("last"), at("from_ms"), at("to_ms"))
        else {
            check
                .problems
                .push(format!("{name} {number}: not a loss: {loss}"));
            continue;
        };
        listed += (last + 1).saturating_sub(first);
        let inside = stopped
            .iter()
            .any(|(from, to)| since + SLACK_BEFORE_MS >= *from && until <= to + SLACK_AFTER_MS);
        check.demand(inside, || {
            format!("{name} {number}: lost outside the stopped window {stopped:?}: {loss}")
        });
    }
    // The peer lists only so many.
    check.demand(listed == lost, || {
        format!("{name} {number}: {lost} lost, of which {listed} are listed with their time")
    });
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
    let report = sink_report(&accounts.peer, via, number);
    check.count(&report);
    check.spoiled += report.corrupt + report.duplicates;
    check.demand(
        report.corrupt + report.duplicates + report.missing + report.reordered == 0,
        || {
            format!(
                "{via} {number}: {} damaged, {} twice, {} out of order, {} missing {:?}",
                report.corrupt, report.duplicates, report.reordered, report.missing, report.gaps
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
mod tests;
