// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the application of a guest counts.

use serde::Serialize;

/// What happened so far.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counters {
    /// Echo requests sent.
    pub sent: u64,
    /// Answers received, all bytes right.
    pub received: u64,
    /// Answers that never came, or not yet (UDP may lose them).
    pub missing: u64,
    /// Answers that came twice.
    pub duplicates: u64,
    /// Frames with wrong bytes, and wrong answers to control commands.
    pub corrupt: u64,
    /// Control commands.
    pub commands: u64,
    /// The first few of them.
    pub faults: Vec<String>,
}
