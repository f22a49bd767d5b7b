// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the guest sends to the sink: checked and counted by sender and stream.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use dlr_traffic::{Fault, Header, Tracker};
use serde::Serialize;
use serde_json::{json, Value};

use crate::time::unix_ms;

/// Jumps that are listed; the report counts all that is missing.
const LISTED: usize = 64;
/// Most streams, so that damaged headers cannot make the peer grow.
const STREAMS: usize = 256;

/// Which way messages came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Via {
    Udp,
    Tcp,
}

/// A message whose number is not the next one.
#[derive(Clone, Debug, Serialize)]
struct Jump {
    expected: u64,
    got: u64,
    at_ms: u64,
}

#[derive(Debug, Default)]
struct Account {
    tracker: Tracker,
    jumps: Vec<Jump>,
    next: u64,
    last: Option<Instant>,
    silence: Duration,
    silence_from_ms: u64,
}

/// All streams that came in.
#[derive(Debug, Default)]
pub(super) struct Sinks {
    accounts: BTreeMap<(Via, Ipv4Addr, u32), Account>,
    /// Messages whose header is damaged, so that no stream can be named.
    unknown: u64,
    last_unknown: Option<String>,
}

impl Sinks {
    /// Enters what came from `src`.
    pub(super) fn enter(
        &mut self,
        via: Via,
        src: Ipv4Addr,
        message: &Result<Header, Fault>,
        now: Instant,
    ) {
        let header = match message {
            Ok(header) => header,
            Err(Fault::Body { header, .. } | Fault::Length { header, .. }) => header,
            Err(fault) => {
                self.unknown(&fault.to_string());
                return;
            }
        };
        let key = (via, src, header.stream);
        if self.accounts.len() >= STREAMS && !self.accounts.contains_key(&key) {
            self.unknown("too many streams");
            return;
        }
        let account = self.accounts.entry(key).or_default();
        if header.seq != account.next && account.jumps.len() < LISTED {
            account.jumps.push(Jump {
                expected: account.next,
                got: header.seq,
                at_ms: unix_ms(),
            });
        }
        account.next = header.seq.saturating_add(1);
        if let Some(last) = account.last.replace(now) {
            let silence = now.saturating_duration_since(last);
            if silence > account.silence {
                account.silence = silence;
                let ms = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
                account.silence_from_ms = unix_ms().saturating_sub(ms);
            }
        }
        account.tracker.enter(message);
    }

    /// A message that cannot be assigned to a stream, or a TCP stream that lost its framing.
    pub(super) fn unknown(&mut self, why: &str) {
        self.unknown += 1;
        self.last_unknown = Some(why.to_owned());
    }

    /// The accounts as JSON.
    pub(super) fn stats(&self) -> Value {
        let streams: Vec<Value> = self
            .accounts
            .iter()
            .map(|((via, src, stream), a)| {
                json!({"via": via, "src": src, "stream": stream, "report": a.tracker.report(),
                    "jumps": a.jumps,
                    "silence": {"ms": u64::try_from(a.silence.as_millis()).unwrap_or(u64::MAX),
                        "from_ms": a.silence_from_ms}})
            })
            .collect();
        json!({"streams": streams, "unknown": self.unknown, "last_unknown": self.last_unknown})
    }
}
