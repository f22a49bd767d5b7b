// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The management function of the reference NIC: everything of the contract
//! (`include/uapi/linux/dlr.h`) that is not the personality.
//!
//! ```text
//!   registers ── AdminQueue ── one worker per data function ── Port
//!                                                               ├─ LogEngine   (DirtySink)
//!                                                               ├─ FlowTable   (FlowSink)
//!                                                               ├─ Session     (save or load)
//!                                                               └─ StatusPage
//! ```
//!
//! It knows nothing of PCI or of the way it is connected: host memory, interrupts and the
//! data functions are traits of `dlr_core`.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod command;
mod epoch;
mod execute;
mod fault;
mod kick;
mod log;
mod management;
mod port;
mod queue;
mod state;
mod status;
mod status_page;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use fault::{Fault, FaultAction};
pub use log::TestEntry;
pub use management::{Config, FunctionConfig, ManagementFunction};
