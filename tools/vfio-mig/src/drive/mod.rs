// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Driving one device call by call: what the command `drive` does.
//!
//! * [`protocol`], [`reply`]: the lines that come in and go out.
//! * [`session`]: the device, its data files and the calls; no lines.
//! * `answer`: what the calls have in common.
//! * `stream`: reads and writes of a data file.
//! * `region`: regions of the device, and memory for its DMA.
//! * `waiting`: poll(2) and non-blocking reads of a data file.
//! * [`server`]: lines to calls and back, jobs that run beside others.

mod answer;
pub mod protocol;
mod region;
pub mod reply;
pub mod server;
pub mod session;
mod stream;
mod waiting;
