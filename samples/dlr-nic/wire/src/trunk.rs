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
    switch::{addresses, is_group, Mac},
};

/// Peer and link as one back end.
#[derive(Debug)]
pub(crate) struct Trunk {
    peer: Peer,
    address: Mac,
    link: Link,
}

impl Trunk {
    /// A new peer, and this link.
    pub(crate) fn new(peer: &PeerConfig, link: Link) -> Self {
        Self {
            address: peer.mac,
            peer: Peer::new(peer),
            link,
        }
    }

    /// Whether a frame is for the peer, and whether for the peer alone.
    fn is_for_peer(&self, frame: &[u8]) -> (bool, bool) {
        addresses(frame).map_or((false, false), |(to, _)| {
            (to == self.address || is_group(&to), to == self.address)
        })
    }
}

impl Backend for Trunk {
    fn frame(&mut self, frame: &[u8]) {
        let (for_peer, alone) = self.is_for_peer(frame);
        if for_peer {
            self.peer.frame(frame);
        }
        if !alone {
            self.link.frame(frame);
        }
    }

    fn inbound(&mut self, frame: &[u8]) -> bool {
        let (for_peer, alone) = self.is_for_peer(frame);
        if for_peer {
            self.peer.frame(frame);
        }
        alone
    }

    fn poll(&mut self, now: Instant, deliver: &mut Deliver<'_>) -> Option<Duration> {
        let link = &mut self.link;
        self.peer.poll(now, &mut |frame| {
            let group = addresses(frame).is_some_and(|(to, _)| is_group(&to));
            let here = deliver(frame);
            match here {
                _ if group => {
                    link.frame(frame);
                    Delivery::Accepted
                }
                // Nobody here: the guest may be over there.
                Delivery::Dropped => link.deliver(frame),
                taken => taken,
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
