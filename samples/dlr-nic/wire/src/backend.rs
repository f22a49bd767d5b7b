// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the switch wants of a back end.

use std::{
    fmt::Debug,
    io,
    sync::mpsc::SyncSender,
    time::{Duration, Instant},
};

use dlr_core::Delivery;
use serde_json::{json, Value};

use crate::{config::WireConfig, hub::Event, link::Link, peer::Peer, tap::Tap, trunk::Trunk};

/// The way of a frame from the back end into the segment.
pub(crate) type Deliver<'a> = dyn FnMut(&[u8]) -> Delivery + 'a;

/// The other side of the wire. All calls come from the wire's thread.
pub(crate) trait Backend: Debug + Send {
    /// Takes a frame that a data function sent and that is not for another one.
    fn frame(&mut self, frame: &[u8]);

    /// Takes a frame that came in from outside and is for this back end alone: true.
    fn inbound(&mut self, _frame: &[u8]) -> bool {
        false
    }

    /// Does what is due and hands frames to `deliver`. Returns after how long to be called
    /// again at the latest, `None` for "when a frame comes".
    fn poll(&mut self, now: Instant, deliver: &mut Deliver<'_>) -> Option<Duration>;

    /// Counters.
    fn stats(&self) -> Value;

    /// Carries out a control request other than `stats`.
    ///
    /// # Errors
    ///
    /// A text for the user: unknown request, bad arguments.
    fn control(&mut self, request: Value) -> Result<Value, String>;
}

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
