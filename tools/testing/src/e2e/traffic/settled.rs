// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Whether all that was sent has arrived, by the numbers of both sides. Pure.

use dlr_guest::protocol::{Sent, Stats};
use dlr_traffic::Report;
use serde_json::Value;

use super::numbers::{id, BACKLOG, BULK, ECHO, LIVE, UPLINK};

/// Whether nothing is on its way any more, of a guest with `nics` interfaces. What was lost or damaged
/// by mistake may never let it be so: who waits for this needs a limit. The backlog is counted when it
/// is read; here its stream only has to have ended.
pub(super) fn settled(peer: &Value, guest: &Stats, nics: usize) -> bool {
    (0..nics).map(id).all(|nic| {
        let ended = [BACKLOG, LIVE]
            .iter()
            .all(|first| stream(peer, first + nic).is_some_and(|s| s["running"] == false));
        let all_sent = sender(guest, UPLINK + nic)
            .is_some_and(|s| s.sent == arrived_there(peer, "udp", UPLINK + nic))
            && sender(guest, BULK + nic)
                .is_some_and(|s| broken(s) || s.sent == arrived_there(peer, "tcp", BULK + nic))
            && sender(guest, ECHO + nic)
                .is_some_and(|s| broken(s) || s.sent == s.echoed + s.corrupt);
        ended && all_sent && all_received(peer, guest, LIVE + nic)
    }) && guest.sent.iter().all(|s| !s.running)
}

/// Whether no more will come of it: the connection broke.
fn broken(sender: &Sent) -> bool {
    sender.error.is_some()
}

fn sender(guest: &Stats, number: u32) -> Option<&Sent> {
    guest.sent.iter().find(|s| s.stream == number)
}

fn stream(peer: &Value, number: u32) -> Option<&Value> {
    let streams = peer["backend"]["streams"].as_array()?;
    streams.iter().find(|s| s["stream"] == number)
}

/// Messages of a stream of the guest that the peer has, damaged ones too.
fn arrived_there(peer: &Value, via: &str, number: u32) -> u64 {
    let report = sink_report(peer, via, number);
    report.received + report.corrupt
}

/// What the peer counts of a stream that the guest sends to it; all zeros before its first message.
pub(in crate::e2e) fn sink_report(peer: &Value, via: &str, number: u32) -> Report {
    let streams = peer["backend"]["sinks"]["streams"].as_array();
    let sink = streams
        .into_iter()
        .flatten()
        .find(|s| s["stream"] == number && s["via"] == via);
    sink.and_then(|s| serde_json::from_value(s["report"].clone()).ok())
        .unwrap_or_default()
}

/// Whether the guest has what the NIC accepted of a stream of the peer.
fn all_received(peer: &Value, guest: &Stats, number: u32) -> bool {
    let accepted = stream(peer, number).and_then(|s| s["accepted"].as_u64());
    let report = guest.received.values().find_map(|r| r.streams.get(&number));
    let arrived = report.map_or(0, |r| r.next - r.missing);
    accepted == Some(arrived)
}

#[cfg(test)]
mod tests;
