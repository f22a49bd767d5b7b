// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Which back end a wire has.

use std::{
    io,
    sync::mpsc::SyncSender,
    time::{Duration, Instant},
};

use serde_json::{json, Value};

use crate::{
    backend::{Backend, Deliver},
    config::WireConfig,
    event::Event,
    link::Link,
    peer::Peer,
    tap::Tap,
    trunk::Trunk,
};

/// Opens the back end that `config` names; frames it receives in threads of its own come
/// through `queue`.
pub(crate) fn open(config: &WireConfig, queue: &SyncSender<Event>) -> io::Result<Box<dyn Backend>> {
    Ok(match config {
        WireConfig::None => Box::new(Nothing),
        WireConfig::Peer(peer) => Box::new(Peer::new(peer)),
        WireConfig::PeerAndLink(peer, path) => {
            Box::new(Trunk::new(peer, Link::open(path, queue.clone())?))
        }
        WireConfig::Link(path) => Box::new(Link::open(path, queue.clone())?),
        WireConfig::Tap(name) => Box::new(Tap::open(name, queue.clone())?),
    })
}

/// No back end.
#[derive(Debug)]
struct Nothing;

impl Backend for Nothing {
    fn frame(&mut self, _frame: &[u8]) {}

    fn poll(&mut self, _now: Instant, _deliver: &mut Deliver<'_>) -> Option<Duration> {
        None
    }

    fn stats(&self) -> Value {
        json!({"kind": "none"})
    }

    fn control(&mut self, _request: Value) -> Result<Value, String> {
        Err("there is nothing on this wire".into())
    }
}
