// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the NIC takes from others, as functions of a string of bytes: [`message`]s of a vfio-user client,
//! what a guest does with the [`queues`] of its function, and the [`state`] that a source sends.
//!
//! A target panics when the NIC does, and when the function is of no use afterwards: whatever came, a
//! reset, a driver and two frames have to work. `make fuzz` looks for such strings with libFuzzer; the
//! ordinary tests run each target over the corpus, and over strings made from it, for a second or two.

#![forbid(unsafe_code)]
// The targets are tests: a panic is what they are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod function;
#[path = "../../net/src/testing/guest.rs"]
mod guest;
mod message;
mod queues;
mod state;

pub use message::message;
pub use queues::queues;
pub use state::state;
