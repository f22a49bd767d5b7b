// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The test traffic that the NIC's peer, the guest and the test harness share.
//!
//! A *message* is a header and a body that follows from the header: whoever receives it
//! can say of every byte whether it is right, without having seen the sender. A *stream*
//! is a sequence of messages with a number each; [`Tracker`] says which numbers of it are
//! missing, came twice, or came damaged.
//!
//! The same message travels as one UDP datagram or as a record of a TCP stream.

#![forbid(unsafe_code)]

mod framing;
mod message;
mod tracker;

pub use framing::{Framer, FramingError};
pub use message::{build, fill, verify, Fault, Header, TooShort, HEADER_LEN};
pub use tracker::{Gap, Report, Tracker};

/// UDP and TCP port on which the peer sends back what it gets (RFC 862).
pub const ECHO_PORT: u16 = 7;
/// UDP and TCP port on which the peer verifies messages and keeps nothing (RFC 863).
pub const SINK_PORT: u16 = 9;
/// Source port of the messages that the peer generates.
pub const SOURCE_PORT: u16 = 19;
