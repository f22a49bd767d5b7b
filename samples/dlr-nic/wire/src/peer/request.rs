// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the peer can be asked for.

use std::net::Ipv4Addr;

use serde::Deserialize;

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
    /// Asks how many messages of a stream a function took from `from_ms` to `to_ms` (milliseconds since
    /// 1970). Answers `{"count": N}`.
    Arrivals {
        /// The stream.
        stream: u32,
        /// First millisecond.
        from_ms: u64,
        /// Last millisecond.
        to_ms: u64,
    },
}

fn one() -> u16 {
    1
}

fn patience() -> u64 {
    200
}
