// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The management function of the reference NIC: everything of the contract
//! (`include/uapi/linux/dlr.h`) that is not the personality.
//!
//! ```text
//!   registers ── AdminQueue ── Rows ── two workers per data function ── Port
//!                                                                        ├─ LogEngine (DirtySink)
//!                                                                        ├─ FlowTable (FlowSink)
//!                                                                        ├─ Session
//!                                                                        └─ StatusPage
//! ```
//!
//! It knows nothing of PCI or of the way it is connected: host memory, interrupts and the
//! data functions are traits of `dlr_core`.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod command;
mod config;
mod epoch;
mod execute;
mod fault;
mod kick;
mod log;
mod management;
mod pending;
mod port;
mod queue;
mod rows;
mod state;
mod status;
mod status_page;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use config::{Config, FunctionConfig};
pub use fault::{Fault, FaultAction, RegisterBit};
pub use log::TestEntry;
pub use management::ManagementFunction;
pub use pending::RegisterFault;
pub use state::{streams::Streams, MAX_STATE_BYTES, STATE_VERSION, STATE_VERSION_MIN};
