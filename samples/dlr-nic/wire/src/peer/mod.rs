// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The built-in peer: a host on the segment with everything a test needs to talk to.
//!
//! It answers ARP and ping, echoes UDP and TCP on port 7, verifies the messages of
//! [`dlr_traffic`] that come by UDP or TCP on port 9, and sends such messages itself.

mod frame;
mod generator;
mod lanes;
mod request;
mod sink;
mod stack;

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::{
    backend::{Backend, Deliver},
    config::PeerConfig,
};
use frame::Neighbours;
use generator::Generators;
pub use request::PeerRequest;
use stack::Stack;

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
            PeerRequest::Arrivals {
                stream,
                from_ms,
                to_ms,
            } => {
                let count = self.generators.arrivals(stream, from_ms, to_ms)?;
                Ok(json!({ "count": count }))
            }
            other => self
                .generators
                .control(&other, Instant::now())
                .map(|()| Value::Null),
        }
    }
}
