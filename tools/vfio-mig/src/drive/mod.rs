// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Driving one device call by call: what the command `drive` does.
//!
//! * [`protocol`]: the lines that come in and go out.
//! * [`session`]: the device, its data files and the calls; no lines.
//! * [`server`]: lines to calls and back, jobs that run beside others.

pub mod protocol;
pub mod server;
pub mod session;
