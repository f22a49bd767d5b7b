// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Streams of numbered messages for the guest, with the fate of each.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use dlr_core::Delivery;
use dlr_traffic::HEADER_LEN;
use serde::Serialize;
use serde_json::{json, Value};

use super::{
    frame::{Neighbours, MAX_PAYLOAD},
    request::PeerRequest,
};
use crate::{backend::Deliver, time::unix_ms};

/// Messages of one stream in one turn of the wire's thread.
const BURST: u64 = 32;
/// A stream that fell behind makes up for so much time and forgets the rest.
const CATCH_UP: Duration = Duration::from_millis(100);
/// Pause before a message without a buffer is offered again.
const RETRY: Duration = Duration::from_millis(1);
/// A guest without a buffer for so long does not live any more.
const BUSY: Duration = Duration::from_secs(20);
/// Pause between questions for the guest's Ethernet address.
const ASK: Duration = Duration::from_millis(500);
/// Losses that are listed; all are counted.
const LISTED: usize = 256;
/// Arrivals that a stream keeps the time of.
const TIMED: usize = 1 << 17;
/// Most streams.
const STREAMS: usize = 64;

/// Consecutive messages that nobody took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Loss {
    /// First number.
    first: u64,
    /// Last number.
    last: u64,
    /// When the first was given up, ms since 1970.
    from_ms: u64,
    /// When the last was given up.
    to_ms: u64,
}

/// The longest time between two messages that got through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Silence {
    ms: u64,
    from_ms: u64,
}

/// One stream.
#[derive(Debug)]
struct Stream {
    dst: Ipv4Addr,
    port: u16,
    ports: u16,
    size: usize,
    pps: u32,
    count: Option<u64>,
    patience: Duration,
    ended: bool,
    /// Number of the next message.
    next: u64,
    accepted: u64,
    lost: u64,
    losses: Vec<Loss>,
    /// When each message was accepted, ms since 1970, rising; the first [`TIMED`] of them.
    arrivals: Vec<u64>,
    silence: Silence,
    last_accepted: Option<Instant>,
    /// Time that the stream has been paid for.
    clock: Instant,
    /// When the message that waits was offered first.
    held: Option<Instant>,
    /// The last one was lost: do not wait for the next.
    blackout: bool,
    asked: Option<Instant>,
}

/// All streams.
#[derive(Debug, Default)]
pub(super) struct Generators(BTreeMap<u32, Stream>);

impl Generators {
    /// Carries out `start`, `rate` and `stop`.
    pub(super) fn control(&mut self, request: &PeerRequest, now: Instant) -> Result<(), String> {
        match *request {
            PeerRequest::Start {
                stream,
                dst,
                port,
                ports,
                size,
                pps,
                count,
                patience_ms,
            } => {
                if !(HEADER_LEN..=MAX_PAYLOAD).contains(&size) {
                    return Err(format!("size must be {HEADER_LEN} to {MAX_PAYLOAD}"));
                }
                if ports == 0 || port.checked_add(ports - 1).is_none() {
                    return Err(format!("there are no {ports} ports from {port} on"));
                }
                if self.0.get(&stream).is_some_and(|s| !s.ended) {
                    return Err(format!("stream {stream} is running"));
                }
                if self.0.len() >= STREAMS && !self.0.contains_key(&stream) {
                    return Err(format!("no more than {STREAMS} streams"));
                }
                self.0.insert(
                    stream,
                    Stream {
                        dst,
                        port,
                        ports,
                        size,
                        pps,
                        count,
                        patience: Duration::from_millis(patience_ms),
                        ended: count == Some(0),
                        next: 0,
                        accepted: 0,
                        lost: 0,
                        losses: vec![],
                        arrivals: vec![],
                        silence: Silence::default(),
                        last_accepted: None,
                        clock: now,
                        held: None,
                        blackout: false,
                        asked: None,
                    },
                );
            }
            PeerRequest::Rate { stream, pps } => {
                let stream = self.0.get_mut(&stream).ok_or("no such stream")?;
                stream.pps = pps;
                stream.clock = now;
            }
            PeerRequest::Stop { stream } => {
                if stream.is_some_and(|s| !self.0.contains_key(&s)) {
                    return Err("no such stream".into());
                }
                let chosen = self
                    .0
                    .iter_mut()
                    .filter(|(n, _)| stream.is_none_or(|s| s == **n));
                chosen.for_each(|(_, s)| s.ended = true);
            }
            PeerRequest::Forget => self.0.clear(),
            PeerRequest::Arrivals { .. } => return Err("a question, not a request".into()),
        }
        Ok(())
    }

    /// Messages of a stream that were accepted from `from_ms` to `to_ms`, ms since 1970.
    pub(super) fn arrivals(&self, stream: u32, from_ms: u64, to_ms: u64) -> Result<u64, String> {
        let stream = self.0.get(&stream).ok_or("no such stream")?;
        let before = |ms: u64| stream.arrivals.partition_point(|&at| at < ms);
        let (from, to) = (before(from_ms), before(to_ms.saturating_add(1)));
        u64::try_from(to.saturating_sub(from)).map_err(|e| e.to_string())
    }

    /// Sends what is due.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        neighbours: &Neighbours,
        deliver: &mut Deliver<'_>,
    ) -> Option<Duration> {
        self.0
            .iter_mut()
            .filter_map(|(&n, s)| s.poll(n, now, neighbours, deliver))
            .min()
    }

    /// Counters of all streams, ended ones too.
    pub(super) fn stats(&self) -> Vec<Value> {
        self.0.iter().map(|(&n, s)| s.stats(n)).collect()
    }
}

impl Stream {
    fn poll(
        &mut self,
        number: u32,
        now: Instant,
        neighbours: &Neighbours,
        deliver: &mut Deliver<'_>,
    ) -> Option<Duration> {
        if self.ended || self.pps == 0 {
            return None;
        }
        if !neighbours.knows(self.dst) {
            self.clock = now;
            if self
                .asked
                .is_none_or(|at| now.saturating_duration_since(at) >= ASK)
            {
                self.asked = Some(now);
                if let Some(frame) = neighbours.who_has(self.dst) {
                    deliver(&frame);
                }
            }
            return Some(ASK);
        }
        let period = Duration::from_secs(1) / self.pps;
        if now.saturating_duration_since(self.clock) > CATCH_UP.max(period * 2) {
            self.clock = now - CATCH_UP.min(now.saturating_duration_since(self.clock));
        }
        let mut sent = 0;
        while self.clock <= now {
            if sent == BURST {
                return Some(Duration::ZERO);
            }
            if !self.send(number, now, neighbours, deliver) {
                return Some(RETRY);
            }
            self.clock += period;
            sent += 1;
            if self.count.is_some_and(|count| self.next >= count) {
                self.ended = true;
                return None;
            }
        }
        Some(self.clock - now)
    }

    /// Offers the next message; false if it has to wait.
    fn send(
        &mut self,
        number: u32,
        now: Instant,
        neighbours: &Neighbours,
        deliver: &mut Deliver<'_>,
    ) -> bool {
        let port = self.port + u16::try_from(self.next % u64::from(self.ports)).unwrap_or(0);
        let frame = dlr_traffic::build(number, self.next, self.size)
            .ok()
            .and_then(|payload| neighbours.udp(self.dst, port, &payload));
        let result = frame.map_or(Delivery::Dropped, |frame| deliver(&frame));
        if result == Delivery::Accepted {
            self.accepted += 1;
            if self.arrivals.len() < TIMED {
                // The clock may be set back: then the order of arrival counts.
                let last = self.arrivals.last().copied().unwrap_or(0);
                self.arrivals.push(unix_ms().max(last));
            }
            self.blackout = false;
            if let Some(before) = self.last_accepted.replace(now) {
                let ms = millis(now.saturating_duration_since(before));
                if ms > self.silence.ms {
                    self.silence = Silence {
                        ms,
                        from_ms: unix_ms().saturating_sub(ms),
                    };
                }
            }
        } else {
            let since = *self.held.get_or_insert(now);
            let limit = match result {
                // A guest that is slow is no reason to lose a frame: the wire pauses.
                Delivery::NoBuffer => BUSY,
                // Nobody is there, maybe on the way to another function.
                _ if self.blackout => Duration::ZERO,
                _ => self.patience,
            };
            if now.saturating_duration_since(since) < limit {
                return false;
            }
            self.blackout = true;
            self.lose();
        }
        self.held = None;
        self.next += 1;
        true
    }

    fn lose(&mut self) {
        self.lost += 1;
        let (seq, ms) = (self.next, unix_ms());
        if let Some(loss) = self.losses.last_mut().filter(|l| l.last + 1 == seq) {
            loss.last = seq;
            loss.to_ms = ms;
        } else if self.losses.len() < LISTED {
            self.losses.push(Loss {
                first: seq,
                last: seq,
                from_ms: ms,
                to_ms: ms,
            });
        }
    }

    fn stats(&self, number: u32) -> Value {
        json!({"stream": number, "dst": self.dst, "port": self.port, "ports": self.ports,
            "size": self.size, "pps": self.pps, "running": !self.ended, "next": self.next,
            "accepted": self.accepted, "lost": self.lost, "losses": self.losses,
            "silence": self.silence})
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
