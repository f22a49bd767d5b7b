// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The built-in peer, shared with the NIC at the other end of a link: a guest that moves from one
//! NIC to the other, in another host box, keeps its connections to the peer.

use std::time::{Duration, Instant};

use dlr_core::Delivery;
use serde_json::Value;

use crate::{
    backend::{Backend, Deliver},
    config::PeerConfig,
    link::Link,
    peer::Peer,
    switch::{addresses, is_group, Mac, Route, Switch},
};

/// Where a guest may be.
const HERE: usize = 0;
const THERE: usize = 1;

/// Peer and link as one back end.
#[derive(Debug)]
pub(crate) struct Trunk {
    peer: Peer,
    address: Mac,
    link: Link,
    /// Who was seen where.
    places: Switch,
}

impl Trunk {
    /// A new peer, and this link.
    pub(crate) fn new(peer: &PeerConfig, link: Link) -> Self {
        Self {
            address: peer.mac,
            peer: Peer::new(peer),
            link,
            places: Switch::default(),
        }
    }

    /// A frame of somebody at `place`: shows it to the peer if it is for that. Whether it is for
    /// nobody else.
    fn take(&mut self, place: usize, frame: &[u8]) -> bool {
        let Some((to, from)) = addresses(frame) else {
            return true;
        };
        self.places.learn(from, place, Instant::now());
        let alone = to == self.address;
        if alone || is_group(&to) {
            self.peer.frame(frame);
        }
        alone
    }
}

impl Backend for Trunk {
    fn frame(&mut self, frame: &[u8]) {
        if !self.take(HERE, frame) {
            self.link.frame(frame);
        }
    }

    fn inbound(&mut self, frame: &[u8]) -> bool {
        self.take(THERE, frame)
    }

    fn poll(&mut self, now: Instant, deliver: &mut Deliver<'_>) -> Option<Duration> {
        let (link, places) = (&mut self.link, &mut self.places);
        self.peer.poll(now, &mut |frame| {
            let Some((to, _)) = addresses(frame) else {
                return Delivery::Dropped;
            };
            match places.route(&to, None) {
                Route::To(HERE) => deliver(frame),
                Route::To(_) => link.deliver(frame),
                // Accepted at one of the two is accepted.
                _ => match (deliver(frame), link.deliver(frame)) {
                    (Delivery::Accepted, _) | (_, Delivery::Accepted) => Delivery::Accepted,
                    (Delivery::NoBuffer, _) | (_, Delivery::NoBuffer) => Delivery::NoBuffer,
                    _ => Delivery::Dropped,
                },
            }
        })
    }

    fn stats(&self) -> Value {
        let mut stats = self.peer.stats();
        if let Some(stats) = stats.as_object_mut() {
            stats.insert("link".into(), self.link.stats());
        }
        stats
    }

    fn control(&mut self, request: Value) -> Result<Value, String> {
        self.peer.control(request)
    }
}
