// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The built-in peer: a host on the segment with everything a test needs to talk to.
//!
//! It answers ARP and ping, echoes UDP and TCP on port 7, verifies the messages of
//! [`dlr_traffic`] that come by UDP or TCP on port 9, and sends such messages itself.

mod frame;
mod generator;
mod sink;
mod stack;

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{json, Value};

use crate::{
    backend::{Backend, Deliver},
    config::PeerConfig,
};
use frame::Neighbours;
use generator::Generators;
use stack::Stack;

/// What the peer does on request, beside `stats`. On the control socket an object whose
/// `cmd` names the variant in lower case.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case", deny_unknown_fields)]
pub enum PeerRequest {
    /// Starts stream `stream` of generated messages by UDP, numbered from 0.
    Start {
        /// Number of the stream; one that has ended may be started anew.
        stream: u32,
        /// Address to send to, in a network of the peer.
        dst: Ipv4Addr,
        /// UDP port to send to.
        port: u16,
        /// Number of consecutive ports that messages go to in turn.
        #[serde(default = "one")]
        ports: u16,
        /// Length of a message in bytes, 24 to 65 507.
        size: usize,
        /// Messages a second.
        pps: u32,
        /// Ends by itself after so many messages.
        count: Option<u64>,
        /// How long a message waits for somebody to take it before it counts as lost. After a
        /// loss the next ones do not wait until one has got through: the wire does not stand
        /// still. A guest that is there but has no buffer is waited for much longer.
        #[serde(default = "patience")]
        patience_ms: u64,
    },
    /// Changes the rate of a stream.
    Rate {
        /// The stream.
        stream: u32,
        /// Messages a second; 0 pauses it.
        pps: u32,
    },
    /// Ends one stream or all. Their counters stay.
    Stop {
        /// The stream, all if not given.
        stream: Option<u32>,
    },
    /// Ends all streams and forgets all counters, what was received included.
    Forget,
}

fn one() -> u16 {
    1
}

fn patience() -> u64 {
    200
}

/// The peer as a back end.
#[derive(Debug)]
pub(crate) struct Peer {
    stack: Stack,
    neighbours: Neighbours,
    generators: Generators,
}

impl Peer {
    /// A peer with the addresses of `config`.
    pub(crate) fn new(config: &PeerConfig) -> Self {
        Self {
            stack: Stack::new(config, Instant::now()),
            neighbours: Neighbours::new(config),
            generators: Generators::default(),
        }
    }
}

impl Backend for Peer {
    fn frame(&mut self, frame: &[u8]) {
        self.neighbours.learn(frame);
        self.stack.frame(frame, Instant::now());
    }

    fn poll(&mut self, now: Instant, deliver: &mut Deliver<'_>) -> Option<Duration> {
        let stack = self.stack.poll(now, deliver);
        let generators = self.generators.poll(now, &self.neighbours, deliver);
        match (stack, generators) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn stats(&self) -> Value {
        json!({"kind": "peer", "stack": self.stack.stats(), "sinks": self.stack.sinks(),
            "streams": self.generators.stats()})
    }

    fn control(&mut self, request: Value) -> Result<Value, String> {
        let request: PeerRequest = serde_json::from_value(request).map_err(|e| e.to_string())?;
        match request {
            PeerRequest::Forget => {
                self.generators = Generators::default();
                self.stack.forget();
                Ok(Value::Null)
            }
            other => self
                .generators
                .control(&other, Instant::now())
                .map(|()| Value::Null),
        }
    }
}
